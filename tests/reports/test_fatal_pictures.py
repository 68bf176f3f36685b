# Pictures that take the process or its memory with them: they become rows with an error, and the
# run goes on; what failed for another reason is scored as if nothing had been.
from __future__ import annotations

import os
import resource
import shutil
import signal
from functools import partial

import pytest
import run_samples
from run_samples import (
    SEEN,
    SIDE,
    WINDOWS,
    Failing,
    in_child,
    plain,
    rows_of,
    save_pictures,
    spoil,
    tiny,
)

from captum_infomask import MaxFraction, RunStopped, Score, load_run
from captum_infomask.dataset_run.data.data_pictures import find_pictures
from captum_infomask.dataset_run.job import ModelSource
from captum_infomask.dataset_run.planning import plan_run
from captum_infomask.dataset_run.run_settings import RunSettings, score_options
from captum_infomask.dataset_run.scoring import Scorer

pytestmark = pytest.mark.slow

# Not the default view, whose gradients PyTorch refuses in a fork of a process that has started
# threads for them, as a test before may have done.
IN_FORKS = "drop"
run_tiny = partial(run_samples.run_tiny, view=IN_FORKS)
SETTINGS = RunSettings(
    target="prediction",
    score=Score(),
    rule=MaxFraction(0.2),
    device="cpu",
    options=score_options({"view": IN_FORKS, **WINDOWS}, "auto"),
    batch_size=4,
    shard_size=4,
)


class Deadly:
    """A preprocessing that does something to the process where the first pixel is white.

    Args:
        do: What it does.
        mark: Where that happens once only, a file that says that it has.
    """

    def __init__(self, do, mark=None):
        self.do, self.mark = do, mark

    def __call__(self, image):
        is_meant = image.size == (SIDE, SIDE) and image.getpixel((0, 0)) == (255, 255, 255)
        if is_meant and (self.mark is None or not self.mark.exists()):
            if self.mark is not None:
                self.mark.touch()
            self.do()
        return SEEN(image)

    def __repr__(self):
        return "Deadly()"


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def leave():
    os._exit(0)


def no_memory():
    raise MemoryError


def no_tensors():
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory.")


@pytest.fixture
def data(tmp_path):
    """Ten pictures, of which the second and the third are white in a corner."""
    keys = save_pictures(tmp_path / "data", 10)
    for key in keys[1:3]:
        spoil(tmp_path / "data", key)
    return tmp_path / "data"


@pytest.fixture
def good(data, tmp_path):
    """What a run gives to which nothing happens."""
    return run_tiny(data, tmp_path / "good", tiny(preprocess=Deadly(print)))


def bad_rows(run, good, words):
    """Of the two; all others are as they are in a run to which nothing happens."""
    assert list(run.errors) == ["001.png", "002.png"]
    for error in run.errors.values():
        assert all(word in error for word in ("could not be decoded", "twice", words)), error
    rows, wanted = rows_of(run.table), rows_of(good.table)
    assert {key: rows[key] for key in run} == {key: wanted[key] for key in run}
    assert len(run) == 8
    assert not list(run.folder.glob(".decoding-*"))


@pytest.mark.parametrize(("do", "words"), [(kill, "(SIGKILL)"), (leave, "(exit code 0)")])
def test_a_picture_that_kills_every_decoder_is_a_bad_row(data, good, tmp_path, do, words):
    run = run_tiny(data, tmp_path / "out", tiny(preprocess=Deadly(do)), workers=2)
    bad_rows(run, good, words)


@pytest.mark.parametrize(("do", "words"), [(kill, "(SIGKILL)"), (crash, "(SIGSEGV)")])
def test_a_picture_that_kills_the_run_is_a_bad_row_when_it_goes_on(data, good, tmp_path, do, words):
    def run():
        return repr(run_tiny(data, tmp_path / "out", tiny(preprocess=Deadly(do))))

    for place in (1, 2):  # each of them kills it once
        with pytest.raises(EOFError):
            in_child(run)
        note = (tmp_path / "out" / ".decoding-0").read_text()
        assert [int(line) for line in note.split()] == list(range(1, place + 1))
    assert in_child(run) == ("DatasetRun(10 of 10 pictures, 2 of them bad)", None)
    bad_rows(load_run(tmp_path / "out"), good, words)


@pytest.mark.parametrize("decoders", [0, 2])
@pytest.mark.parametrize("do", [no_memory, no_tensors])
def test_a_picture_that_takes_too_much_memory_is_a_bad_row(data, good, tmp_path, decoders, do):
    run = run_tiny(data, tmp_path / "out", tiny(preprocess=Deadly(do)), workers=decoders)
    bad_rows(run, good, "too little memory")


@pytest.mark.parametrize("decoders", [0, 2])
@pytest.mark.parametrize("do", [no_memory, kill])
def test_a_picture_that_was_in_flight_when_something_else_failed_is_scored(
    data, good, tmp_path, decoders, do
):
    """As when a run is killed from outside: nothing of it is held against the picture."""
    mark = tmp_path / "mark"

    def run():
        model = tiny(preprocess=Deadly(do, mark))
        return repr(run_tiny(data, tmp_path / "out", model, workers=decoders))

    if (do, decoders) == (kill, 0):
        with pytest.raises(EOFError):
            in_child(run)
    assert in_child(run) == ("DatasetRun(10 of 10 pictures, 0 of them bad)", None)
    assert mark.exists()
    assert plain(load_run(tmp_path / "out").table) == plain(good.table)


def test_a_sparse_file_of_200_gb_is_a_bad_row(data, good, tmp_path):
    with (data / "005.png").open("ab") as file:
        file.truncate(200 * 2**30)

    def run():
        limit = 16 * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return run_tiny(data, tmp_path / "out", tiny(preprocess=Deadly(print))).errors

    errors, error = in_child(run)
    assert error is None
    assert list(errors) == ["005.png"]
    assert "too little memory" in errors["005.png"]
    rows, wanted = (rows_of(load_run(tmp_path / name).table) for name in ("out", "good"))
    assert {**rows, "005.png": 0} == {**wanted, "005.png": 0}


def test_a_worker_elsewhere_knows_what_ended_the_one_before(data, good, tmp_path):
    """As on Ray, which replaces an actor that died, and gives its shard to another one."""
    out = tmp_path / "out"
    model = tiny(preprocess=Deadly(kill))
    with pytest.raises(EOFError):
        in_child(lambda: run_tiny(data, out, model))
    plan = plan_run(out, find_pictures(data), ModelSource(model), SETTINGS, extend=False)

    def actor():
        return plan.job.start().run(0)

    with pytest.raises(EOFError):
        in_child(actor)
    done, error = in_child(actor)
    assert error is None
    assert (done.pictures, done.errors) == (4, 2)
    assert done.first_error.startswith("001.png: It could not be decoded: twice")


@pytest.mark.parametrize("size", [1, 4])
def test_a_picture_for_which_the_network_has_no_memory_is_a_bad_row(data, tmp_path, size):
    def do(outputs, meant):
        if meant.any():
            no_tensors()
        return outputs

    run = run_tiny(data, tmp_path / "out", tiny(Failing(do)), batch_size=size)
    assert list(run.errors) == ["001.png", "002.png"]
    assert all("can't allocate memory" in error for error in run.errors.values())
    usual = run_tiny(data, tmp_path / "usual", tiny(Failing(lambda x, _: x)), batch_size=size)
    rows, wanted = rows_of(run.table), rows_of(usual.table)
    assert {key: rows[key] for key in run} == {key: wanted[key] for key in run}
    assert len(run) == 8


def ending(do, mark, times):
    """A network that does something to the process where a picture is meant, some times at most."""

    def done(outputs, meant):
        if meant.any():
            with mark.open("a") as file:
                file.write(".")
            if mark.stat().st_size <= times:
                do()
        return outputs

    return tiny(Failing(done))


@pytest.mark.parametrize(("do", "words"), [(kill, "(SIGKILL)"), (leave, "(exit code 0)")])
def test_a_picture_that_ends_the_process_in_the_network_is_a_bad_row(data, tmp_path, do, words):
    def run():
        return repr(run_tiny(data, tmp_path / "out", ending(do, tmp_path / "mark", 1000)))

    for _ in range(2):  # it may have been an accident
        with pytest.raises(EOFError):
            in_child(run)
    assert in_child(run) == ("DatasetRun(10 of 10 pictures, 2 of them bad)", None)
    run = load_run(tmp_path / "out")
    assert list(run.errors) == ["001.png", "002.png"]
    assert all("could not be scored" in error and words in error for error in run.errors.values())
    usual = run_tiny(data, tmp_path / "usual", ending(kill, tmp_path / "mark", 0))
    rows, wanted = rows_of(run.table), rows_of(usual.table)
    assert {key: rows[key] for key in run} == {key: wanted[key] for key in run}
    assert rows["001.png"]["sha256"] == wanted["001.png"]["sha256"]
    assert not list(run.folder.glob(".scoring-*"))


def test_a_picture_that_was_in_the_network_when_runs_were_killed_is_scored(data, tmp_path):
    def run():
        return repr(run_tiny(data, tmp_path / "out", ending(kill, tmp_path / "mark", 2)))

    for _ in range(2):
        with pytest.raises(EOFError):
            in_child(run)
    assert in_child(run) == ("DatasetRun(10 of 10 pictures, 0 of them bad)", None)
    usual = run_tiny(data, tmp_path / "usual", ending(kill, tmp_path / "mark", 0))
    assert plain(load_run(tmp_path / "out").table) == plain(usual.table)


# --- errors that pass ---------------------------------------------------------------------------


@pytest.mark.parametrize("decoders", [0, 2])
def test_retry_errors_scores_bad_pictures_anew_and_no_others(data, tmp_path, monkeypatch, decoders):
    keys = sorted(path.name for path in data.iterdir())
    whole = run_tiny(data, tmp_path / "whole")
    away = {key: (data / key).read_bytes() for key in (keys[1], keys[3], keys[8])}
    for key in away:
        (data / key).write_bytes(b"")
    out = tmp_path / "out"
    before = run_tiny(data, out)
    assert list(before.errors) == list(away)
    for key in list(away)[:2]:
        (data / key).write_bytes(away[key])
    assert list(run_tiny(data, out).errors) == list(away)  # only when it is asked for

    kept = (out / "part-00001.parquet").read_bytes()
    seen, rows = [], Scorer.rows
    with monkeypatch.context() as patch:

        def noted(self, pictures, targets, names, slots):
            seen.extend(key for key, _ in names)
            return rows(self, pictures, targets, names, slots)

        patch.setattr(Scorer, "rows", noted)
        run = run_tiny(data, out, retry_errors=True, workers=decoders)
    assert seen == [keys[1], keys[3]]
    assert list(run.errors) == [keys[8]]
    assert (out / "part-00001.parquet").read_bytes() == kept
    # What was good is as it was, to the seconds it took.
    again, first = run.table.to_pylist(), before.table.to_pylist()
    assert [row["key"] for row in again] == keys
    for key, row, old in zip(keys, again, first, strict=True):
        assert (row == old) == (key not in (keys[1], keys[3])), key
    (data / keys[8]).write_bytes(away[keys[8]])
    run = run_tiny(data, out, retry_errors=True, workers=decoders)
    assert plain(run.table) == plain(whole.table)
    assert plain(load_run(out).table) == plain(whole.table)


def test_retry_errors_of_a_deadly_picture_does_not_end_the_run(data, good, tmp_path):
    run_tiny(data, tmp_path / "out", tiny(preprocess=Deadly(no_memory)))
    model = tiny(preprocess=Deadly(kill))
    run = run_tiny(data, tmp_path / "out", model, retry_errors=True)  # in this process
    bad_rows(run, good, "(SIGKILL)")


def test_errors_that_are_tried_again_count_when_they_fail_again(data, tmp_path):
    (data / "000.png").write_bytes(b"")
    (data / "009.png").write_bytes(b"")
    run_tiny(data, tmp_path / "out")
    with pytest.raises(RunStopped, match="2 pictures are bad"):
        run_tiny(data, tmp_path / "out", max_errors=1)
    with pytest.raises(RunStopped, match="2 pictures are bad"):
        run_tiny(data, tmp_path / "out", max_errors=1, retry_errors=True)
    shutil.copy(data / "001.png", data / "000.png")
    assert len(run_tiny(data, tmp_path / "out", max_errors=1, retry_errors=True)) == 9
