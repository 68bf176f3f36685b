# How runs stop, go on, and refuse: after which nothing is lost, changed, or half-written.
from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from digit_pictures import save_two_digits
from ray_jobs import wait_for
from refused import refused
from run_samples import (
    NAMES,
    SEEN,
    SIDE,
    Drawing,
    Failing,
    as_if_killed,
    in_child,
    plain,
    run_tiny,
    save_pictures,
    spoil,
    start,
    tiny,
)
from state import unchanged
from tiny import Net, randomise
from torch import nn

from captum_infomask import (
    MaxFraction,
    RunStopped,
    TopFraction,
    UniformNoise,
    grid,
    load_run,
    run_dataset,
)
from captum_infomask.cli import main
from captum_infomask.dataset_run import batches
from captum_infomask.dataset_run.manifest import read_manifest
from captum_infomask.dataset_run.page_pictures import KEPT
from captum_infomask.dataset_run.progress import Progress
from captum_infomask.models.preprocessing import Preprocess

pytestmark = pytest.mark.slow

COUNT = 11  # three shards, the last not full


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    save_pictures(made, COUNT)
    return made


# The default view takes gradients. PyTorch refuses these in a fork of a process that has started
# threads for them, as a test before may have done.
IN_FORKS = "drop"


@pytest.fixture(scope="module")
def unbroken(folder, tmp_path_factory) -> dict:
    """The rows of a run that nothing stopped."""
    return plain(run_tiny(folder, tmp_path_factory.mktemp("unbroken")).table)


def names_in(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir()) if out.exists() else []


def shards_in(out: Path) -> list[str]:
    return [name for name in names_in(out) if name.startswith("part-")]


def content_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


# --- stops, and going on ----------------------------------------------------------------------


def test_too_many_bad_pictures_stop_the_run(tmp_path):
    keys = save_pictures(tmp_path / "data", 12)
    for key in (keys[1], keys[5], keys[6]):
        (tmp_path / "data" / key).write_bytes(b"no picture")
    whole = run_tiny(tmp_path / "data", tmp_path / "whole")
    assert list(whole.errors) == [keys[1], keys[5], keys[6]]
    for most, there, count in [(0, 1, 1), (0, 1, 1), (1, 2, 3), (2, 2, 3)]:
        with pytest.raises(RunStopped, match=f"^{count} .*`max_errors` {most}") as caught:
            run_tiny(tmp_path / "data", tmp_path / "out", max_errors=most)
        assert len(shards_in(tmp_path / "out")) == there
        assert "\n" not in str(caught.value)
    run = run_tiny(tmp_path / "data", tmp_path / "out", max_errors=3)
    assert plain(run.table) == plain(whole.table)
    assert run_tiny(tmp_path / "data", tmp_path / "out", max_errors=3).is_complete
    with pytest.raises(RunStopped, match=r"1 picture is bad.*: 001\.png: Expected the image"):
        run_tiny(tmp_path / "data", tmp_path / "new", max_errors=0)


@pytest.mark.parametrize("decoders", [0, 2])
@pytest.mark.parametrize("moment", [1, 2, 3])
def test_an_interrupt_at_any_moment(folder, unbroken, tmp_path, monkeypatch, decoders, moment):
    seen = []

    def interrupt(self: Progress, count: int) -> None:
        seen.append(count)
        if len(seen) == moment:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "pictures", interrupt)
        with pytest.raises(KeyboardInterrupt) as caught:
            run_tiny(folder, tmp_path, workers=decoders)
    assert caught.tb is not None  # which holds on to frames, but
    assert multiprocessing.active_children() == []
    assert len(shards_in(tmp_path)) == moment - 1
    before = content_of(tmp_path)
    run = run_tiny(folder, tmp_path, workers=decoders)
    assert plain(run.table) == unbroken
    after = content_of(tmp_path)
    assert all(after[name] == before[name] for name in before if name.startswith("part-"))


def test_a_shard_is_seen_when_it_is_whole(folder, unbroken, tmp_path, monkeypatch):
    write, fsync = pq.write_table, os.fsync
    seen = []

    def write_half(table: pa.Table, path: Path, **settings: str) -> None:
        write(table, path, **settings)
        if path.name.startswith("keys"):
            return
        os.truncate(path, path.stat().st_size // 2)
        seen.append([name for name in shards_in(tmp_path) if not name.endswith(".part")])
        if len(seen) == 2:
            raise KeyboardInterrupt
        write(table, path, **settings)

    def sync(handle: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{handle}")).name
        seen.append(name.split(".")[0] if name.endswith(".part") else name)
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", write_half)
        with pytest.raises(KeyboardInterrupt):
            run_tiny(folder, tmp_path)
    assert seen == [[], ["part-00000.parquet"]]
    assert shards_in(tmp_path) == ["part-00000.parquet"]
    seen.clear()
    monkeypatch.setattr(os, "fsync", sync)
    assert plain(run_tiny(folder, tmp_path).table) == unbroken
    # Each file is on the disk before it is renamed, and then its new name.
    written = ["map", "keys", "manifest", "part-00001", "part-00002", "pictures", "manifest"]
    assert seen == [name for file in written for name in (file, tmp_path.name)]


def test_what_killed_writers_left_is_removed_and_nothing_else(folder, unbroken, tmp_path):
    left = ["part-00001.parquet.0123456789ab.part", "manifest.json.ba9876543210.part"]
    (tmp_path / "part-00000.begun").write_bytes(b"...")
    for name in left:
        (tmp_path / name).write_bytes(b"half")
    run = run_tiny(folder, tmp_path)
    assert plain(run.table) == unbroken
    assert not any(name.endswith((".part", ".begun")) for name in names_in(tmp_path))
    as_if_killed(tmp_path, 1)
    (tmp_path / "film.part").write_bytes(b"of the user's")
    (tmp_path / left[0]).write_bytes(b"half")
    assert load_run(tmp_path).table.num_rows == COUNT - 4  # leftovers are no shards
    assert plain(run_tiny(folder, tmp_path).table) == unbroken
    assert [name for name in names_in(tmp_path) if name.endswith(".part")] == ["film.part"]


def test_a_finished_run_is_only_read(folder, tmp_path, monkeypatch):
    first = run_tiny(folder, tmp_path)
    before = content_of(tmp_path)
    monkeypatch.setattr("captum_infomask.dataset_run.job.Worker._rows", None)
    again = run_tiny(folder, tmp_path, workers=2)
    assert plain(again.table, without=()) == plain(first.table, without=())
    after = content_of(tmp_path)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if name.startswith("part-"))


# A fork while one of PyTorch's threads begins leaves Python's list of threads without it.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in thread:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("always", [False, True])
def test_decoders_that_are_killed(folder, unbroken, tmp_path, monkeypatch, always):
    """They are replaced; where each is killed before it decodes anything, the run stops."""
    mark = tmp_path / "killed"

    def kill(_: int) -> None:
        if always or not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "_leave_interrupts", kill)
        if always:
            with pytest.raises(RunStopped, match=r"decoded \(RuntimeError: DataLoader w") as caught:
                run_tiny(folder, tmp_path / "out", workers=2)
            assert not list((tmp_path / "out").glob("part-*"))
            assert caught.tb is not None  # which holds on to frames, but
            wait_for(lambda: multiprocessing.active_children() == [])  # the last one is dying
        else:
            run_tiny(folder, tmp_path / "out", workers=2)
            assert mark.exists()
    assert plain(run_tiny(folder, tmp_path / "out", workers=2).table) == unbroken


def test_a_decoder_that_dies_during_a_forward_pass_is_no_fault_of_the_picture(tmp_path):
    keys = save_pictures(tmp_path / "data", 9)
    mark = tmp_path / "killed"

    def kill(outputs, meant):
        if meant.any() and multiprocessing.active_children() and not mark.exists():
            mark.touch()
            multiprocessing.active_children()[0].kill()
            time.sleep(0.2)
        return outputs

    spoil(tmp_path / "data", keys[-1])
    model = tiny(Failing(kill))
    run = run_tiny(tmp_path / "data", tmp_path / "out", model, batch_size=1, workers=1)
    assert mark.exists()
    assert run.errors == {}
    whole = run_tiny(tmp_path / "data", tmp_path / "whole", model, batch_size=1)
    assert plain(run.table) == plain(whole.table)


# --- what a run that goes on refuses -----------------------------------------------------------

PRIOR = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2])
BASE = {
    "view": "keep",
    "imputer": UniformNoise(0, 1),
    "n_samples": 2,
    "seed": 1,
    "prior": PRIOR,
    "rule": MaxFraction(0.2),
}


@pytest.fixture(scope="module")
def begun(folder, tmp_path_factory) -> Path:
    """A run's folder."""
    return run_tiny(folder, tmp_path_factory.mktemp("begun"), **BASE).folder


def other_weights() -> nn.Module:
    network = Net()
    with torch.no_grad():
        network.head.bias[0] += 1e-6
    return network


def other_statistics() -> nn.Module:
    network = Net()
    network.norm.running_mean[0] += 1e-6
    return network


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"view": "drop"}, ('settings.view: "keep" before, "drop" now',)),
        ({"sliding_window_shapes": (3, 8, 9)}, ("[3, 8, 8] before, [3, 8, 9] now",)),
        ({"strides": 8}, ("settings.strides: [3, 8, 8] before, 8 now",)),
        ({"seed": 2}, ("settings.seed: 1 before, 2 now",)),
        ({"batch_size": 5}, ("settings.batch_size: 4 before, 5 now",)),
        ({"shard_size": 5}, ("settings.shard_size: 4 before, 5 now",)),
        ({"perturbations_per_eval": 3}, ("settings.perturbations_per_eval: ", ", 3 now")),
        ({"temperature": 2}, ("settings.temperature: 1.0 before, 2.0 now",)),
        ({"unit": "nats"}, ('settings.unit: "bits" before, "nats" now',)),
        ({"head": "sigmoid"}, ('settings.head: "logits" before, "sigmoid" now',)),
        ({"overlap": "max"}, ('settings.overlap: "mean" before, "max" now',)),
        ({"n_samples": 3}, ("settings.n_samples: 2 before, 3 now",)),
        ({"view_engine": "batched"}, ('settings.engine: "auto" before, "batched" now',)),
        ({"prior": PRIOR + 1e-7}, ("settings.prior: [0.1", "... before, [0.1", "... now")),
        (
            {"prior": PRIOR.double() + 1e-12},
            ("settings.prior: [0.1", "... before, [0.1", "... now"),
        ),
        (
            {"imputer": UniformNoise(0, 1 + 1e-9)},
            ("UniformNoise(low=0, high=1)", "UniformNoise(low=0, high=1.000000001)"),
        ),
        ({"imputer": None}, ("settings.imputer: ", "null now")),
        ({"rule": MaxFraction(0.3)}, ("MaxFraction(fraction=0.2)", "MaxFraction(fraction=0.3)")),
        ({"rule": TopFraction(0.2)}, ("MaxFraction(fraction=0.2)", "TopFraction(fraction=0.2)")),
        ({"model": tiny(other_weights())}, ("model_sha256: ",)),
        ({"model": tiny(other_statistics())}, ("model_sha256: ",)),
        ({"model": replace(tiny(), name="huge")}, ('settings.model: "tiny" before, "huge" now',)),
        ({"categories": NAMES[::-1]}, ('categories: ["ant", "bee"', '["elk", "dog"')),
        (
            {"model": tiny(preprocess=replace(SEEN, std=(0.5,) * 3))},
            ("preprocess.std: [0.25, 0.25, 0.25] before, [0.5, 0.5, 0.5] now",),
        ),
        (
            {"model": tiny(preprocess=SEEN.__call__)},
            ("preprocess: {", "captum_infomask.models.preprocessing.Preprocess.__call__"),
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_other_settings_are_refused_and_shown(folder, begun, settings, words):
    before = content_of(begun)
    settings = {**BASE, **settings}
    model = settings.pop("model", None)
    error = refused(words, lambda: run_tiny(folder, begun, model, **settings))
    assert str(error).count(" before, ") == 1
    after = content_of(begun)
    assert before.pop(".lock") != b""
    assert after.pop(".lock") != b""
    assert after == before


@pytest.mark.parametrize(
    "same",
    [
        {"prior": PRIOR.double()},
        {"prior": PRIOR.tolist(), "temperature": 1, "head": "logits"},
        {"prior": PRIOR.numpy(), "temperature": torch.tensor(1.0)},
    ],
    ids=["double", "list", "NumPy"],
)
def test_settings_are_the_same_in_whatever_form_they_come(folder, begun, same):
    assert run_tiny(folder, begun, **{**BASE, **same}).scored == 0


def test_other_pictures_are_refused(folder, begun, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    (data / "new.png").write_bytes((data / "000.png").read_bytes())
    refused(("'new.png' is new", "--extend"), lambda: run_tiny(data, begun, **BASE))
    (data / "000.png").unlink()
    refused(("'000.png' is gone",), lambda: run_tiny(data, begun, **BASE))


def test_another_version_of_a_package_is_refused(folder, begun, monkeypatch):
    from captum_infomask.dataset_run import manifest

    now = manifest.packages()
    monkeypatch.setattr(manifest, "packages", lambda: {**now, "pillow": "1.0"})
    words = f'versions.pillow: "{now["pillow"]}" before, "1.0" now'
    refused((words,), lambda: run_tiny(folder, begun, **BASE))


def test_weights_may_move_and_may_not_change(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    times = iter("abcd")
    monkeypatch.setattr("captum_infomask.dataset_run.manifest.now", lambda: next(times))
    for name in ("a.pt", "b.pt"):
        torch.save(tiny().network.state_dict(), name)
    for name in ("a.pt", "b.pt", "a.pt"):
        manifest = run_tiny(folder, "out", weights=name).manifest
        assert manifest["settings"]["weights"] == name
        assert manifest["started"] == "a"  # when the run began, not when it went on
    torch.save(other_weights().state_dict(), "b.pt")
    words = ("model_sha256: ", 'settings.weights: "a.pt" before, "b.pt" now')
    refused(words, lambda: run_tiny(folder, "out", weights="b.pt"))


def test_data_may_move_and_arrays_are_told_apart_to_the_last_bit(folder, tmp_path, monkeypatch):
    prior = np.full(5, 0.2)
    run_tiny(folder, tmp_path / "out", prior=prior)
    other = np.nextafter(prior, 1)
    refused(("settings.prior",), lambda: run_tiny(folder, tmp_path / "out", prior=other))
    shutil.copytree(folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("captum_infomask.dataset_run.job.Worker._rows", None)
    for data in ("elsewhere", "elsewhere/*.png", f"file://{tmp_path}/elsewhere"):
        run = run_tiny(data, Path("out"), prior=prior)
        assert run.is_complete
        assert run.picture("003.png").shape == (SIDE, SIDE, 3)
        expected = data if "://" in data else str(tmp_path / data)
        assert run.manifest["data"] == expected


def test_what_is_no_manifest_is_refused(folder, tmp_path):
    for content in ("", "{", "[]", '{"format": "captum_infomask.run 0"}'):
        (tmp_path / "manifest.json").write_text(content)
        refused(("manifest.json", "run's manifest"), lambda: run_tiny(folder, tmp_path))
        refused(("manifest.json", "run's manifest"), lambda: load_run(tmp_path))


# --- one run at a time -------------------------------------------------------------------------


def wait_until(there: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def another_process(call: Callable[[], object]) -> Iterator[multiprocessing.Process]:
    """A forked process that calls."""

    def child() -> None:
        torch.set_num_threads(1)  # others have not come along
        call()

    process = multiprocessing.get_context("fork").Process(target=child)
    start(process)
    try:
        yield process
    finally:
        process.kill()
        process.join()


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_second_run_at_once_is_refused(folder, tmp_path):
    out, ready, go_on = tmp_path / "out", tmp_path / "ready", tmp_path / "go on"

    def wait(self: Progress, count: int) -> None:
        ready.touch()
        wait_until(go_on.exists)

    def hold() -> None:
        Progress.pictures = wait
        run_tiny(folder, out, view=IN_FORKS)

    with another_process(hold) as process:
        wait_until(ready.exists)
        words = ("no other run", f"process {process.pid} on ", " since ")
        refused(words, lambda: run_tiny(folder, out, view=IN_FORKS))
        assert len(load_run(out).table) == 0
        go_on.touch()
        process.join()
        assert process.exitcode == 0
    alone = run_tiny(folder, tmp_path / "alone", view=IN_FORKS)
    assert plain(load_run(out).table) == plain(alone.table)
    assert run_tiny(folder, out, view=IN_FORKS).is_complete


def test_a_killed_run_holds_nothing_though_its_decoders_live(folder, tmp_path):
    out, slowly, marks = tmp_path / "out", tmp_path / "slowly", tmp_path / "marks"
    slowly.touch()
    marks.mkdir()

    def preprocess(image):
        if image.size == (SIDE, SIDE) and slowly.exists():
            (marks / str(os.getpid())).touch()
            time.sleep(30)
        return SEEN(image)

    def run(decoders: int = 2):
        model = tiny(preprocess=preprocess)
        return run_tiny(folder, out, model, workers=decoders, view=IN_FORKS)

    with another_process(run) as process:
        wait_until(lambda: len(list(marks.iterdir())) == 2)  # a fork holds the lock as it begins
        refused((f"process {process.pid} on ",), run)
        decoders = children_of(process.pid)
        process.kill()
        process.join()
        slowly.unlink()
        alone = run_tiny(folder, tmp_path / "alone", view=IN_FORKS)
        assert plain(run(0).table) == plain(alone.table)
        assert len(decoders) == 2
        assert all(map(is_alive, decoders))
        for decoder in decoders:
            os.kill(decoder, signal.SIGKILL)


def test_a_file_system_without_locks_is_refused(folder, tmp_path, monkeypatch):
    def flock(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    refused(("`out`", "locked", "No locks"), lambda: run_tiny(folder, tmp_path))


# --- a full disk -------------------------------------------------------------------------------


def run_within(size: int, folder: Path, out: Path, **settings) -> tuple:
    """A run whose process may write no file of more than so many bytes."""

    def call() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        run_tiny(folder, out, view=IN_FORKS, **settings)

    return in_child(call)


def test_files_that_may_not_grow_stop_the_run(tmp_path):
    """The first shards are small, because they hold errors; a later one is too large."""
    keys = save_pictures(tmp_path / "data", 16)
    for key in keys[:8]:
        (tmp_path / "data" / key).write_bytes(b"")
    whole = run_tiny(tmp_path / "data", tmp_path / "whole", view=IN_FORKS)
    sizes = {path.name: path.stat().st_size for path in whole.folder.iterdir()}
    small, large = (sizes[f"part-0000{k}.parquet"] for k in (1, 2))
    assert small < large
    out = tmp_path / "out"
    done = 0
    for limit in (
        0,
        10,
        sizes["manifest.json"] - 1,
        sizes["map.safetensors"] - 1,
        large - 1,
        large,
    ):
        _, error = run_within(limit, tmp_path / "data", out)
        if limit == large:
            assert error is None or "part" in str(error) or KEPT in str(error)
            break
        assert isinstance(error, RunStopped), error
        assert "No space for" in str(error)
        assert "File too large" in str(error)
        assert not any(name.endswith(".part") for name in names_in(out))
        for name in names_in(out):
            # The manifest, as yet without the time of the end, is read whole or not at all.
            assert name in (".lock", "manifest.json") or (out / name).stat().st_size == sizes[name]
        read_manifest(out)
        assert len(shards_in(out)) >= done
        done = len(shards_in(out))
    run = run_tiny(tmp_path / "data", out, view=IN_FORKS)
    assert plain(run.table) == plain(whole.table)


def test_shared_memory_that_may_not_grow_stops_the_run(folder, unbroken, tmp_path):
    """The decoding process fails where it shares a batch; the other one must hear of it."""
    _, error = run_within(4 * 3 * SIDE**2, folder, tmp_path / "out", workers=1, batch_size=11)
    assert isinstance(error, RunStopped), error
    assert "could not be decoded (RuntimeError: " in str(error)
    assert "File too large" in str(error)
    assert "\n" not in str(error)
    run_tiny(folder, tmp_path / "out", workers=1, batch_size=11, view=IN_FORKS)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 1 MB, where that can be had."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_the_run(folder, unbroken, small_disk):
    """Space is made little by little: each run comes a bit further."""
    ballast, out = small_disk / "ballast", small_disk / "out"
    size = shutil.disk_usage(small_disk).free
    ballast.write_bytes(bytes(size))
    stops: list[str] = []
    while not shards_in(out) or not load_run(out).is_complete:
        size -= 4096
        os.truncate(ballast, size)
        stops += stop_of(lambda: run_tiny(folder, out))
        assert not any(name.endswith(".part") for name in names_in(out))
    assert len(stops) > 3
    assert all("No space left on device" in stop for stop in stops)
    assert plain(load_run(out).table) == unbroken


def stop_of(call: Callable[[], object]) -> list[str]:
    """Why a run stopped, if it did."""
    try:
        call()
    except RunStopped as stop:
        return [str(stop)]
    return []


# --- the user's own state -----------------------------------------------------------------------


@contextmanager
def nothing_changed(model: nn.Module) -> Iterator[None]:
    """Fail if the model, random states, filters, handlers or the working folder differ after."""

    def state() -> tuple:
        return os.getcwd(), list(warnings.filters), signal.getsignal(signal.SIGINT)

    before = state()
    with unchanged(model):
        yield
    assert state() == before
    assert multiprocessing.active_children() == []


@pytest.mark.filterwarnings("ignore:The default, view=")
@pytest.mark.parametrize("decoders", [0, 2])
@pytest.mark.parametrize("network", [Net, Drawing])
def test_nothing_of_the_users_is_changed(folder, tmp_path, monkeypatch, decoders, network):
    random.seed(1)
    np.random.seed(1)
    model = tiny(network())
    model.network.train()  # after the classifier has put it into evaluation mode
    assert any(module.training for module in model.network.modules())
    with nothing_changed(model.network):
        run_tiny(folder, tmp_path / "out", model, workers=decoders)
        run_tiny(folder, tmp_path / "out", model, workers=decoders)
    with nothing_changed(model.network), pytest.raises(AssertionError):
        run_tiny(folder, tmp_path / "out", model, workers=decoders, seed=1)
    (tmp_path / "bad.png").write_bytes(b"")
    with nothing_changed(model.network), pytest.raises(RunStopped):
        run_tiny(tmp_path / "bad.png", tmp_path / "stop", model, workers=decoders, max_errors=0)
    monkeypatch.setattr(Progress, "shard", interrupt)
    with nothing_changed(model.network), pytest.raises(KeyboardInterrupt):
        run_tiny(folder, tmp_path / "int", model, workers=decoders)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_nothing_of_a_plain_module_is_changed(folder, tmp_path):
    network = randomise(Net()).train()
    quarters = {"sliding_window_shapes": (3, 112, 112), "strides": (3, 112, 112)}
    with nothing_changed(network):
        run = run_tiny(
            folder / "000.png", tmp_path / "out", network, transform=Preprocess(), **quarters
        )
    assert run.categories == ("0", "1", "2", "3", "4")
    assert run.picture("000.png").shape == (224, 224, 3)


MODULE = """
import torch
from torch import nn
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.preprocessing import Preprocess

def made():
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    return Classifier("drawn", network, ("a", "b"), Preprocess(8, 8))
"""


def test_a_network_may_be_made_of_random_numbers(folder, tmp_path, monkeypatch):
    (tmp_path / "network_of_a_run.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4)}
    with nothing_changed(Net()):
        run = run_tiny(folder, tmp_path / "out", "network_of_a_run:made", **windows)
    assert run.manifest["settings"]["weights"] == "network_of_a_run:made"


class Noted(Net):
    """A network whose state holds something else than tensors."""

    note: object = ("a note", None, torch.float16)

    def get_extra_state(self):
        return self.note

    def set_extra_state(self, state):
        self.note = state


def test_all_that_a_network_holds_tells_it_from_others(folder, tmp_path):
    network = Noted()
    run_tiny(folder, tmp_path, tiny(network))
    network.note = ("another note", None, torch.float16)
    refused(("model_sha256",), lambda: run_tiny(folder, tmp_path, tiny(network)))
    network.note = object()
    refused(("`model`", "object", "address"), lambda: run_tiny(folder, tmp_path, tiny(network)))


# --- bad arguments ------------------------------------------------------------------------------


class Unmarked:
    """Something that cannot be told from others by what it says of itself."""

    def prepare(self, inputs):
        return UniformNoise(0, 1).prepare(inputs)


def no_preprocessing(image):
    raise ValueError("too grey")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data": "no such folder"}, ("`data`", "no such folder")),
        ({"data": None}, ("`data`", "None")),
        ({"model": "no_such_network"}, ("`model`", "no_such_network")),
        ({"model": "no_such_module:made"}, ("`model`", "no_such_module")),
        ({"model": 3}, ("`model`", "3")),
        ({"model": tiny(nn.Flatten())}, ("`model`", "as many outputs as categories, 5", "768")),
        ({"model": tiny(nn.Identity())}, ("`model`", "(N, M)", "(1, 3, 16, 16)")),
        ({"model": tiny(nn.Linear(7, 5))}, ("network of `model`", "RuntimeError: mat1")),
        ({"model": tiny(preprocess=no_preprocessing)}, ("preprocessing of `model`", "too grey")),
        (
            {"model": tiny(preprocess=lambda image: SEEN(image)[0])},
            ("preprocessing", "(3, 16, 16)"),
        ),
        ({"weights": "no such file"}, ("weights", "no such file")),
        ({"categories": ["a", "b"]}, ("`categories`", "5", "2")),
        ({"target": "label"}, ("000.png", "sub-folder")),
        ({"target": "column"}, ("`target`", "column")),
        ({"target": 3}, ("`target`", "3")),
        ({"engine": "lokal"}, ("`engine`", "'lokal'", "'local'")),
        ({"address": "auto"}, ("`address`", "'auto'", "engine='local'")),
        ({"workers": -1}, ("`workers`", "-1")),
        ({"workers": 1.5}, ("`workers`", "1.5")),
        ({"workers": 0, "engine": "ray"}, ("`workers`", "0")),
        ({"head": "logit"}, ("`head`", "'logit'", "'logits'")),
        ({"prior": [0.5, 0.5]}, ("`prior`",)),
        ({"trained_with": "mse"}, ("`trained_with`", "'mse'")),
        ({"temperature": 0}, ("`temperature`", "0")),
        ({"unit": "bit"}, ("`unit`", "'bit'", "'bits'")),
        ({"rule": 20}, ("`rule`", "20")),
        ({"view_engine": "fast"}, ("`view_engine`", "'fast'")),
        ({"batch_size": 0}, ("`batch_size`", "0")),
        ({"shard_size": 0}, ("`shard_size`", "0")),
        ({"max_errors": -1}, ("`max_errors`", "-1")),
        ({"max_errors": 0.5}, ("`max_errors`", "0.5")),
        ({"device": "tpu"}, ("`device`", "'tpu'")),
        ({"device": 3.5}, ("`device`", "3.5")),
        ({"device": True}, ("`device`", "True")),
        ({"vew": "keep"}, ("`options`", "'vew'", "Did you mean 'view'?")),
        ({"view": "kep"}, ("`view`", "'kep'", "'keep'")),
        ({"sliding_window_shapes": (3, 99, 8)}, ("`sliding_window_shapes`", "99")),
        ({"strides": (3, 9, 9)}, ("`strides`", "9")),
        ({"seed": -1}, ("`seed`", "-1")),
        ({"perturbations_per_eval": 0}, ("`perturbations_per_eval`", "0")),
        ({"overlap": "median"}, ("`overlap`", "'median'")),
        ({"n_samples": 0}, ("`n_samples`", "0")),
        ({"crop_size": "natural"}, ("`crop_size`", "natural")),
        ({"imputer": 0.5, "view": "keep"}, ("`imputer`", "0.5")),
        ({"imputer": Unmarked(), "view": "keep"}, ("`imputer`", "Unmarked", "manifest")),
        (
            {"regions": grid(torch.zeros(1, 3, 8, 8), 2, 2), "sliding_window_shapes": None}
            | {"strides": None},
            ("`regions`", "(3, 16, 16)"),
        ),
        ({"target_class": 3}, ("`options`", "'target_class'")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused_before_anything_is_made(folder, tmp_path, settings, words):
    settings = {"data": folder, **settings}
    data, model = settings.pop("data"), settings.pop("model", None)
    refused(words, lambda: run_tiny(data, tmp_path / "deep" / "out", model, **settings))
    assert names_in(tmp_path) == []


def test_what_out_may_not_be(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("of the user's")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("of the user's")
    (tmp_path / "download").mkdir()
    (tmp_path / "download" / "film.part").write_text("of the user's")
    for out, words in [
        (tmp_path / "file", ("is a file",)),
        (tmp_path / "file" / "out", ("`out`", "file is a file")),
        (tmp_path / "full", ("new or empty folder", "'notes.txt'")),
        (tmp_path / "download", ("new or empty folder", "'film.part'")),
        (tmp_path / ("l" * 256), ("`out`", "File name too long")),
        ("s3://bucket/out", ("of this machine", "s3://bucket/out")),
        ("", ("`out`", "''")),
        (None, ("`out`", "None")),
        (3, ("`out`", "3")),
    ]:
        refused(words, lambda out=out: run_tiny(folder, out))
    assert names_in(tmp_path) == ["download", "file", "full"]
    assert names_in(tmp_path / "full") == ["notes.txt"]
    assert names_in(tmp_path / "download") == ["film.part"]
    for out, words in [
        (tmp_path / "full", ("no manifest.json",)),
        (tmp_path / "file", ("run's folder", "is a file")),
        (tmp_path / "none", ("run's folder", "does not exist")),
        (None, ("`out`", "None")),
        ("", ("`out`", "''")),
    ]:
        refused(words, lambda out=out: load_run(out))


def test_results_do_not_become_data(folder, tmp_path):
    table = pa.table({"image": [path.read_bytes() for path in sorted(folder.iterdir())]})
    pq.write_table(table, tmp_path / "a.parquet")
    for out in (tmp_path / "out", tmp_path / "deep" / "out"):
        refused(("`out`", "outside", ".parquet"), lambda out=out: run_tiny(tmp_path, out))
    assert names_in(tmp_path) == ["a.parquet"]
    inside = folder / "out"  # of a folder of pictures
    try:
        for _ in range(2):
            assert len(run_tiny(folder, inside)) == COUNT
    finally:
        shutil.rmtree(inside)


# --- the command line ---------------------------------------------------------------------------

WORDS = ["--model", "two_digits", "--window", "20", "--stride", "20", "--shard-size", "4"]


def command(*words: object) -> list[str]:
    return ["run", *map(str, words), *WORDS, "--workers", "0", "--device", "cpu"]


@pytest.fixture
def digits(tmp_path) -> Path:
    save_two_digits(tmp_path / "digits", 6)
    return tmp_path / "digits"


def test_the_command_runs_goes_on_and_reports(digits, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = command("--data", "digits", "--out", "out")
    (digits / "00001.png").write_bytes(b"no picture")
    with monkeypatch.context() as patch:
        patch.setattr(sys.stderr, "isatty", lambda: True)
        assert main([*words, "--max-errors", "0"]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    bar, last, _ = printed.err.split("\n")
    assert "4/6" in bar.split("\r")[-1]
    assert last.startswith("captum-infomask: stopped: 1 picture is bad, more than `max_errors` 0.")
    assert len(shards_in(Path("out"))) == 1

    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "5 pictures scored, 1 bad; 2 of them by this call: out",
        "summary: captum-infomask report out",
    ]
    assert printed.err.startswith("  00001.png: Expected the image to be a pict")  # and no bar
    assert printed.err.count("\n") == 1
    run = load_run("out")
    assert run.manifest["settings"]["sliding_window_shapes"] == [1, 20, 20]
    same = run_dataset(
        digits,
        "two_digits",
        tmp_path / "same",
        sliding_window_shapes=(1, 20, 20),
        strides=(1, 20, 20),
        workers=0,
        shard_size=4,
        device="cpu",
    )
    assert plain(run.table) == plain(same.table)

    for out in ("out/report.html", "page.html"):
        assert main(["report", "out", *(["--out", out] if out == "page.html" else [])]) == 0
        printed = capsys.readouterr()
        assert printed.out == f"report: {out}\n"
        assert printed.err == ""
        assert "00001.png" in Path(out).read_text(encoding="utf-8")
    assert main(words) == 0  # the page does not stand in the way


def test_the_command_ends_with_codes_that_say_why(digits, tmp_path, capsys, monkeypatch):
    words = command("--data", digits, "--out", tmp_path / "out")

    def ends(code: int, *said: str, words: list[str] = words) -> None:
        assert main(words) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        line = printed.err.splitlines()[-1]
        assert [word for word in said if word not in line] == []

    ends(2, "error: Expected `view`", "'kep'", words=[*words, "--view", "kep"])
    ends(2, "error: Expected `stride`", "window's side of 20", words=[*words, "--stride", "21"])
    assert not (tmp_path / "out").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "shard", interrupt)
        ends(130, "captum-infomask: interrupted")
    assert main(words) == 0
    capsys.readouterr()
    ends(2, "settings.seed: 0 before, 1 now", words=[*words, "--seed", "1"])
    ends(2, "error: Expected a run's folder", words=["report", str(digits)])
    (tmp_path / "bad.png").write_bytes(b"")
    assert main(command("--data", tmp_path / "bad.png", "--out", tmp_path / "bad")) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("0 pictures scored, 1 bad: ")
    assert printed.err.splitlines()[-1] == "captum-infomask: every picture is bad"
    assert main(["report", str(tmp_path / "bad")]) == 0


def test_the_command_takes_a_network_with_a_preprocessing_of_its_own(
    folder, tmp_path, capsys, monkeypatch
):
    code = MODULE + "\n\ndef own():\n    from dataclasses import replace\n"
    code += "    return replace(made(), preprocess=lambda image: Preprocess(8, 8)(image))\n"
    (tmp_path / "own_network_of_a_run.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    words = ["run", "--data", str(folder), "--out", "out", "--workers", "0", "--window", "4"]
    assert main([*words, "--model", "own_network_of_a_run:own"]) == 0
    run = load_run("out")
    assert run.manifest["settings"]["sliding_window_shapes"] == [3, 4, 4]
    assert run.picture("000.png") is None
    assert main(["report", "out"]) == 0
