# A job without a network, for what the engine on Ray does with any job.
from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from captum_infomask.dataset_run.job import ShardDone


@dataclass(frozen=True)
class StubJob:
    """Shards that wait, write a file of their own, and fail or kill where that is asked.

    A shard of one that ``listens`` begins when the last but one before it was told, by a file.
    """

    folder: Path
    seconds: float = 0.0
    fails: int = -1
    kills: int = -1
    device: str = "cpu"
    listens: bool = False

    def keys(self, shard):
        return [f"{2 * shard}.png", f"{2 * shard + 1}.png"]

    @property
    def settings(self):
        return SimpleNamespace(device=self.device)

    def start(self):
        (self.folder / f"started-{os.getpid()}").touch()
        return StubWorker(self)


@dataclass
class StubWorker:
    job: StubJob

    def run(self, shard):
        if self.job.listens and shard >= 2:
            wait_for((self.job.folder / f"told-{shard - 2}").exists)
        time.sleep(self.job.seconds)
        if shard == self.job.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if shard == self.job.fails:
            raise NoSpaceError(shard, needed=17)
        (self.job.folder / f"shard-{shard}").touch()
        return ShardDone(shard, pictures=1, errors=0, seconds=self.job.seconds)


class NoSpaceError(OSError):
    """An exception that only its own pickling can rebuild."""

    def __init__(self, shard, *, needed):
        super().__init__(28, f"no space for shard {shard}")
        self.shard, self.needed = shard, needed

    def __reduce__(self):
        return _rebuilt, (self.shard, self.needed)


def _rebuilt(shard, needed):
    return NoSpaceError(shard, needed=needed)


def wait_for(reached, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > until:
            raise TimeoutError(reached)
        time.sleep(0.005)


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def processes(mark: str) -> list[int]:
    """Living processes in whose environment a mark is: those that inherited it."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            inherited = place.name.isdigit() and mark.encode() in (place / "environ").read_bytes()
        except OSError:
            continue
        if inherited and is_alive(int(place.name)):
            found.append(int(place.name))
    return found
