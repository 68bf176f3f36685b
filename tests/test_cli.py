# The command line: what it writes, what it prints, and one clear line for every bad argument.
from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_infomask import __version__
from captum_infomask.cli import main
from captum_infomask.datasets import sample_photo

NETWORK = """
import torch
from torch import nn
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.pictures import Preprocess

def make():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    return Classifier("Mine", network, ("cat", "dog", "cup"), Preprocess(48, 48))

def interrupted():
    raise KeyboardInterrupt
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with a picture and a network of the user's own."""
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("my_network_for_cli", None)
    (tmp_path / "my_network_for_cli.py").write_text(NETWORK)
    Image.fromarray(sample_photo("coffee")).save(tmp_path / "photo.jpg")
    return tmp_path


MINE = ["attribute", "photo.jpg", "--model", "my_network_for_cli:make"]


def width_of(path: Path) -> int:
    with Image.open(path) as image:
        return image.width


def error_of(arguments: list[str], capsys) -> str:
    """Run, expect exit code 2 and nothing but one line on stderr; return that line."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("captum-infomask: error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_the_demo_shows_the_main_job(folder, capsys):
    arguments = ["demo", "--photo", "coffee", "--window", "112", "--stride", "112", "--out", "made"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    for name, passes, unit in [
        ("InfoMask crop", 5, "bits"),
        ("InfoMask drop", 5, "bits"),
        ("Grad-CAM", 1, "a.u."),
        ("Occlusion", 5, "nats"),
    ]:
        assert re.search(rf"{name} +{passes} +\d+\.\d\d +-?\d+\.\d\d {unit} +\d+\.\d%", printed.out)
    assert "espresso (class 967 of EfficientNet-Lite0, its prediction)" in printed.out
    assert "of at most log2 1000 = 9.97 bits" in printed.out
    assert "Info Mask attribution: 100%" in printed.err
    assert "Occlusion attribution: 100%" in printed.err
    figure, arrays = folder / "made" / "coffee.png", folder / "made" / "coffee.npz"
    assert width_of(figure) > 800
    with np.load(arrays, allow_pickle=False) as made:
        assert made["photo"].shape == (224, 224, 3)
        assert int(made["target"]) == 967
        assert str(made["category"]) == "espresso"
        for name in ("infomask_crop", "infomask_drop", "grad_cam", "occlusion"):
            assert made[name].shape == made[f"{name}_mask"].shape == (224, 224)
            assert made[f"{name}_mask"].any()
        assert float(made["infomask_crop"].max()) <= np.log2(1000)
        quarters = np.unique(made["infomask_drop"])
        assert len(quarters) == 4  # one value per window of 112 pixels
    for path in (figure, arrays):
        assert str(path.relative_to(folder)) in printed.out


def test_the_two_digit_demo(folder, capsys):
    assert main(["demo", "--two-digits", "--out", "made"]) == 0
    printed = capsys.readouterr().out
    assert "| method | unit | ink IoU |" in printed
    assert "InfoMask drop" in printed
    assert width_of(folder / "made" / "two_digits.png") > 800


def test_a_picture_and_a_network_of_the_users_own(folder, capsys):
    before = list(sys.path)
    assert main([*MINE, "--target", "Dog", "--window", "12", "--stride", "12"]) == 0
    printed = capsys.readouterr().out
    assert "Target: dog (class 1 of Mine" in printed
    assert "Windows: 12 x 12 pixels every 12, on 48 x 48 pixels" in printed
    assert (folder / "infomask-out" / "photo.png").is_file()
    assert sys.path == before


def test_names_layer_and_prediction(folder, capsys):
    (folder / "names.txt").write_text("red\ngreen\nblue\n")
    arguments = [*MINE, "--categories", "names.txt", "--layer", "0", "--window", "24"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert re.search(r"Target: (red|green|blue) \(class . of Mine, its prediction\)", printed)


def test_a_method_that_fails_is_a_row(folder, capsys):
    (folder / "my_network_for_cli.py").write_text(
        NETWORK.replace(
            "nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)", "nn.AdaptiveAvgPool2d(2)"
        ).replace("nn.Linear(4", "nn.Linear(12")
    )
    assert main([*MINE, "--layer", "2", "--window", "24"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"Grad-CAM .*failed: ", printed)
    assert re.search(r"Occlusion .* nats", printed)


def test_bad_pictures(folder, capsys):
    content = (folder / "photo.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "notes.png").write_text("no picture")
    for name, words in [
        ("cut.jpg", "cannot be read"),
        ("notes.png", "is not one"),
        ("missing.jpg", "does not exist"),
        (".", "folder"),
    ]:
        error = error_of(["attribute", name], capsys)
        assert words in error
        assert name in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*MINE, "--target", "cart"], "Nearest: cat"),
        ([*MINE, "--target", "3"], "index from 0 to 2"),
        ([*MINE, "--window", "49"], "`window`"),
        ([*MINE, "--window", "0"], "`window`"),
        ([*MINE, "--window", "wide"], "--window"),
        ([*MINE, "--window", "8", "--stride", "9"], "`stride`"),
        ([*MINE, "--layer", "5"], "`layer`"),
        ([*MINE, "--categories", "missing.txt"], "`categories`"),
        ([*MINE, "--weights", "missing.safetensors"], "does not exist"),
        (["attribute", "photo.jpg", "--model", "resnet81"], "Nearest: resnet18"),
        (["attribute", "photo.jpg", "--model", "my_network_for_cli:male"], "Nearest: make"),
        (["attribute"], "IMAGE"),
        (["demo", "--photo", "cofee"], "Did you mean 'coffee'"),
        (["demo", "--out", "photo.jpg"], "photo.jpg is a file"),
        ([*MINE, "--out", "photo.jpg/deeper"], "photo.jpg is a file"),
        (["demonstrate"], "demonstrate"),
        ([], "required"),
    ],
)
def test_bad_arguments(arguments, words, folder, capsys):
    assert words in error_of(arguments, capsys)
    assert not (folder / "infomask-out").exists()


class Payload:
    """Pickles into a call that would make a folder."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("plain", [False, True])
def test_a_checkpoint_of_code_is_refused_and_not_run(plain, folder, capsys):
    content = {"0.weight": torch.ones(4), "more": Payload()}
    if plain:
        (folder / "weights.pt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, folder / "weights.pt")
    error = error_of([*MINE, "--weights", "weights.pt"], capsys)
    assert "weights.pt" in error
    assert "nothing in it was run" in error
    assert not (folder / "sprung").exists()


def test_ctrl_c(folder, capsys):
    # An interrupt is not the network's failure, wherever it comes.
    assert main(["attribute", "photo.jpg", "--model", "my_network_for_cli:interrupted"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["attribute", "--help"]])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0
    assert "usage: captum-infomask" in capsys.readouterr().out


def test_as_a_module():
    made = subprocess.run(
        [sys.executable, "-m", "captum_infomask", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert made.stdout == f"captum-infomask {__version__}\n"
