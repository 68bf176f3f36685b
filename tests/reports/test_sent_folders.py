# A run's folder that somebody sent: its page is made of what lies in it, and opens nothing else.
from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refused import refused
from run_samples import QUICK, SEEN, as_if_killed, run_tiny, save_pictures, tiny
from safetensors.torch import load_file, save_file

from captum_infomask import ArgumentError, RunStopped, load_run, run_dataset
from captum_infomask.cli import main
from captum_infomask.dataset_run.data.data_pictures import find_pictures
from captum_infomask.dataset_run.manifest import read_manifest, write_manifest
from captum_infomask.dataset_run.page_pictures import KEPT
from captum_infomask.dataset_run.summary.summary_content import run_content
from captum_infomask.models.preprocessing import read_image

COUNT = 15

_watched: list[tuple[str, str]] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is not None and event in ("open", "os.scandir", "os.listdir", "socket.connect"):
        _watched.append((event, str(arguments[0] if event != "socket.connect" else arguments[1])))


@pytest.fixture(scope="session")
def hook() -> None:
    """Python cannot take it back: there is one, which notes nothing unless it is watched."""
    sys.addaudithook(_note)


@pytest.fixture
def opened(hook) -> Iterator[list[tuple[str, str]]]:
    """What the process opens."""
    global _watched  # noqa: PLW0603
    _watched = []
    yield _watched
    _watched = None


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Path:
    """A folder with a data set of 15 pictures, its run, and a module beside them."""
    place = tmp_path_factory.mktemp("ended")
    save_pictures(place / "data", COUNT)
    run_tiny(place / "data", place / "out")
    return place


@pytest.fixture
def sent(ended, tmp_path) -> Path:
    """A copy of the run that may be changed."""
    shutil.copytree(ended / "out", tmp_path / "out")
    return tmp_path / "out"


def rewrite(out: Path, **changed: Any) -> None:
    """Another manifest, with the hash that belongs to it, as whoever means harm would write."""
    manifest = read_manifest(out)
    settings = {**manifest["settings"], **changed.pop("settings", {})}
    write_manifest(out, {**manifest, **changed, "settings": settings})


def shown(run: Any) -> dict[str, np.ndarray | None]:
    """By key, the pictures of the page."""
    return {
        {what: value for value, what in one.facts}["key"]: one.pixels
        for one in run_content(run).examples
    }


def is_seen(pixels: np.ndarray | None, path: Path) -> bool:
    return pixels is not None and np.array_equal(pixels, SEEN.frame(read_image(path)))


NAMES = ("manifest.json", "keys.parquet", "part-00001.parquet", "map.safetensors", KEPT)


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_in_a_files_place_does_not_hang(ended, sent, capsys, name):
    (sent / name).unlink()
    os.mkfifo(sent / name)

    def read():
        load_run(sent).picture("000.png")

    refused((name,), read)
    assert main(["report", str(sent)]) == 2
    assert name in capsys.readouterr().err
    if name == "manifest.json":
        refused((name,), lambda: run_tiny(ended / "data", sent))


def test_a_pipe_in_a_pages_or_a_notes_place_does_not_hang(ended, sent, capsys):
    os.mkfifo(sent / "report.html")
    assert main(["report", str(sent)]) == 2
    assert "report.html is no file" in capsys.readouterr().err
    for name in (".decoding-4", ".scoring-4"):
        os.mkfifo(sent / name)
    as_if_killed(sent, 1)
    assert run_tiny(ended / "data", sent).is_complete


# --- what a manifest names is not opened ---------------------------------------------------------


def test_a_page_contacts_no_server(sent, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        for scheme in ("ftp", "http", "sftp"):
            rewrite(sent, data=f"{scheme}://127.0.0.1:{port}/pictures")
            assert main(["report", str(sent)]) == 0
            with pytest.raises(BlockingIOError):
                server.accept()
    assert (sent / "report.html").read_text().count("data:image/") >= 12


@pytest.mark.parametrize("has_kept", [True, False])
def test_a_page_opens_nothing_outside_of_its_folder(ended, sent, opened, monkeypatch, has_kept):
    """Neither the data, which are there, nor the module or the weights that the manifest names."""
    (ended / "sent_network.py").write_text("raise SystemExit('it was run')")
    (ended / "weights.pt").write_bytes(b"")
    monkeypatch.chdir(ended)
    monkeypatch.syspath_prepend(str(ended))
    model = {"model": "sent_network:make", "weights": str(ended / "weights.pt")}
    rewrite(sent, data=str(ended / "data"), settings=model)
    if not has_kept:
        (sent / KEPT).unlink()
    del opened[:]
    assert main(["report", str(sent)]) == 0
    assert "sent_network" not in sys.modules
    assert any(str(sent) in path for _, path in opened)
    ours = [found for found in opened if str(ended) in found[1] or found[0] == "socket.connect"]
    assert ours == []
    pixels = shown(load_run(sent)).values()
    assert [one is not None for one in pixels] == [has_kept] * 12


def test_a_page_is_not_written_where_a_sent_link_leads(sent, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    for link, name in (("report.html", "mine.txt"), ("report.html", "new.txt")):
        (sent / link).unlink(missing_ok=True)
        (sent / link).symlink_to(tmp_path / name)
        assert main(["report", str(sent)]) == 2
        assert "report.html is a link" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "new.txt").exists()
    assert main(["report", str(sent), "--out", str(sent / "report.html")]) == 0
    assert "</html>" in (tmp_path / "new.txt").read_text()


def test_an_address_of_references_runs_no_code(tmp_path):
    """Before fsspec 2026.6 a list of references could say what to run; the lower bound keeps it."""
    mark = tmp_path / "it_ran"
    key = f"{{{{ cycler.__init__.__globals__.os.system('touch {mark}') }}}}.png"
    generated = [{"key": key, "url": "x", "dimensions": {"i": [1]}}]
    path = tmp_path / "references.json"
    path.write_text(json.dumps({"version": 1, "templates": {}, "gen": generated, "refs": {}}))
    with pytest.raises(ArgumentError, match="reference"):
        find_pictures(f"reference://*.png::{path}")
    assert not mark.exists()


# --- the pictures that a page shows are the run's own --------------------------------------------


def test_a_page_shows_its_pictures_when_the_data_are_gone(ended, sent):
    run = load_run(sent)
    found = shown(run)
    assert len(found) == 12
    assert all(is_seen(pixels, ended / "data" / key) for key, pixels in found.items())
    assert not run_content(run).notes
    others = run.keys() - found.keys()
    assert len(others) == COUNT - 12
    assert {run.picture(key) is None for key in others} == {True}
    assert 12 * 16 * 16 * 3 < (sent / KEPT).stat().st_size < 12 * 16 * 16 * 3 + 4096


def test_data_are_read_where_they_are_given(ended, sent):
    (sent / KEPT).unlink()
    run = load_run(sent, ended / "data")
    assert all(is_seen(run.picture(key), ended / "data" / key) for key in run)
    assert all(is_seen(pixels, ended / "data" / key) for key, pixels in shown(run).items())


def test_the_command_reads_data_that_it_is_given(ended, sent, capsys):
    (sent / KEPT).unlink()
    assert main(["report", str(sent)]) == 0
    bare = (sent / "report.html").read_text()
    assert "report --data reads them" in bare
    assert main(["report", str(sent), "--data", str(ended / "data")]) == 0
    page = (sent / "report.html").read_text()
    assert page.count("data:image/") == bare.count("data:image/") + 12
    assert "report --data reads them" not in page
    capsys.readouterr()
    assert main(["report", str(sent), "--data", str(ended / "nowhere")]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


def test_a_run_that_is_stopped_has_a_page_and_its_pictures_once_it_has_ended(tmp_path):
    keys = save_pictures(tmp_path / "data", 5)
    (tmp_path / "data" / "002.png").write_bytes(b"no picture")
    with pytest.raises(RunStopped):
        run_tiny(tmp_path / "data", tmp_path / "out", max_errors=0)
    run = load_run(tmp_path / "out")
    assert set(shown(run).values()) == {None}
    assert "--data reads them" in run_content(run).notes[-1]
    run_tiny(tmp_path / "data", tmp_path / "out")
    found = shown(load_run(tmp_path / "out"))
    assert sorted(found) == [key for key in keys if key != "002.png"]
    assert all(is_seen(pixels, tmp_path / "data" / key) for key, pixels in found.items())


def test_an_ended_run_reads_no_picture_again(ended, monkeypatch):
    monkeypatch.setattr("captum_infomask.dataset_run.page_pictures.seen", None)
    run = run_tiny(ended / "data", ended / "out")
    assert is_seen(run.picture("000.png"), ended / "data" / "000.png")


def test_a_file_that_changed_is_not_kept_as_what_was_seen(tmp_path):
    keys = save_pictures(tmp_path / "data", 3)
    run_tiny(tmp_path / "data", tmp_path / "out")
    (tmp_path / "out" / KEPT).unlink()
    content = (tmp_path / "data" / keys[1]).read_bytes()
    (tmp_path / "data" / keys[0]).write_bytes(content)
    run = run_tiny(tmp_path / "data", tmp_path / "out")
    assert [run.picture(key) is None for key in keys] == [True, False, False]


def test_a_preprocessing_of_the_users_own_shows_no_picture(tmp_path):
    save_pictures(tmp_path / "data", 2)
    model = tiny(preprocess=SEEN.__call__)
    run = run_dataset(tmp_path / "data", model, tmp_path / "out", **QUICK)
    assert {run.picture(key) for key in run} == {None}
    assert not (tmp_path / "out" / KEPT).exists()
    assert run_content(run).notes == ()


# --- a kept file, or a manifest, that is not as it was written ----------------------------------


def test_kept_pictures_of_other_bytes_than_were_scored_are_not_shown(sent):
    tensors, facts = _kept(sent)
    facts["sha256"][3] = "00"
    _keep(sent, tensors, facts)
    run = load_run(sent)
    assert {key for key in facts["keys"] if run.picture(key) is None} == {facts["keys"][3]}


@pytest.mark.parametrize(
    ("pixels", "facts"),
    [
        (torch.zeros(12, 16, 16), {}),
        (torch.zeros(11, 16, 16, 3, dtype=torch.uint8), {}),
        (torch.zeros(12, 16, 16, 4, dtype=torch.uint8), {}),
        (torch.zeros(12, dtype=torch.uint8), {}),
        (None, {"keys": 5}),
        (None, {"sha256": [None] * 12}),
    ],
)
def test_a_damaged_file_of_pictures_is_named(ended, sent, pixels, facts, capsys):
    tensors, before = _kept(sent)
    _keep(sent, tensors if pixels is None else {"pixels": pixels}, {**before, **facts})
    assert main(["report", str(sent)]) == 2
    assert KEPT in capsys.readouterr().err
    run_tiny(ended / "data", sent)
    assert all(found is not None for found in shown(load_run(sent)).values())


def test_kept_pictures_of_another_size_are_not_shown(sent):
    _, facts = _kept(sent)
    _keep(sent, {"pixels": torch.zeros(12, 900, 9, 3, dtype=torch.uint8)}, facts)
    run = load_run(sent)
    assert {run.picture(key) for key in run} == {None}
    assert main(["report", str(sent)]) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"crop": [10**6, 10**6]},
        {"crop": None},
        {"more": 1},
        {"interpolation": "none"},
        {"mean": [0.0] * 5},
    ],
)
def test_a_manifest_makes_no_picture_of_another_size(ended, sent, changed):
    (sent / KEPT).unlink()
    preprocess = json.loads((sent / "manifest.json").read_text())["preprocess"]
    rewrite(sent, preprocess={**preprocess, **changed})
    run = load_run(sent, ended / "data")
    seen = [run.picture(key) is not None for key in run]
    assert seen == ["mean" in changed] * COUNT


def _kept(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    from captum_infomask._files import read

    return read("out", out / KEPT, "captum_infomask.pictures 1")


def _keep(out: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    assert load_file(out / KEPT)
    metadata = {"format": "captum_infomask.pictures 1", "facts": json.dumps(facts)}
    save_file(tensors, out / KEPT, metadata=metadata)
