# What is printed: no name rules the terminal, no terminal loses a result.
from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_folders import MODEL, QUICK, cli_folder
from hypothesis import given, strategies as st
from PIL import Image

from captum_infomask import compare
from captum_infomask._messages import printable, utf8
from captum_infomask.cli import main
from captum_infomask.cli.terminal import complain, say

COMPARE = ["compare", "photo.jpg", *MODEL, *QUICK]
EVIL = "cat\x1b[31m\r\nforged: 24 pictures\x9b2J\u202eexe.gpj\u2028"
SHOWN = r"cat\x1b[31m\r\nforged: 24 pictures\x9b2J\u202eexe.gpj\u2028"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    return cli_folder(tmp_path, monkeypatch)


def test_what_a_terminal_would_obey_is_shown():
    assert printable(EVIL) == SHOWN
    assert printable("a\nb\tc", keep="\n") == "a\nb\\tc"
    assert printable(os.fsdecode(b"caf\xe9")) == r"caf\udce9"
    for word in ("tiger cat", "bée", "東京", "a×b – c", "שלום", "👩‍🔬", ""):
        assert printable(word) == word
    assert printable("\x7f\x85\u200e\u2066\u2069\u061c") == r"\x7f\x85\u200e\u2066\u2069\u061c"


@given(st.text(st.characters(exclude_categories=())))
def test_any_name_is_one_line_without_control_characters(name):
    shown = printable(name)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in shown)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert utf8(name).decode("utf-8") is not None


@given(st.text(st.characters(exclude_categories=())))
def test_json_gives_back_names_that_utf_8_cannot_hold(name):
    assert json.loads(utf8(json.dumps(name, ensure_ascii=False))) == name


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
def test_every_stream_takes_every_name(encoding, monkeypatch):
    for name, function in (("stdout", say), ("stderr", complain)):
        held = io.BytesIO()
        stream = io.TextIOWrapper(held, encoding=encoding, newline="\n")
        monkeypatch.setattr(sys, name, stream)
        function(f"bée 東京 {os.fsdecode(b'x-%E9')} \ud800 a\x1bb")
        printed = held.getvalue().decode(encoding)
        assert printed.endswith(" \\ud800 a\\x1bb\n")
        assert printed.startswith("bée 東京" if "utf" in encoding else "b")


def test_a_stream_that_is_closed_or_not_there(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    say("words")


def categories(folder: Path, first: str) -> list[str]:
    (folder / "names.txt").write_bytes(f"{first}\ndog\ncup\n".encode())
    return ["--categories", "names.txt", "--target", "0"]


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "captum_infomask", *words],
        capture_output=True,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
def test_a_category_that_an_ascii_terminal_cannot_show(folder):
    words = [*COMPARE, *categories(folder, "bée"), "--json", "a.json", "--csv", "a.csv"]
    made = run(folder, *words, PYTHONIOENCODING="ascii")
    assert made.returncode == 0, made.stderr
    assert rb"Target: b\xe9e (class 0" in made.stdout
    assert "bée" in (folder / "infomask-photo-0.html").read_text(encoding="utf-8")
    assert json.loads((folder / "a.json").read_bytes())["pictures"][0]["label"] == "bée"
    assert "bée" in (folder / "a.csv").read_text(encoding="utf-8")


def test_help_on_an_ascii_terminal(folder):
    for words in (["--help"], ["run", "--help"], ["compare", "--help"]):
        made = run(folder, *words, PYTHONIOENCODING="ascii")
        assert made.returncode == 0, made.stderr
        assert b"usage: captum-infomask" in made.stdout


def test_escape_codes_in_a_category_do_not_reach_the_terminal(folder, capsys):
    assert main([*COMPARE, *categories(folder, "cat\x1b[31m\u202eexe")]) == 0
    printed = capsys.readouterr().out
    assert r"Target: cat\x1b[31m\u202eexe (class 0" in printed
    assert "\x1b" not in printed
    assert "\u202e" not in printed


def test_escape_codes_in_a_path_do_not_reach_the_terminal(folder, capsys):
    name = "a\x1b[2J\nb.html"
    assert main([*COMPARE, "--out", name]) == 0
    assert (folder / name).is_file()
    assert r"report: a\x1b[2J\nb.html" in capsys.readouterr().out.splitlines()
    assert main(["compare", "miss\x1b[2Jing.jpg"]) == 2
    assert r"miss\x1b[2Jing.jpg does not exist" in capsys.readouterr().err


def test_names_in_a_comparisons_text_stay_in_their_lines():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)).eval()

    def fails(model, inputs, target):
        raise RuntimeError("no\x1b[2J way")

    found = compare(
        network,
        torch.rand(1, 3, 4, 4),
        0,
        methods={EVIL: lambda model, inputs, target: inputs, "b\ud800": fails},
        metrics=[],
        categories=[EVIL, "dog", "cup"],
    )
    lines = found.text().split("\n")
    assert lines[0].startswith(f"Target: {SHOWN} (class 0")
    assert any(line.startswith(SHOWN) for line in lines[1:])
    assert any(line.startswith(r"b\ud800") and r"no\x1b[2J way" in line for line in lines)
    for line in lines:
        assert printable(line) == line


def test_lone_surrogates_lose_no_file(tmp_path):
    name = os.fsdecode(b"caf\xe9 $x^{")  # as a Latin-1 disk names it, and with a dollar
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)).eval()
    found = compare(
        network,
        torch.rand(1, 3, 4, 4),
        0,
        methods={name: lambda model, inputs, target: inputs},
        metrics=[],
        categories=[name, "dog", "cup"],
    )
    shown = r"caf\udce9 $x^{"
    found.to_html(tmp_path / "a.html")
    assert shown in (tmp_path / "a.html").read_text(encoding="utf-8")
    found.to_csv(tmp_path / "a.csv")
    assert shown in (tmp_path / "a.csv").read_text(encoding="utf-8")
    found.to_json(tmp_path / "a.json")
    read = json.loads((tmp_path / "a.json").read_bytes())
    assert read["methods"][0]["name"] == read["pictures"][0]["label"] == name
    found.save_arrays(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["labels"].tolist() == [name]
    found.figure()[0].savefig(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.width > 100


def test_a_picture_whose_name_is_not_utf_8(folder, capsys):
    name = os.fsdecode(b"caf\xe9.jpg")
    os.rename("photo.jpg", name)
    assert main(["compare", name, *COMPARE[2:], "--json", "a.json"]) == 0
    assert r"caf\udce9.jpg" in (folder / os.fsdecode(b"infomask-caf\xe9.html")).read_text(
        encoding="utf-8"
    )
    capsys.readouterr()
    assert main(["attribute", name, *MODEL, "--window", "24", "--target", "dog", "--npz"]) == 0
    assert (folder / os.fsdecode(b"caf\xe9.dog.npz")).is_file()
    printed = capsys.readouterr().out
    assert printed.startswith(r"caf\udce9.jpg: dog (class 1, ")
    assert r"caf\udce9.dog.png" in printed
    assert r"caf\udce9.dog.npz" in printed


def test_files_are_written_before_words_are_printed(folder, monkeypatch):
    class Broken(io.StringIO):
        def write(self, words):
            if words.strip():
                seen.append((folder / "infomask-photo.html").is_file())
            return super().write(words)

    seen: list[bool] = []
    monkeypatch.setattr(sys, "stdout", Broken())
    assert main(COMPARE) == 0
    assert seen
    assert all(seen)


def test_a_file_that_fails_at_last_does_not_lose_the_words(folder, monkeypatch, capsys):
    def full(*how):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("captum_infomask._files.os.replace", full)
    assert main(COMPARE) == 2
    printed = capsys.readouterr()
    assert "centred blob (control)" in printed.out
    assert "report:" not in printed.out
    assert "No space left" in printed.err


@pytest.mark.slow
def test_nobody_reads_the_words(folder):
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "captum_infomask", *COMPARE]
    with os.fdopen(writing, "wb") as stdout:
        made = subprocess.run(words, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert (made.returncode, made.stderr) == (0, b"")
    assert (folder / "infomask-photo.html").is_file()


@pytest.mark.slow
def test_words_that_cannot_be_printed_are_an_error(folder):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    words = [sys.executable, "-m", "captum_infomask", *COMPARE]
    with open("/dev/full", "wb") as stdout:
        made = subprocess.run(words, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert made.returncode == 2
    assert b"error: Expected stdout to take the words" in made.stderr
    assert made.stderr.count(b"\n") == 1
    assert (folder / "infomask-photo.html").is_file()


def test_no_bars_where_stderr_is_no_terminal(folder, capsys, monkeypatch):
    assert main(COMPARE) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(COMPARE) == 0
    assert "Comparison: 100%" in capsys.readouterr().err
