# Runs that go on: nothing else than what they began with is mixed into them, and what changed is
# named.
from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from refused import refused
from run_samples import (
    NAMES,
    SEEN,
    SIDE,
    WINDOWS,
    as_if_killed,
    plain,
    rows_of,
    run_tiny,
    save_pictures,
    tiny,
)
from tiny import Net
from torch import nn

from captum_infomask import Constant, MaxFraction, Score, load_run
from captum_infomask.cli import main
from captum_infomask.dataset_run.data.data_pictures import find_pictures
from captum_infomask.dataset_run.job import ModelSource
from captum_infomask.dataset_run.manifest import read_manifest, write_manifest
from captum_infomask.dataset_run.planning import plan_run
from captum_infomask.dataset_run.run_settings import RunSettings, score_options
from captum_infomask.dataset_run.scoring import Probe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pictures")
    save_pictures(made, 10)
    return made


@pytest.fixture(scope="module")
def ended(folder, tmp_path_factory):
    """A run of three shards that has ended."""
    return run_tiny(folder, tmp_path_factory.mktemp("ended")).folder


@pytest.fixture
def begun(ended, tmp_path):
    """A copy of it, as if killed after its first shard."""
    return as_if_killed(shutil.copytree(ended, tmp_path / "begun"), 1, 2)


@pytest.fixture
def data(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "data")


# --- labels ------------------------------------------------------------------------------------


def save_labelled(folder, path, labels):
    path.mkdir(parents=True, exist_ok=True)
    pictures = [file.read_bytes() for file in sorted(folder.iterdir())][: len(labels)]
    keys = [f"{k}.png" for k in range(len(labels))]
    pq.write_table(pa.table({"image": pictures, "key": keys, "label": labels}), path / "a.parquet")
    return path


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ([0] * 10, [0] * 9 + [1], ("'9.png' has another one", "(class 0 before, class 1 now)")),
        ([0] * 10, [1] * 10, ("10 ('0.png' first) have another one", "class 0 before")),
        ([0] * 9 + [7], [0] * 9 + [8], ("(7 before, 8 now)".replace("7", "'7'"),)),
        ([0] * 10, [0] * 9 + [None], ("(class 0 before, None now)",)),
    ],
    ids=["one", "all", "no class", "none"],
)
def test_a_run_whose_labels_changed_does_not_go_on(folder, tmp_path, before, now, words):
    out = tmp_path / "out"
    run_tiny(save_labelled(folder, tmp_path / "data", before), out, target="label")
    words = [word.replace(", 8 now", ", '8' now") for word in words]
    save_labelled(folder, tmp_path / "data", now)
    as_if_killed(out, 2)
    refused(tuple(words), lambda: run_tiny(tmp_path / "data", out, target="label"))


def test_a_folder_of_labels_that_is_renamed_does_not_go_on(tmp_path):
    keys = save_pictures(tmp_path / "data", 6, folders=NAMES[:2])
    run_tiny(tmp_path / "data", tmp_path / "out", target="label")
    as_if_killed(tmp_path / "out", 1)
    (tmp_path / "data" / "ant").rename(tmp_path / "data" / "cat")
    words = (f"3 ({keys[0]!r} first) are gone",)
    refused(words, lambda: run_tiny(tmp_path / "data", tmp_path / "out", target="label"))


# --- the network -------------------------------------------------------------------------------


class Outside(nn.Module):
    """A network with a part of each kind that no state dict holds."""

    def __init__(self, **others):
        super().__init__()
        self.net = Net()
        self.register_buffer("scale", torch.tensor(others.get("buffer", 1.0)), persistent=False)
        self.factor = others.get("attribute", 1.0)
        self.bend = nn.LeakyReLU(others.get("activation", 0.5))
        self.powers = others.get("code", lambda x: x)

    def forward(self, x):
        return self.powers(self.bend(self.net(x) * self.scale * self.factor))


@pytest.mark.parametrize(
    "changed",
    [{"buffer": 2.0}, {"attribute": 2.0}, {"activation": 0.1}, {"code": lambda x: x**3}],
    ids=lambda changed: next(iter(changed)),
)
def test_a_network_that_differs_outside_of_its_state_dict_is_refused(folder, tmp_path, changed):
    before, now = Outside(), Outside(**changed)
    assert before.state_dict().keys() == now.state_dict().keys()
    run_tiny(folder, tmp_path, tiny(before))
    as_if_killed(tmp_path, 2)
    words = ("model_sha256",) if "buffer" in changed else ("the network's answers on a picture",)
    refused(words, lambda: run_tiny(folder, tmp_path, tiny(now)))
    assert run_tiny(folder, tmp_path, tiny(Outside())).is_complete


def test_a_network_that_is_another_one_where_it_is_loaded_is_refused(folder, tmp_path):
    """As on another machine, whose module of the same name has other code."""
    settings = RunSettings(
        target="prediction",
        score=Score(),
        rule=MaxFraction(0.2),
        options=score_options(WINDOWS, "auto"),
        batch_size=4,
        shard_size=4,
        device="cpu",
    )
    here, there = (ModelSource(tiny(Outside(**changed))) for changed in ({}, {"attribute": 2.0}))
    job = plan_run(tmp_path / "out", find_pictures(folder), here, settings, extend=False).job
    words = (
        "`model`",
        "the same wherever it is loaded",
        "the network's answers",
        "another process",
    )
    refused(words, lambda: replace(job, source=there).start())
    assert job.start() is not None


def test_a_preprocessing_of_the_same_name_that_does_something_else_is_refused(folder, tmp_path):
    def made(power):
        return lambda image: SEEN(image) ** power

    run_tiny(folder, tmp_path, tiny(preprocess=made(1)))
    words = ("the network's answers on a picture",)
    refused(words, lambda: run_tiny(folder, tmp_path, tiny(preprocess=made(3))))


class Fill:
    """An imputer that says the same of itself, whatever it fills with."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return "Fill()"

    def prepare(self, inputs):
        return Constant(self.value).prepare(inputs)


def test_an_imputer_of_the_same_name_that_fills_otherwise_is_refused(folder, tmp_path):
    run_tiny(folder, tmp_path, view="keep", imputer=Fill(0.0))
    words = ("the view's scores on a picture",)
    refused(words, lambda: run_tiny(folder, tmp_path, view="keep", imputer=Fill(2.0)))
    assert run_tiny(folder, tmp_path, view="keep", imputer=Fill(0.0)).is_complete


def test_answers_may_differ_as_other_processors_round(folder, begun):
    def with_answers(factor):
        manifest = read_manifest(begun)
        probe = Probe.of(manifest["probe"])
        answers = [[factor * number for number in line] for line in probe.answers]
        words = Probe(answers, probe.scores, probe.tolerance).words()
        write_manifest(begun, {**manifest, "probe": words})

    with_answers(1 + 1e-3)
    refused(("the network's answers",), lambda: run_tiny(folder, begun))
    with_answers((1 + 1e-5) / (1 + 1e-3))
    assert run_tiny(folder, begun).is_complete


def test_the_manifest_says_what_is_compared(ended):
    manifest = json.loads((ended / "manifest.json").read_text())
    words = manifest["compared"]["always"]
    for part in ("parameters and buffers", "answer on three pictures", "key and label"):
        assert part in words
    assert "bytes of every picture" in manifest["compared"]["with verify"]
    assert manifest["contents_verified"] is None
    assert len(manifest["probe"]["answers"]) == 3
    assert len(manifest["probe"]["scores"].split()) == 1 + 4  # the whole, and four windows


def test_a_manifest_of_another_format_says_so(folder, begun):
    manifest = read_manifest(begun)
    (begun / "manifest.json").write_text(
        json.dumps({**manifest, "format": "captum_infomask.run 1"})
    )
    words = ("'captum_infomask.run 2'", "'captum_infomask.run 1'", "Another version")
    refused(words, lambda: run_tiny(folder, begun))
    refused(words, lambda: load_run(begun))


# --- contents of pictures ----------------------------------------------------------------------


def test_pictures_whose_content_changed_are_named_by_verify(folder, data, begun):
    untouched = plain(load_run(begun).table)
    (data / "001.png").write_bytes((data / "007.png").read_bytes())
    (data / "003.png").unlink()
    (data / "003.png").symlink_to("nowhere")
    words = ("'001.png' has other bytes", "1 more are not as they were")
    refused(words, lambda: run_tiny(data, begun, verify=True))
    assert plain(load_run(begun).table) == untouched
    # Without it the row still says of which bytes it is.
    run = run_tiny(data, begun)
    before = hashlib.sha256((folder / "001.png").read_bytes()).hexdigest()
    assert rows_of(run.table)["001.png"]["sha256"] == before
    assert read_manifest(begun)["contents_verified"] is None


def test_verify_passes_what_is_as_it_was_and_notes_the_time(folder, begun, ended):
    run = run_tiny(folder, begun, verify=True)
    assert plain(run.table) == plain(load_run(ended).table)
    verified = run.manifest["contents_verified"]
    assert verified >= run.manifest["started"]
    assert run_tiny(folder, begun).manifest["contents_verified"] == verified


def test_verify_passes_a_picture_that_could_not_be_read_then(data, tmp_path):
    (data / "002.png").unlink()
    (data / "002.png").symlink_to("nowhere")
    run_tiny(data, tmp_path / "out")
    assert run_tiny(data, tmp_path / "out", verify=True).is_complete


# --- more pictures -----------------------------------------------------------------------------


def test_a_picture_that_is_new_is_named(data, begun):
    shutil.copy(data / "003.png", data / "0015.png")
    refused(("'0015.png' is new", "extend=True (--extend)"), lambda: run_tiny(data, begun))
    shutil.copy(data / "003.png", data / "new.png")
    refused(("2 ('0015.png' first) are new",), lambda: run_tiny(data, begun))
    (data / "000.png").unlink()
    refused(("'000.png' is gone",), lambda: run_tiny(data, begun, extend=True))


def test_names_with_new_lines_are_told_apart(folder, tmp_path):
    for name, keys in (("a", ("a\nb.png", "c.png")), ("b", ("a.png", "b\nc.png"))):
        (tmp_path / name).mkdir()
        for key in keys:
            shutil.copy(folder / "000.png", tmp_path / name / key)
    run_tiny(tmp_path / "a", tmp_path / "out")
    refused(("are gone",), lambda: run_tiny(tmp_path / "b", tmp_path / "out"))


@pytest.mark.parametrize("killed", [False, True])
def test_extend_scores_only_what_is_new(data, folder, ended, tmp_path, monkeypatch, killed):
    out = shutil.copytree(ended, tmp_path / "out")
    if killed:
        as_if_killed(out, 1)
    save_pictures(tmp_path / "more", 12, seed=7)
    for k in (0, 5, 11):  # among the others, before and behind them
        shutil.copy(tmp_path / "more" / f"{k:03}.png", data / f"{k:03}b.png")
    before = {path.name: path.read_bytes() for path in out.glob("part-*")}
    seen = []
    score = "captum_infomask.dataset_run.scoring.Scorer.rows"
    original = __import__("captum_infomask.dataset_run.scoring", fromlist=["x"]).Scorer.rows

    def rows(self, pictures, targets, names, slots):
        seen.extend(key for key, _ in names)
        return original(self, pictures, targets, names, slots)

    with monkeypatch.context() as patch:
        patch.setattr(score, rows)
        run = run_tiny(data, out, extend=True)
    new = ["000b.png", "005b.png", "011b.png"]
    assert seen == [f"{k:03}.png" for k in range(4, 8) if killed] + new
    after = {path.name: path.read_bytes() for path in out.glob("part-*")}
    assert all(after[name] == before[name] for name in before)
    assert repr(run) == "DatasetRun(13 of 13 pictures, 0 of them bad)"
    assert list(run) == [f"{k:03}.png" for k in range(10)] + new

    # Each row is that of a run that had all pictures from the start.
    whole = rows_of(run_tiny(data, tmp_path / "whole").table)
    assert rows_of(run.table) == whole
    # And the run goes on as it is: killed, extended once more, and read.
    as_if_killed(out, 3)
    assert rows_of(run_tiny(data, out).table) == whole
    shutil.copy(tmp_path / "more" / "003.png", data / "0000.png")
    assert len(run_tiny(data, out, extend=True)) == 14
    names = sorted(path.name for path in out.glob("part-*"))
    assert names == [f"part-{k:05}.parquet" for k in range(5)]
    assert load_run(out).picture("0000.png").shape == (SIDE, SIDE, 3)
    refused(("seed: 0 before, 1 now",), lambda: run_tiny(data, out, extend=True, seed=1))


def test_extend_with_labels_keeps_the_classes(tmp_path):
    keys = save_pictures(tmp_path / "data", 4, folders=NAMES[2:4])
    run_tiny(tmp_path / "data", tmp_path / "out", target="label")
    new = save_pictures(tmp_path / "data", 4, seed=1, folders=NAMES[:2])
    run = run_tiny(tmp_path / "data", tmp_path / "out", target="label", extend=True)
    assert run.table["key"].to_pylist() == [*keys, *new]
    assert run.table["target"].to_pylist() == [2, 2, 3, 3, 0, 0, 1, 1]


@pytest.mark.slow
def test_the_command_line_extends_verifies_and_retries(folder, data, tmp_path, capsys):
    words = ["run", "--model", "two_digits", "--window", "28", "--workers", "0", "--device", "cpu"]
    words += ["--data", str(data), "--out", str(tmp_path / "out")]
    (data / "bad.png").write_bytes(b"")
    assert main(words) == 0
    shutil.copy(data / "003.png", data / "0015.png")
    assert main(words) == 2
    assert "'0015.png' is new" in capsys.readouterr().err
    assert main([*words, "--extend"]) == 0
    assert "11 pictures scored, 1 bad" in capsys.readouterr().out
    shutil.copy(data / "001.png", data / "bad.png")
    assert main([*words, "--retry-errors"]) == 0
    assert "12 pictures scored, 0 bad" in capsys.readouterr().out
    assert main([*words, "--verify"]) == 0
    shutil.copy(data / "001.png", data / "002.png")
    assert main([*words, "--verify"]) == 2
    assert "'002.png' has other bytes" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["extend", "verify", "retry_errors"])
def test_switches_are_true_or_false(folder, tmp_path, name):
    refused((f"`{name}`", "'yes'"), lambda: run_tiny(folder, tmp_path / "out", **{name: "yes"}))
    assert not (tmp_path / "out").exists()


# --- what is asked of a run that it does not have ------------------------------------------------


def test_a_key_that_a_run_lacks_is_told_with_near_ones(tmp_path):
    save_pictures(tmp_path / "data", 4, folders=("cat", "dog"))
    run = run_tiny(tmp_path / "data", tmp_path / "out")
    for key, words in {
        "no such picture": "no picture 'no such picture'; it has 4.",
        "000.png": "Nearest: 'cat/000.png'.",
        "dog/001": "Nearest: 'dog/001.png'.",
        "dog/0o3.png": "Nearest: 'dog/003.png'",
        0: "Keys are words, such as 'cat/000.png'.",
    }.items():
        for ask in (run.__getitem__, run.picture):
            with pytest.raises(KeyError) as caught:
                ask(key)
            assert words in caught.value.args[0], key
            assert str(tmp_path / "out") in caught.value.args[0]
        assert key not in run
        assert run.get(key) is None
    assert "cat/000.png" in run
    assert torch.equal(run.get("cat/000.png").scores, run["cat/000.png"].scores)


def test_results_without_their_manifest_are_told_as_such(tmp_path):
    save_pictures(tmp_path / "data", 4)
    run_tiny(tmp_path / "data", tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    refused(
        ("a run's results and no manifest.json", "Put it back"),
        lambda: run_tiny(tmp_path / "data", tmp_path / "out"),
    )


def test_what_is_no_runs_folder_is_told_for_what_it_is(tmp_path):
    page = tmp_path / "report.html"
    page.touch()
    for path, what in ((page, "is a file"), (tmp_path / "no", "does not exist"), (tmp_path, "no")):
        refused(("run's folder", str(path), what), lambda path=path: load_run(path))
