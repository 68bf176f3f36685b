# Files of results: where they go, what they replace, and what is known before any work.
from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_folders import MODEL, QUICK, cli_folder
from PIL import Image
from refused import refused
from torch import nn

from captum_infomask import (
    ArgumentError,
    FittedCritic,
    InfoMap,
    InfoMask,
    compare,
    fit_critic,
    run_dataset,
)
from captum_infomask._files import PART, check_folder, check_output_file, whole_file
from captum_infomask.cli import main
from captum_infomask.dataset_run.local import only_run
from captum_infomask.dataset_run.shards import begin_shard
from captum_infomask.evaluation.voc_wsol_files import export_wsol
from captum_infomask.masks.png import read_png, save_png

COMPARE = ["compare", "photo.jpg", *MODEL, *QUICK]
ATTRIBUTE = ["attribute", "photo.jpg", *MODEL, "--window", "24", "--stride", "24"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    return cli_folder(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def savers():
    """Every way to write a file, by name: each takes a path, and a way to see it is whole."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()
    inputs = torch.rand(1, 3, 4, 4)
    infomap = InfoMask(network).score_regions(
        inputs, target=1, sliding_window_shapes=(3, 2, 2), strides=(3, 2, 2)
    )
    critic = fit_critic(network, [torch.rand(8, 3, 4, 4) for _ in range(3)], steps=2)
    found = compare(network, inputs, 1, methods={"a": lambda model, x, target: x}, metrics=[])
    return {
        "InfoMap": (infomap.save, InfoMap.load),
        "critic": (critic.save, lambda path: FittedCritic.load(path, network)),
        "png": (lambda path: save_png(inputs[:, :1], path), read_png),
        "html": (found.to_html, lambda path: path.read_text(encoding="utf-8").index("</html>")),
        "json": (found.to_json, lambda path: json.loads(path.read_text(encoding="utf-8"))),
        "csv": (found.to_csv, lambda path: path.read_text(encoding="utf-8").index("picture,")),
        "arrays": (found.save_arrays, lambda path: np.load(path)["targets"]),
    }


NAMES = ("InfoMap", "critic", "png", "html", "json", "csv", "arrays")


@pytest.mark.parametrize("name", NAMES)
def test_a_link_in_a_files_place_stays_and_its_file_gets_the_content(name, savers, tmp_path):
    save, check = savers[name]
    real, link = tmp_path / "elsewhere" / "real", tmp_path / "link"
    real.parent.mkdir()
    for before in ("old content", None):  # the second leads to a file that is yet to be
        real.unlink(missing_ok=True)
        link.unlink(missing_ok=True)
        if before is not None:
            real.write_text(before)
        link.symlink_to(real)
        save(link)
        assert link.is_symlink()
        assert os.readlink(link) == str(real)
        check(real)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "link", "real"]


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_in_a_files_place_is_written_through(name, savers, tmp_path):
    save, check = savers[name]
    pipe, copy = tmp_path / "pipe", tmp_path / "copy"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: copy.write_bytes(pipe.read_bytes()))
    reader.start()
    save(pipe)
    reader.join(10)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    check(copy)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "pipe"]


@pytest.mark.parametrize("name", NAMES)
def test_a_device_in_a_files_place_stays_a_device(name, savers, tmp_path):
    save, _ = savers[name]
    device, before = Path(os.devnull), os.stat(os.devnull)
    save(device)
    (tmp_path / "link").symlink_to(device)
    save(tmp_path / "link")
    after = os.stat(os.devnull)
    assert stat.S_ISCHR(after.st_mode)
    assert (after.st_ino, after.st_mode, after.st_rdev) == (
        before.st_ino, before.st_mode, before.st_rdev,
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_full_device_is_one_clear_error(name, savers):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    refused(("path", "No space left"), lambda: savers[name][0]("/dev/full"))


@pytest.mark.slow
def test_a_report_on_standard_output_stands_before_the_words(folder):
    with (folder / "all.txt").open("wb") as printed:
        made = subprocess.run(
            [sys.executable, "-m", "captum_infomask", *COMPARE, "--out", "/dev/stdout"],
            stdout=printed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert made.returncode == 0, made.stderr
    content = (folder / "all.txt").read_text(encoding="utf-8")
    assert content.startswith("<!doctype html>")
    assert content.index("</html>") < content.index("report: /dev/stdout")


def test_a_private_file_stays_private(savers, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    path.chmod(0o600)
    savers["html"][0](path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "</html>" in path.read_text(encoding="utf-8")


def test_a_file_that_may_not_be_written_is_not_replaced(savers, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("captum_infomask._files.os.access", lambda *how: False)
    refused(("path", "Permission denied"), lambda: savers["html"][0](path))
    assert path.read_text() == "old"


def test_the_longest_name_that_the_disk_takes(savers, tmp_path):
    path = tmp_path / ("x" * 250 + ".html")
    savers["html"][0](path)
    assert "</html>" in path.read_text(encoding="utf-8")


def test_an_interrupt_leaves_what_was_there(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)

    def interrupted():
        with whole_file(link) as beside:
            beside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert real.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_looking_whether_a_file_can_be_written_changes_nothing(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    before = old.stat()
    assert check_output_file("path", old) == old
    assert check_output_file("path", new) == new
    check_folder("out", tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    after = old.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert old.read_text() == "old"


@pytest.mark.parametrize(
    "path", ["/proc/report.html", "x" * 300, "a\0b", "loop", "missing/a.html", ".", "socket"]
)
def test_what_cannot_be_written_is_known_before_any_work(path, folder, monkeypatch, capsys):
    monkeypatch.setattr("captum_infomask.cli.commands.classifier_of", None)
    (folder / "loop").symlink_to(folder / "loop")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        for option in ("--out", "--json", "--csv"):
            assert main([*COMPARE, option, path]) == 2
            printed = capsys.readouterr()
            assert printed.err.startswith(f"captum-infomask: error: Expected `{option}` to be ")
            assert printed.err.count("\n") == 1
    assert sorted(os.listdir(folder)) == ["loop", "my_network_for_cli.py", "photo.jpg", "socket"]


@pytest.mark.parametrize("path", ["/proc/out", "x" * 300, "a\0b", "dangling", "photo.jpg/out"])
def test_a_folder_that_cannot_be_made_is_known_before_any_work(path, folder, monkeypatch, capsys):
    (folder / "dangling").symlink_to("nowhere")
    monkeypatch.setattr("captum_infomask.cli.one_method.classifier_of", None)
    monkeypatch.setattr("captum_infomask.cli.commands.efficientnet_lite0", None)
    monkeypatch.setattr("captum_infomask.dataset_run.run.plan_run", None)
    for command in (ATTRIBUTE, ["demo"]):
        assert main([*command, "--out", path]) == 2
        assert "error: Expected `--out` to be " in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="Expected `out` to be "):
        run_dataset(folder, "two_digits", path)


def test_an_output_is_no_input(folder, capsys):
    shutil.copy("photo.jpg", "photo.png")
    (folder / "names.txt").write_text("a\nb\nc\n")
    (folder / "link.html").symlink_to("photo.jpg")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for arguments, words in (
        (["--out", "photo.jpg"], "photo.jpg is also photo.jpg"),
        (["--out", "link.html"], "link.html is also photo.jpg"),
        (["--csv", "names.txt", "--categories", "names.txt"], "is also names.txt"),
        (["--out", "a.html", "--json", "./a.html"], "is also what `--out` writes"),
    ):
        assert main([*COMPARE, *arguments]) == 2
        assert words in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert main([*COMPARE, "--out", os.devnull, "--json", os.devnull]) == 0


def test_the_picture_itself_is_not_written_over(folder, capsys):
    Image.open("photo.jpg").save("photo.dog.png")
    before = (folder / "photo.dog.png").read_bytes()
    os.remove("photo.jpg")
    os.symlink("photo.dog.png", "photo.jpg")
    assert main([*ATTRIBUTE, "--target", "dog"]) == 2
    assert "is also photo.jpg" in capsys.readouterr().err
    assert main([*ATTRIBUTE, "--out", "photo.dog.png"]) == 2
    assert "is also photo.jpg" in capsys.readouterr().err
    assert (folder / "photo.dog.png").read_bytes() == before


def test_the_results_of_one_class_do_not_replace_those_of_another(folder):
    shutil.copy("photo.jpg", "photo.v2.jpg")
    for picture, target in [("photo.jpg", "cat"), ("photo.jpg", "2"), ("photo.v2.jpg", "cat")]:
        words = ["attribute", picture, *ATTRIBUTE[2:], "--target", target, "--out", "made", "--npz"]
        assert main(words) == 0
    names = ["photo.cat", "photo.cup", "photo.v2.cat"]
    made = sorted(path.name for path in (folder / "made").iterdir())
    assert made == sorted(f"{name}{suffix}" for name in names for suffix in (".npz", ".png"))
    for name, target in zip(names, (0, 2, 0), strict=True):
        with np.load(folder / "made" / f"{name}.npz") as arrays:
            assert arrays["target"] == target


def test_a_report_does_not_replace_the_runs_own_files(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.new("L", (56, 28)).save(tmp_path / "in" / "a.png")
    out = tmp_path / "out"
    run_dataset(tmp_path / "in", "two_digits", out, workers=0)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in before:
        assert main(["report", str(out), "--out", str(out / name)]) == 2
        assert "to be a file of its own" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_lock_is_not_opened_through_a_link(tmp_path):
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("precious")
    out.mkdir()
    for make in (os.symlink, os.link):
        make(victim, out / ".lock")

        def hold():
            with only_run(out):
                pytest.fail("held")

        refused(("`out`",), hold)
        assert victim.read_text() == "precious"
        (out / ".lock").unlink()
    (out / ".lock").symlink_to(tmp_path / "not yet")
    refused(("`out`",), hold)
    assert not (tmp_path / "not yet").exists()


def test_a_pipe_in_the_locks_place_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / ".lock")

    def hold():
        with only_run(tmp_path):
            pytest.fail("held")

    refused(("`out`", "something else"), hold)


def test_a_workers_notes_are_not_written_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "part-00000.begun").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        begin_shard(tmp_path, 0)
    assert victim.read_text() == "precious"


def test_a_stray_lock_of_a_run_is_taken_over(tmp_path):
    for content in ("", "proc", "process 1 on elsewhere since 2020"):
        (tmp_path / ".lock").write_text(content)
        with only_run(tmp_path):
            assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_maps_of_wsol_are_whole_and_go_through_links(tmp_path):
    real = tmp_path / "real.npy"
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.npy").symlink_to(real)
    export_wsol(torch.tensor([[[[-1.0, 0.0, 3.0]]]]), ["a"], tmp_path / "maps")
    assert (tmp_path / "maps" / "a.npy").is_symlink()
    assert np.load(real).tolist() == [[0, 0.25, 1]]
    assert not list(tmp_path.rglob(f"*{PART}"))


def test_a_fit_knows_first_that_its_checkpoint_cannot_be_written():
    drawn = []

    class Loader:
        def __iter__(self):
            drawn.append(1)
            return iter([torch.rand(4, 1, 4, 4)])

    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(ArgumentError, match="`checkpoint` to be writable"):
        fit_critic(network, Loader(), steps=2, checkpoint="/proc/fit")
    assert drawn == []
