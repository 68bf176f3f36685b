# The command line: what it writes, what it prints, and one clear line for every bad argument.
from __future__ import annotations

import json
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_folders import MODEL, NETWORK, QUICK, cli_folder
from PIL import Image

from captum_infomask import __version__
from captum_infomask.cli import main
from captum_infomask.cli.parser import _EXAMPLES, make_parser
from captum_infomask.datasets import sample_photo


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    return cli_folder(tmp_path, monkeypatch)


MINE = ["attribute", "photo.jpg", *MODEL]


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


@pytest.mark.slow
def test_the_demo_shows_the_main_job(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    arguments = ["--photo", "coffee", "--window", "112", "--stride", "112", "--out", "made"]
    assert main(["demo", *arguments, "--metrics", "none"]) == 0
    printed = capsys.readouterr()
    for name, passes, unit in [
        ("InfoMask", 2, "bits per 1%"),
        ("InfoMask drop", 5, "bits"),
        ("Grad-CAM", 1, "a.u."),
        ("Occlusion", 5, "nats"),
    ]:
        assert re.search(rf"{name} +{passes} +\d+\.\d\d +-?\d+\.\d\d {unit} +\d+\.\d%", printed.out)
    assert "Target: espresso (class 967, its prediction)" in printed.out
    assert "Model: EfficientNet-Lite0" in printed.out
    assert "of at most log2 1000 = 9.97 bits" in printed.out
    for bar in ("Comparison", "Info Mask attribution", "Occlusion attribution"):
        assert f"{bar}: 100%" in printed.err
    figure, arrays = folder / "made" / "coffee.png", folder / "made" / "coffee.npz"
    assert width_of(figure) > 800
    with np.load(arrays, allow_pickle=False) as made:
        assert made["pictures"].shape == (1, 224, 224, 3)
        assert made["targets"].tolist() == [967]
        assert made["labels"].tolist() == ["espresso"]
        for name in ("infomask", "infomask_drop", "grad_cam", "occlusion", "blurred_noise_control"):
            assert made[name].shape == made[f"{name}_mask"].shape == (1, 224, 224)
            assert made[f"{name}_mask"].any()
        assert float(made["infomask"].sum()) == pytest.approx(9.79, abs=0.05)
        quarters = np.unique(made["infomask_drop"])
        assert len(quarters) == 4  # one value per window of 112 pixels
    report = folder / "made" / "coffee.html"
    assert "captum-infomask demo --photo coffee" in report.read_text(encoding="utf-8")
    assert report.stat().st_size < 3e6
    for path in (figure, arrays, report):
        assert str(path.relative_to(folder)) in printed.out


def test_a_method_that_fails_is_a_row(folder, capsys):
    (folder / "my_network_for_cli.py").write_text(
        NETWORK.replace(
            "nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)", "nn.AdaptiveAvgPool2d(2)"
        ).replace("nn.Linear(4", "nn.Linear(12")
    )
    quick = ["--layer", "2", "--window", "24", "--methods", "Grad-CAM,Occlusion"]
    assert main(["compare", "photo.jpg", *MODEL, *quick, "--metrics", "none"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"Grad-CAM .*failed: ", printed.out)
    assert re.search(r"Occlusion .* nats", printed.out)


COMPARE = ["compare", "photo.jpg", *MODEL, "--window", "24", "--stride", "24"]


def test_pictures_are_compared_in_a_report(folder, capsys):
    Image.fromarray(sample_photo("rocket")).save(folder / "rocket.png")
    arguments = [
        *COMPARE[:2], "rocket.png", *COMPARE[2:], "--target", "cat", "--target", "2",
        "--methods", "InfoMask, Grad-CAM,centred blob (control)", "--metrics", "deletion",
        "--out", "two.html", "--json", "two.json", "--csv", "two.csv",
    ]  # fmt: skip
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "Picture 0: cat (class 0, " in printed.out
    assert "Picture 1: cup (class 2, " in printed.out
    assert "deletion (lower is better)" in printed.out
    assert "insertion" not in printed.out
    assert "Comparison" not in printed.err  # which is no terminal
    found = json.loads((folder / "two.json").read_text())
    assert [method["name"] for method in found["methods"]] == [
        "InfoMask", "Grad-CAM", "centred blob (control)",
    ]  # fmt: skip
    assert [picture["label"] for picture in found["pictures"]] == ["cat", "cup"]
    assert found["call"].startswith("captum-infomask compare photo.jpg rocket.png --model")
    assert "'InfoMask, Grad-CAM,centred blob (control)'" in found["call"]
    assert len((folder / "two.csv").read_text().splitlines()) == 7
    page = (folder / "two.html").read_text(encoding="utf-8")
    assert "captum-infomask compare" in page
    title = re.search("<title>(.*)</title>", page)[1]
    assert title.startswith("cat, cup · ")
    assert re.search(r" · photo\.jpg, rocket\.png · \d{4}-\d\d-\d\d$", title)
    for name in ("two.html", "two.json", "two.csv"):
        assert name in printed.out


def test_one_target_for_all_pictures_and_the_predictions_by_default(folder, capsys):
    quick = ["--methods", "centred blob (control)", "--metrics", "none", "--json", "a.json"]
    two = ["compare", "photo.jpg", "photo.jpg", *MODEL, *quick]
    assert main([*two, "--target", "dog"]) == 0
    found = json.loads((folder / "a.json").read_text())
    assert [picture["target"] for picture in found["pictures"]] == [1, 1]
    assert main(two) == 0
    found = json.loads((folder / "a.json").read_text())
    assert all(picture["target"] == picture["prediction"] for picture in found["pictures"])
    assert found["metrics"] == []
    made = {"infomask-photo-and-1-more.html", "infomask-photo-and-1-more-dog.html"}
    assert {path.name for path in folder.glob("*.html")} == made


def test_what_is_right_is_framed_as_the_picture_is(folder, capsys):
    # 600 × 400 pixels, of which the network sees the middle 400 × 400: its right half.
    mask = np.zeros((400, 600), np.uint8)
    mask[:, 300:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    arguments = [*COMPARE, "--truth", "mask.png", "--metrics", "pointing_game,iou",
                 "--methods", "centred blob (control)", "--json", "a.json"]  # fmt: skip
    assert main(arguments) == 0
    found = json.loads((folder / "a.json").read_text())
    iou = found["methods"][0]["metrics"]["iou"][0]
    height = width = 48
    down = np.square(np.linspace(-2, 2, height))[:, None] + np.square(np.linspace(-2, 2, width))
    blob = np.exp(-down / 2) >= 0.2 * np.exp(-down / 2).max()
    right = np.zeros((height, width), bool)
    right[:, 24:] = True
    want = (blob & right).sum() / (blob | right).sum()
    assert iou == pytest.approx(want, abs=0.01)


def test_labels_say_whether_bits_are_true(folder, capsys):
    quick = ["--methods", "centred blob (control)", "--metrics", "none", "--out", "a.html"]
    assert main([*COMPARE, *quick]) == 0
    assert "Are the bits true?" not in (folder / "a.html").read_text()
    assert main([*COMPARE, *quick, "--label", "cat"]) == 0
    assert "Are the bits true?" in (folder / "a.html").read_text()
    assert "too few pictures to tell it from chance" in capsys.readouterr().out


def test_the_report_is_opened_if_asked_for(folder, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address)))
    quick = ["--methods", "centred blob (control)", "--metrics", "none", "--out", "a b.html"]
    assert main([*COMPARE, *quick]) == 0
    assert opened == []
    assert main([*COMPARE, *quick, "--open"]) == 0
    assert opened == [(folder / "a b.html").as_uri()]
    assert "no browser could be opened" in capsys.readouterr().err


def test_if_every_method_fails_the_exit_code_is_1(folder, capsys):
    (folder / "my_network_for_cli.py").write_text(
        NETWORK.replace(
            "nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)", "nn.AvgPool2d(48)"
        ).replace("nn.Linear(4", "nn.Linear(3")
    )
    assert main([*COMPARE, "--methods", "Grad-CAM", "--metrics", "none"]) == 1
    printed = capsys.readouterr()
    assert printed.err.endswith("captum-infomask: every method failed\n")
    assert "failed: Grad-CAM needs a feature map" in printed.out
    assert (folder / "infomask-photo.html").is_file()


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
        # One bad picture among several is named, too.
        assert name in error_of(["compare", "photo.jpg", name], capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*MINE, "--target", "cart"], "Nearest: cat"),
        ([*MINE, "--target", "zebra"], "They are: "),
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
        (["attribute"], "PICTURE"),
        (["demo", "--photo", "cofee"], "Did you mean 'coffee'"),
        (["demo", "--out", "photo.jpg"], "photo.jpg is a file"),
        ([*MINE, "--out", "photo.jpg/deeper"], "photo.jpg is a file"),
        ([*COMPARE, "--out", "missing/report.html"], "`--out`"),
        ([*COMPARE, "--out", "."], "`--out`"),
        ([*COMPARE, "--json", "missing/a.json"], "`--json`"),
        ([*COMPARE, "--csv", "missing/a.csv"], "`--csv`"),
        ([*COMPARE, "--methods", "InfoMsk"], "Did you mean 'InfoMask'"),
        ([*COMPARE, "--methods", ","], "`methods`"),
        ([*COMPARE, "--metrics", "deletoin"], "Did you mean 'deletion'"),
        ([*COMPARE, "--metrics", "iou"], "`ground_truth`"),
        ([*COMPARE, "--target", "0", "--target", "1"], "`--target` once per picture, 1 times"),
        ([*COMPARE, "--target", "cart"], "Nearest: cat"),
        ([*COMPARE, "--label", "0", "--label", "1"], "`--label` once per picture"),
        ([*COMPARE, "--label", "cart"], "Nearest: cat"),
        ([*COMPARE, "--truth", "photo.jpg", "--truth", "photo.jpg"], "`--truth`"),
        ([*COMPARE, "--truth", "missing.png"], "missing.png"),
        ([*COMPARE, "--layer", "5"], "`layer`"),
        (["compare"], "PICTURE"),
        (["demonstrate"], "demonstrate"),
        (["--quiet"], "required"),
        ([*COMPARE, "--device", "tpu"], "`--device`"),
        ([*COMPARE, "--fills", "--head", "sigmoid"], "`--fills`"),
    ],
)
def test_bad_arguments(arguments, words, folder, capsys):
    assert words in error_of(arguments, capsys)
    assert not (folder / "infomask-out").exists()
    assert not list(folder.glob("*.html"))


def test_a_mask_of_another_size_is_refused(folder, capsys):
    Image.new("L", (30, 20), 255).save(folder / "small.png")
    assert "600 x 400 pixels" in error_of([*COMPARE, "--truth", "small.png"], capsys)


def test_a_report_that_cannot_be_written(folder, capsys, monkeypatch):
    def refused(*how):
        raise PermissionError("not here")

    monkeypatch.setattr("captum_infomask._files.os.open", refused)
    assert "`--out` to be writable" in error_of(COMPARE, capsys)
    assert "`--out` to be writable" in error_of(MINE, capsys)


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
    for command in ("attribute", "compare"):
        assert main([command, "photo.jpg", "--model", "my_network_for_cli:interrupted"]) == 130
        assert "interrupted" in capsys.readouterr().err


NAMES = ("demo", "attribute", "compare", "run", "report")


@pytest.mark.parametrize("command", NAMES)
def test_the_help_of_a_command_ends_with_its_own_examples(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    words = capsys.readouterr().out
    assert words.startswith(f"usage: captum-infomask {command} ")
    examples = words.split("\nexamples:\n")[1].rstrip()
    begun = [line for line in examples.splitlines() if not line.startswith("      ")]
    assert begun
    assert all(line.startswith(f"  captum-infomask {command}") for line in begun)


@pytest.mark.parametrize("command", NAMES)
def test_examples_are_read_as_they_stand(command):
    lines = _EXAMPLES[command].replace("\\\n", " ").splitlines()
    for line in lines:
        read = make_parser().parse_args(shlex.split(line)[1:])
        assert read.run.startswith("captum_infomask.cli.")


def test_no_arguments_show_the_help(capsys):
    assert main([]) == 0
    alone = capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert alone == capsys.readouterr()
    assert alone.out.startswith("usage: captum-infomask [-h]")
    assert all(f"\n  captum-infomask {command}" in alone.out for command in NAMES)


def test_fills_are_compared_only_if_asked_for(folder, capsys):
    quick = ["compare", "photo.jpg", *COMPARE[1:], *QUICK]
    assert main([*quick, "--target", "dog"]) == 0
    assert "other fills" not in capsys.readouterr().out
    assert main([*quick, "--target", "dog", "--fills"]) == 0
    tables = capsys.readouterr().out.split("InfoMask drop with other fills")[1]
    for fill in ("0", "blur", "local mean", "inpaint"):  # a row per picture
        assert len(re.findall(rf"^{fill} +\d+\.\d+", tables, re.M)) == 2


def test_quiet_prints_nothing_and_writes_the_same(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    quick = [*COMPARE, "--methods", "InfoMask drop", "--metrics", "none", "--json", "a.json"]
    assert main([*quick, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    found = json.loads((folder / "a.json").read_text())
    assert found["methods"][0]["name"] == "InfoMask drop"
    assert main([*quick, "--quiet", "--metrics", "delete"]) == 2  # errors are told
    assert capsys.readouterr().err.startswith("captum-infomask: error: ")


@pytest.mark.slow
def test_as_a_module():
    made = subprocess.run(
        [sys.executable, "-m", "captum_infomask", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert made.stdout == f"captum-infomask {__version__}\n"
