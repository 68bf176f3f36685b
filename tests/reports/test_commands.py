# What the commands take for what, and what they say: one rule for windows, names that are nearly
# right, results that do not replace others, and words that tell what was done.
from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import fsspec
import pytest
import torch
from cli_folders import MODEL, QUICK, cli_folder
from PIL import Image
from refused import refused

from captum_infomask import sliding_windows
from captum_infomask._files import check_folder
from captum_infomask.cli import main
from captum_infomask.cli.option_values import windows_of
from captum_infomask.cli.parser import make_parser
from captum_infomask.models.loading import load_classifier
from captum_infomask.regions.windows import default_windows

COMPARE = ["compare", "photo.jpg", *MODEL, *QUICK]
MORE = """
network = make().network.train()
classifier = make()
plain = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).train()
other = 3

def probabilities():
    network = nn.Sequential(make().network, nn.Softmax(1))
    return Classifier("Mine", network, ("cat", "dog", "cup"), Preprocess(48, 48))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    made = cli_folder(tmp_path, monkeypatch, MORE)
    monkeypatch.syspath_prepend(made)
    (made / "data").mkdir()
    for k in range(3):
        Image.new("RGB", (20, 20), (90 * k, 0, 0)).save(made / "data" / f"{k}.png")
    return made


def run(folder: Path, *words: str) -> list[str]:
    return ["run", "--data", str(folder / "data"), "--workers", "0", *MODEL, *words]


def told(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    """What a command prints on both streams, if it ends as it must."""
    capsys.readouterr()
    assert main(arguments) == code
    printed = capsys.readouterr()
    return printed.out + printed.err


# --- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["attribute", "a.png"], ["compare", "a.png"], ["demo"], ["run"]]
)
def test_windows_mean_the_same_in_every_command(command):
    words = [*command, *(["--data", "d", "--out", "o"] if command == ["run"] else [])]
    x = torch.zeros(1, 3, 224, 224)

    def of(*more: str) -> dict[str, object]:
        return windows_of(make_parser().parse_args([*words, *more]), x)

    def both(side: int, step: int) -> dict[str, object]:
        return {"sliding_window_shapes": (3, side, side), "strides": (3, step, step)}

    assert of() == {}
    usual, same = default_windows(x), sliding_windows(x, *both(56, 28).values())
    assert all(torch.equal(usual.state()[name], same.state()[name]) for name in same.state())
    assert of("--window", "40") == both(40, 20)
    assert of("--window", "41", "--stride", "5") == both(41, 5)
    assert of("--window", "1") == both(1, 1)
    assert of("--stride", "14") == both(56, 14)


def test_windows_are_described_alike(capsys):
    described = []
    for command in ("run", "attribute", "compare", "demo"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        words = " ".join(capsys.readouterr().out.split())
        start = words.index("--window PIXELS side")
        described.append(words[start : words.index("side)", start)])
    assert len(set(described)) == 1
    assert "half of a window's" in described[0]


def test_the_fraction_that_masks_keep_has_its_two_names():
    words = ["run", "--data", "d", "--out", "o"]
    for name in ("--fraction", "--keep"):
        assert make_parser().parse_args([*words, name, "0.5"]).fraction == 0.5


# --- what is read --------------------------------------------------------------------------------


def test_a_picture_may_be_an_address(folder, capsys):
    with fsspec.open("memory://pictures/photo.jpg", "wb") as file:
        file.write((folder / "photo.jpg").read_bytes())
    told([*COMPARE, "--json", "here.json"], capsys)
    address = "memory://pictures/photo.jpg"
    told(["compare", address, *MODEL, *QUICK, "--json", "there.json"], capsys)
    here, there = (json.loads(Path(f"{name}.json").read_text()) for name in ("here", "there"))
    assert here["pictures"] == there["pictures"]
    for address in ("memory://pictures/none.jpg", "nosuch://a/b.jpg"):
        for command in ("attribute", "compare"):
            words = told([command, address, *MODEL], capsys, 2)
            assert "address that fsspec reads" in words
            assert address in words


@pytest.mark.parametrize("name", ["network", "classifier", "plain"])
def test_a_network_itself_may_stand_in_a_functions_place(folder, name):
    made = load_classifier(f"my_network_for_cli:{name}")
    held = getattr(sys.modules["my_network_for_cli"], name)
    network = held.network if name == "classifier" else held
    assert made.network is not network
    assert not made.network.training
    assert network.training  # what the user holds is as it was
    assert all(
        torch.equal(a, b)
        for a, b in zip(made.network.parameters(), network.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("my_network_for_cli.make", ("has a colon before it: my_network_for_cli:make.",)),
        ("my_network_for_cli:nope", ("'nope'", "It has: ", "make", "network", "plain")),
        ("my_network_for_cli:other", ("It has: ", "make")),
        ("my_network_for_cli:mak", ("Nearest: make",)),
        ("torchvision.models.resnet18", ("torchvision.models:resnet18",)),
        ("resnet81", ("Nearest: resnet18",)),
    ],
)
def test_a_network_that_is_called_wrongly_is_told_how(folder, spec, words):
    refused(("`model`", *words), lambda: load_classifier(spec))


def test_a_page_that_is_taken_for_a_run_is_told(folder, capsys):
    Path("file.html").touch()
    assert "Expected a run's folder; file.html is a file." in told(
        ["report", "file.html"], capsys, 2
    )


# --- what is written -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jpg", "b.html", "c.NPZ", "d/e.parquet"])
def test_a_files_name_is_no_folder(folder, capsys, name):
    for arguments in (["attribute", "photo.jpg", *MODEL], ["demo"], run(folder)):
        words = told([*arguments, "--out", name], capsys, 2)
        assert f"to be a folder, for several files; got {name}, the name of a file." in words
        assert not Path(name.split("/")[0]).exists()
    Path(name).mkdir(parents=True)  # as a folder that is there may be called
    assert check_folder("--out", name) == folder / name


def test_a_folder_is_no_file(folder, capsys):
    Path("made").mkdir()
    for option in ("--out", "--json", "--csv"):
        assert "made is a folder" in told([*COMPARE, option, "made"], capsys, 2)
        assert "got the folder new/" in told([*COMPARE, option, "new/"], capsys, 2)
    told(run(folder, "--out", "ran"), capsys)
    assert "made is a folder" in told(["report", "ran", "--out", "made"], capsys, 2)
    assert not Path("new").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="of Linux")
def test_an_output_that_cannot_be_written_is_called_by_its_own_name(folder, capsys):
    for arguments in (
        [*COMPARE, "--out", "/proc/a.html"],
        [*COMPARE, "--json", "/proc/a.json"],
        ["attribute", "photo.jpg", *MODEL, "--out", "/proc/made"],
        run(folder, "--out", "/proc/made"),
    ):
        words = told(arguments, capsys, 2)
        assert f"to be writable; got {arguments[-1]}: " in words
        assert ".part" not in words


def test_reports_on_other_pictures_or_targets_do_not_replace_each_other(folder, capsys):
    shutil.copy("photo.jpg", "other.jpg")
    for words in (["other.jpg"], ["--target", "cup"], ["--target", "tiger/cat"], []):
        told([*COMPARE[:2], *words, *COMPARE[2:]], capsys, 2 if "tiger/cat" in words else 0)
    made = {"infomask-photo.html", "infomask-photo-and-1-more.html", "infomask-photo-cup.html"}
    assert {path.name for path in folder.glob("*.html")} == made


# --- what is said --------------------------------------------------------------------------------


def test_all_pictures_of_a_comparison_are_named(folder, capsys):
    pictures = [shutil.copy("photo.jpg", f"photo{k}.jpg") for k in range(10)]
    words = told(["compare", *pictures, *MODEL, *QUICK, "--json", "all.json"], capsys)
    listed = ", ".join(f"{k} photo{k}.jpg" for k in range(10))
    assert f"Pictures: {listed}\n" in words
    assert listed in json.dumps(json.loads(Path("all.json").read_text()))
    assert "Pictures:" not in told(COMPARE, capsys)


def test_a_run_says_what_this_call_did(folder, capsys):
    (folder / "data" / "3.png").write_text("no picture")
    (folder / "data" / "notes.txt").write_text("not one")
    out = str(folder / "data" / "out")  # among the pictures, of which it holds none
    words = told(run(folder, "--out", out), capsys)
    assert words.startswith(f"3 pictures scored, 1 bad: {out}\n")
    assert "\n1 file skipped, not pictures: notes.txt\n" in words
    words = told(run(folder, "--out", out), capsys)
    assert words.startswith(f"nothing was left to do; 3 pictures scored, 1 bad: {out}\n")
    assert "\n1 file skipped, not pictures: notes.txt\n" in words
    shutil.copy(folder / "data" / "1.png", folder / "data" / "4.png")
    words = told(run(folder, "--out", out, "--extend"), capsys)
    assert words.startswith(f"4 pictures scored, 1 bad; 1 of them by this call: {out}\n")
    words = told(run(folder, "--out", out, "--retry-errors"), capsys)
    assert words.startswith(f"4 pictures scored, 1 bad; 1 of them by this call: {out}\n")
    alone = folder / "alone"
    alone.mkdir()
    shutil.copy("photo.jpg", alone)
    words = told(run(folder, "--data", str(alone), "--out", "single"), capsys)
    assert words.startswith("1 picture scored, 0 bad: single\n")


@pytest.mark.filterwarnings("always")
def test_a_warning_is_said_once_by_a_command(folder, capsys):
    arguments = ["attribute", "photo.jpg", "--model", "my_network_for_cli:probabilities"]
    words = told([*arguments, "--window", "24"], capsys)
    assert words.count("captum-infomask: warning:") == 1
    assert 'head="probs"' in words
