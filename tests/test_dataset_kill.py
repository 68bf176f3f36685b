# A run that is killed at any moment goes on, and ends as one that was not.
from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from digit_pictures import save_two_digits
from run_samples import as_if_killed

from captum_infomask import load_run

pytestmark = pytest.mark.slow

COUNT, KILLS = 64, 8
SETTINGS = ["--model", "two_digits", "--window", "20", "--stride", "8", "--shard-size", "8"]
SETTINGS += ["--batch-size", "4", "--workers", "1"]


class Runs:
    """Starts runs in processes of their own."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("killed_runs.py")
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - for all runs
        self.process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.order(["report", "no-such-folder"])  # has imported everything when this is answered

    def said(self) -> str:
        """The end of what all runs wrote to stderr."""
        self.errors.seek(0)
        return self.errors.read()[-2000:]

    def run(self, data: Path, out: Path, *further: str, **kill: Any) -> int:
        """Run, and return os.waitpid's status."""
        words = ["run", "--data", str(data), "--out", str(out), *SETTINGS, *further]
        return self.order(words, {"folder": str(out), **kill} if kill else None)

    def order(self, words: list[str], kill: dict[str, Any] | None = None) -> int:
        """Call the command line, and return os.waitpid's status."""
        order = {"arguments": words, "kill": kill}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        # main() prints too: the answer is the last line that is JSON.
        while not (line := self.process.stdout.readline()).startswith('{"status"'):
            assert line, "the process that starts runs has ended"
        return json.loads(line)["status"]


@pytest.fixture(scope="module")
def runs():
    made = Runs()
    yield made
    made.process.stdin.close()
    made.process.stdout.close()
    made.process.wait(timeout=60)
    made.errors.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    save_two_digits(folder, COUNT)
    (folder / "00040.png").write_bytes(b"not a picture")
    return folder


@pytest.fixture(scope="module")
def unbroken(runs, data, tmp_path_factory) -> tuple[Path, float]:
    """The folder of a run that nothing stops, and the seconds it takes."""
    out = tmp_path_factory.mktemp("unbroken")
    start = time.monotonic()
    assert runs.run(data, out) == 0
    return out, time.monotonic() - start


def table_of(out: Path) -> pa.Table:
    """All rows, but for how long they took; every file must be whole."""
    for path in out.glob("part-*.parquet"):
        assert pq.read_table(path).num_rows == 8
    return load_run(out).table.drop_columns(["seconds"])


def test_killed_at_any_moment_and_nothing_lost_twice_or_different(runs, data, unbroken, tmp_path):
    (whole, seconds), rows = unbroken, []
    wanted = table_of(whole)
    random_moments = random.Random(0)
    kills, moments, out = 0, [], tmp_path / "out"
    while kills < KILLS:
        by = random_moments.choice([signal.SIGKILL] * 4 + [signal.SIGTERM])
        # From before the folder is made to the last file: a run is killed several times before it
        # ends, and a run that ended is followed by a new one.
        shards = len(list(out.glob("part-*.parquet"))) + random_moments.randrange(2)
        moment = random_moments.uniform(0, 0.3 * seconds)
        status = runs.run(data, out, shards=shards, after=moment, signal=by)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == by
            kills += 1
            moments.append(len(list(out.glob("part-*.parquet"))))
            continue
        assert status == 0, "it had ended before"
        assert table_of(out).equals(wanted)
        rows.append(len(wanted))
        out = tmp_path / f"out{kills}"
    assert runs.run(data, out) == 0, runs.said()
    assert table_of(out).equals(wanted)
    keys = table_of(out)["key"].to_pylist()
    assert len(keys) == len(set(keys)) == COUNT
    assert not list(out.glob("*.part"))
    assert len(set(moments)) > 2, f"they were killed at the same place: {moments}"


def test_a_killed_writer_leaves_no_shard_that_is_not_whole(runs, data, unbroken, tmp_path):
    wanted, out = table_of(unbroken[0]), tmp_path / "out"
    shutil.copytree(unbroken[0], out)
    # As a kill between writing and renaming leaves it.
    whole = out / "part-00003.parquet"
    (out / "part-00003.parquet.0123456789ab.part").write_bytes(whole.read_bytes()[:100])
    as_if_killed(out, 3)
    assert len(load_run(out).table) == COUNT - 8
    assert runs.run(data, out) == 0
    assert table_of(out).equals(wanted)
    assert not list(out.glob("*.part"))


def test_a_row_of_a_bad_picture_is_there_once(unbroken):
    wanted = table_of(unbroken[0])
    assert wanted["error"].null_count == COUNT - 1
    assert wanted["key"].to_pylist() == [f"{k:05d}.png" for k in range(COUNT)]


def test_a_killed_run_has_the_evidence_of_an_unbroken_one_to_the_bit(runs, data, tmp_path):
    whole, out, crop = tmp_path / "whole", tmp_path / "out", ("--view", "crop")
    assert runs.run(data, whole, *crop) == 0
    status = runs.run(data, out, *crop, shards=3, after=0.01, signal=signal.SIGKILL)
    assert os.WIFSIGNALED(status)
    assert 3 <= len(list(out.glob("part-*.parquet"))) < 8
    part = load_run(out).evidence("place")
    assert runs.run(data, out, *crop) == 0, runs.said()
    for by in ("class and place", "place", "class"):
        found, wanted = load_run(out).evidence(by), load_run(whole).evidence(by)
        assert torch.equal(found.log2_e_values, wanted.log2_e_values)
        assert torch.equal(found.bits, wanted.bits)
    assert int(part.pictures.max()) < int(load_run(out).evidence("place").pictures.max()) == 63
