# Runs on Ray, in a process of their own: `python ray_runs.py FOLDER MARK [ADDRESS]`.
from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import ray
import ray.data
from digit_pictures import save_two_digits
from ray_jobs import StubJob, is_alive, processes, wait_for
from run_samples import as_if_killed

from captum_infomask import RunStopped, run_dataset
from captum_infomask.dataset_run import on_ray
from captum_infomask.dataset_run.job import ShardDone
from captum_infomask.dataset_run.on_ray import run_on_ray
from captum_infomask.dataset_run.ray_session import _QUIET

MODULE = """
import os
from pathlib import Path

from captum_infomask.models.loading import load_classifier


def network():
    Path(os.environ["LOADED"], str(os.getpid())).touch()
    return load_classifier("two_digits")
"""


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    folder = Path(sys.argv[1])
    # A module that no worker finds by itself, and pictures by a path that starts here.
    (folder / "modules").mkdir(exist_ok=True)
    (folder / "modules" / "only_here.py").write_text(MODULE)
    sys.path.insert(0, str(folder / "modules"))
    os.environ["LOADED"] = str(folder / "loaded")
    (folder / "loaded").mkdir(exist_ok=True)
    os.chdir(folder)
    if len(sys.argv) == 4:
        run("shared", "ray", address=sys.argv[3], workers=1)
        return
    save_two_digits("pictures", 60)
    run("local", "local", workers=0)
    found = {"killed": killed_worker(folder)}
    found["interrupted"] = interrupted(folder)
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    found["moved"], found["deadly"] = moved(folder)
    found["users"] = {
        "initialised": ray.is_initialized(),
        "bars": ray.data.DataContext.get_current().enable_progress_bars,
        "answers": ray.get(ray.put(5)),
    }
    ray.shutdown()
    (folder / "found.json").write_text(json.dumps(found))


def run(out: str, engine: str, **options: object) -> None:
    run_dataset(
        "pictures", "only_here:network", out, engine=engine, batch_size=4, shard_size=4, **options
    )


@contextmanager
def beside(do: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Do something in another thread meanwhile; what it raises is raised at the end."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(do, *arguments)
        yield
        doing.result()


def killed_worker(folder: Path) -> dict[str, object]:
    """A Ray that starts by itself, one of whose two workers is killed on the way."""
    with beside(kill_a_worker, folder):
        run("ray", "ray", workers=2)
    return {"loaded": len(workers(folder)), **left()}


def kill_a_worker(folder: Path) -> None:
    """Wait for the first shard, then kill a worker that has loaded the network."""
    wait_for(lambda: any((folder / "ray").glob("part-*.parquet")))
    os.kill(min(workers(folder)), signal.SIGKILL)


def workers(folder: Path) -> set[int]:
    """Processes that have loaded the network, without this one."""
    return {int(file.name) for file in (folder / "loaded").iterdir()} - {os.getpid()}


def interrupted(folder: Path) -> dict[str, object]:
    """A Ray that starts by itself, and Ctrl-C, which reaches every process of a terminal."""
    stubs = folder / "interrupted"
    stubs.mkdir()
    running: list[int] = []
    caught = False
    with beside(interrupt, stubs, running):
        try:
            run_on_ray(StubJob(stubs, 0.2), range(100), address=None, workers=1, done=id)
        except KeyboardInterrupt:
            caught = True
    return {"caught": caught, "running": len(running), **left()}


def interrupt(stubs: Path, running: list[int]) -> None:
    wait_for(lambda: any(stubs.glob("shard-*")))
    running += processes(sys.argv[2])
    os.killpg(0, signal.SIGINT)


def left() -> dict[str, object]:
    """What a Ray that started by itself has left; nothing, after some seconds."""
    until = time.monotonic() + 120
    while len(found := processes(sys.argv[2])) > 1 and time.monotonic() < until:
        time.sleep(0.1)
    return {
        "processes": len(found) - 1,
        "initialised": ray.is_initialized(),
        "environment": [name for name in _QUIET if name in os.environ],
        "sigterm": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
    }


def moved(folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Begun locally, gone on with by another process on Ray, which is killed, and finished locally.

    The other process takes its time to start; meanwhile, here another run has to stop.
    """
    shared = folder / "shared"
    shutil.copytree(folder / "local", shared)
    as_if_killed(shared, *range(3, 15))
    parts: list[Path] = []
    with beside(go_on_elsewhere, shared, parts):
        stopped = deadly(folder)
    run("shared", "local", workers=0)
    return {"parts": len(parts)}, stopped


def go_on_elsewhere(shared: Path, parts: list[Path]) -> None:
    """Kill a process that goes on with a run on this Ray, after its first shard."""
    address = ray.get_runtime_context().gcs_address
    other = subprocess.Popen([sys.executable, *sys.argv, address])
    wait_for(lambda: len(list(shared.glob("part-*.parquet"))) > 3)
    other.kill()
    other.wait()
    parts += shared.glob("part-*.parquet")


def deadly(folder: Path) -> dict[str, object]:
    """A shard that kills every worker, on the user's Ray."""
    stubs = folder / "deadly"
    stubs.mkdir()
    done: list[int] = []

    def tell(found: ShardDone) -> None:
        done.append(found.shard)
        (stubs / f"told-{found.shard}").touch()

    on_ray._MOST_BEGINNINGS = 1
    try:
        run_on_ray(
            StubJob(stubs, 0.4, kills=3, listens=True),
            range(20),
            address=None,
            workers=1,
            done=tell,
        )
    except RunStopped as error:
        words = str(error)
    for shard in range(20):  # what a worker had been given, it may end, and listens for
        (stubs / f"told-{shard}").touch()
    started = [int(file.name.partition("-")[2]) for file in stubs.glob("started-*")]
    wait_for(lambda: not any(map(is_alive, started)))
    return {
        "words": words,
        "done": done,
        "begun": [file.name for file in stubs.glob("*.begun")],
        "written": len(list(stubs.glob("shard-*"))),
    }


if __name__ == "__main__":
    main()
