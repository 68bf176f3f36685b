# The command attribute: one map of every picture and target, what it is, where it goes, and what is
# said about it.
from __future__ import annotations

import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from cli_folders import MODEL, cli_folder
from PIL import Image

from captum_infomask import InfoMask, MaxFraction, compare, show
from captum_infomask.cli import main
from captum_infomask.comparison.methods import METHOD_NAMES
from captum_infomask.datasets import sample_photo
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.loading import load_classifier
from captum_infomask.models.preprocessing import read_image

ONE = ["attribute", "photo.jpg", *MODEL]
MORE = """
class Picky(nn.Module):
    def __init__(self):
        super().__init__()
        self.own = make().network
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        dark = float(x.detach().mean()) < -1.5
        if dark and x.requires_grad:
            raise RuntimeError("too dark, too sad")
        return self.own(x)

picky = Picky()

def fails_on_dark():
    return Classifier("Picky", picky, ("cat", "dog", "cup"), Preprocess(48, 48))

def twins():
    return Classifier("Twins", make().network, ("crane", "Crane", "\\u732b"), Preprocess(48, 48))
"""
KINDS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    made = cli_folder(tmp_path, monkeypatch, MORE)
    monkeypatch.syspath_prepend(made)
    return made


def network() -> Classifier:
    return load_classifier(MODEL[1])


def seen(name: str = "photo.jpg") -> torch.Tensor:
    return network().preprocess(read_image(name))


def arrays(path: str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as read:
        return dict(read)


def error_of(arguments: list[str], capsys) -> str:
    """Run, expect exit code 2 and nothing but one line on stderr; return that line."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("captum-infomask: error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def new_files(folder: Path) -> list[str]:
    known = {"my_network_for_cli.py", "photo.jpg", "__pycache__"}
    return sorted(path.name for path in folder.iterdir() if path.name not in known)


# --- what is drawn and said ----------------------------------------------------------------------


def test_a_picture_alone_gives_its_overlay_and_its_numbers(folder, capsys):
    before = list(sys.path)
    assert main([*ONE, "--npz"]) == 0
    assert sys.path == before
    printed = capsys.readouterr()
    x = seen()
    log_p = network().network(x).detach().log_softmax(1)[0]
    target = int(log_p.argmax())
    label = ("cat", "dog", "cup")[target]
    assert new_files(folder) == [f"photo.{label}.npz", f"photo.{label}.png"]
    infomap = InfoMask(network().network).score_regions(x, target=target)
    made = arrays(f"photo.{label}.npz")
    np.testing.assert_array_equal(made["map"], infomap.attributions().mean(1)[0].numpy())
    np.testing.assert_array_equal(made["mask"], infomap.mask()[0, 0].numpy())
    np.testing.assert_array_equal(
        made["picture"], np.asarray(network().preprocess.frame(read_image("photo.jpg")))
    )
    assert (made["target"], made["label"], made["unit"]) == (target, label, "bits per pixel")
    bits = float(log_p[target]) / math.log(2) + math.log2(3)
    assert made["information_bits"] == pytest.approx(bits, abs=1e-5)

    corners = infomap.boxes()[0][0].tolist()
    box = ", ".join(map(str, corners))
    whole = ", ".join(map(str, network().preprocess.in_picture(corners, (600, 400))))
    total = float(infomap.attributions().mean(1).sum())
    assert printed.out.splitlines() == [
        f"photo.jpg: {label} (class {target}, the prediction), p(y | x) = "
        f"{float(log_p[target].exp()):.3f}",
        f"  InfoMask relay: i(y; x) = {bits:.2f} bits of at most 1.58; the map sums to "
        f"{total:.2f} bits",
        f"  mask: {made['mask'].mean():.1%} of the 48 x 48 pixels that the network sees",
        f"  box: {box} (x0, y0, x1, y1); in the picture's 600 x 400 pixels {whole}",
        f"  figure: photo.{label}.png",
        f"  arrays: photo.{label}.npz",
    ]
    assert printed.err == ""  # which is no terminal
    with Image.open(f"photo.{label}.png") as drawn:
        assert min(drawn.size) > 400


def test_several_pictures_and_targets_give_a_map_each(folder, capsys):
    Image.fromarray(sample_photo("rocket")).convert("RGBA").save("rocket.png")
    Image.fromarray(sample_photo("camera")).save("grey.jpg")
    turned = Image.fromarray(sample_photo("coffee")).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save("turned.png", exif=exif)
    pictures = ["photo.jpg", "rocket.png", "grey.jpg", "turned.png"]
    words = ["attribute", *pictures, *MODEL, "--target", "dog", "--target", "2", "--target", "Cup"]
    assert main([*words, "--view", "drop", "--window", "24", "--npz", "--out", "new/maps"]) == 0
    out = capsys.readouterr().out
    names = [f"{Path(name).stem}.{label}.drop" for name in pictures for label in ("dog", "cup")]
    assert sorted(path.stem for path in Path("new/maps").glob("*.png")) == sorted(names)
    assert re.findall(r"figure: new/maps/(.+)\.png", out) == names
    infomask = InfoMask(network().network)
    windows = {"sliding_window_shapes": (3, 24, 24), "strides": (3, 12, 12)}
    for picture in pictures:
        for target, label in ((1, "dog"), (2, "cup")):
            made = arrays(f"new/maps/{Path(picture).stem}.{label}.drop.npz")
            own = infomask.attribute(seen(picture), target=target, view="drop", **windows)
            np.testing.assert_allclose(made["map"], own.mean(1)[0], rtol=0, atol=1e-6)
    upright, plain = (arrays(f"new/maps/{name}.dog.drop.npz") for name in ("turned", "photo"))
    gap = np.abs(upright["picture"].astype(int) - plain["picture"].astype(int))
    assert gap.mean() < 3  # the JPEG's


@pytest.mark.parametrize("method", [name for name in METHOD_NAMES if name != "InfoMask"])
def test_every_method_of_a_comparison_may_stand_alone(method, folder, capsys):
    assert main([*ONE, "--target", "dog", "--method", method, "--npz", "--out", "made"]) == 0
    out = capsys.readouterr().out
    (file,) = Path("made").glob("*.npz")
    made = arrays(str(file))
    found = compare(network().network, seen(), 1, methods=[method], metrics=[])[method]
    if method != "InfoMask evidence":  # in a comparison it starts at the common fill
        np.testing.assert_allclose(made["map"], found.planes[0], rtol=0, atol=1e-6)
    assert str(made["unit"]).split(" per ")[0] == found.unit.split(" per ")[0]
    assert f"  {method}: i(y; x) = " in out
    word = method.removeprefix("InfoMask ")
    assert file.stem == f"photo.dog.{re.sub(r'[^A-Za-z0-9]+', '_', word).strip('_')}"


@pytest.mark.parametrize(
    ("words", "options", "name"),
    [
        (["--view", "auto"], {}, "photo.dog"),
        (["--view", "evidence", "--layer", "0"], {"view": "evidence", "layer": "0"}, ".evidence"),
        (["--method", "InfoMask crop", "--view", "crop"], {"view": "crop"}, ".crop"),
        (["--contrast", "cup"], {"contrast": 2}, ".not_cup"),
        (["--contrast", "runner_up", "--view", "evidence"],
         {"contrast": "runner_up", "view": "evidence"}, ".evidence.not_runner_up"),
        (["--sharpen", "superpixels", "--view", "relay", "--input-sizes", "48,64"],
         {"sharpen": "superpixels", "view": "relay", "input_sizes": [48, 64]}, ".relay"),
        (["--view", "chain", "--window", "24", "--stride", "24", "--seed", "3"],
         {"view": "chain", "sliding_window_shapes": (3, 24, 24), "strides": (3, 24, 24),
          "seed": 3}, ".chain"),
    ],
)  # fmt: skip
def test_what_infomask_is_told(words, options, name, folder, capsys):
    assert main([*ONE, "--target", "dog", "--npz", *words]) == 0
    out = capsys.readouterr().out
    (file,) = folder.glob("*.npz")
    assert file.stem.endswith(name)
    infomap = InfoMask(network().network).score_regions(seen(), target=1, **options)
    plane = infomap.attributions().mean(1)[0]
    np.testing.assert_allclose(arrays(str(file))["map"], plane, rtol=0, atol=1e-6)
    if "contrast" in options:
        other = ("cat", "dog", "cup")[int(infomap.contrast[0, 1])]
        assert f"not {other}: i(y; x) - i(y'; x) = {float(infomap.total):.2f} bits" in out


def test_the_mask_keeps_the_fraction_that_is_asked_for(folder, capsys):
    for view, fraction in (("drop", "0.9"), ("relay", "0.3")):
        words = ["--view", view, "--fraction", fraction, "--target", "dog", "--npz"]
        assert main([*ONE, *words]) == 0
        made = arrays(f"photo.dog.{view}.npz")
        largest = made["map"].max()
        expected = made["map"] >= np.float32(float(fraction)) * largest
        assert (made["mask"] == expected).mean() > 0.99
        assert f"mask: {made['mask'].mean():.1%} of the 48 x 48 pixels" in capsys.readouterr().out


def test_the_figure_shows_the_same_part_with_more_pixels(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "captum_infomask.cli.one_map.show",
        lambda shown, picture, **how: drawn.append((picture, how)) or show(shown, picture, **how),
    )
    preprocess = network().preprocess
    image = read_image("photo.jpg")
    image.resize((60, 40)).save("small.png")
    image.resize((600, 40)).save("wide.png")
    assert main(["attribute", "photo.jpg", "small.png", "wide.png", *MODEL, "--target", "dog"]) == 0
    (sharp, how), (small, _), (wide, _) = drawn
    assert (sharp.size, small.size, wide.size) == ((144, 144), (48, 48), (48, 48))
    gap = np.asarray(sharp.resize((48, 48)), int) - np.asarray(preprocess.frame(image), int)
    assert np.abs(gap).mean() < 4
    p = float(network().network(preprocess(image)).detach().softmax(1)[0, 1])
    bits = math.log2(3 * p)
    assert how["title"] == f"dog: p = {p:.3f}, {bits:.2f} bits (InfoMask relay)"
    assert how["unit"] == "bits per pixel"
    assert how["contour"] == MaxFraction(0.5)


def test_groups_are_targets(folder, capsys):
    assert main([*ONE, "--groups", "1;0,2", "--target", "1", "--npz", "--view", "drop"]) == 0
    assert "photo.jpg: cat and 1 more (class 1, " in capsys.readouterr().out
    own = InfoMask(network().network, groups=[[1], [0, 2]]).attribute(seen(), target=1, view="drop")
    made = arrays("photo.cat_and_1_more.drop.npz")
    np.testing.assert_allclose(made["map"], own.mean(1)[0], rtol=0, atol=1e-6)


def test_progress_reaches_the_end_unless_it_is_to_be_quiet(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shutil.copy("photo.jpg", "other.jpg")
    words = ["attribute", "photo.jpg", "other.jpg", *MODEL, "--target", "dog"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "Maps: 100%" in printed.err
    assert "2/2" in printed.err
    assert "Info Mask attribution: 100%" in printed.err
    assert printed.out.count("figure: ") == 2
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


# --- where it goes -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_one_map_may_go_to_a_file(suffix, folder, capsys):
    name = f"a map{suffix}"
    assert main([*ONE, "--out", name]) == 0
    assert capsys.readouterr().out.endswith(f"\n  figure: {name}\n")
    assert Path(name).read_bytes().startswith(KINDS[suffix.lower()])
    assert new_files(folder) == [name]


def test_a_file_is_for_one_map_and_a_folder_may_have_any_name(folder, capsys):
    two = [*ONE, "--target", "cat", "--target", "dog", "--out", "both.png"]
    assert "`--out` to be a folder for 2 maps; got both.png" in error_of(two, capsys)
    Path("both.png").mkdir()
    assert main(two) == 0
    assert sorted(path.name for path in Path("both.png").iterdir()) == [
        "photo.cat.png", "photo.dog.png",
    ]  # fmt: skip


def test_a_file_that_is_replaced_is_told(folder, capsys):
    words = [*ONE, "--target", "dog", "--npz"]
    assert main(words) == 0
    assert "replaced" not in capsys.readouterr().out
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "figure: photo.dog.png (replaced)\n" in out
    assert "arrays: photo.dog.npz (replaced)\n" in out


def test_pictures_of_one_name_do_not_replace_each_other(folder, capsys):
    Path("other").mkdir()
    shutil.copy("photo.jpg", "other/photo.jpg")
    shutil.copy("photo.jpg", "third.jpg")
    pictures = ["photo.jpg", "other/photo.jpg", "third.jpg"]
    assert main(["attribute", *pictures, *MODEL, "--target", "cat"]) == 0
    made = sorted(path.name for path in folder.glob("*.png"))
    assert made == ["photo-1.cat.png", "photo-2.cat.png", "third.cat.png"]
    capsys.readouterr()
    shutil.copy("photo.jpg", "photo-2.jpg")  # whose figure would be that of the second picture
    words = ["attribute", *pictures, "photo-2.jpg", *MODEL, "--target", "dog"]
    assert "what `--out` writes" in error_of(words, capsys)
    assert not list(folder.glob("*dog*"))


def test_any_class_name_can_be_drawn(folder, capsys):
    Path("names.txt").write_text("$x^{\n\u732b\na/b\x1b[2J\n", encoding="utf-8")
    words = [*ONE, "--categories", "names.txt", *(w for k in "012" for w in ("--target", k))]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert r"photo.jpg: a/b\x1b[2J (class 2, " in printed.out
    assert new_files(folder) == ["names.txt", "photo.1.png", "photo.a_b_2J.png", "photo.x.png"]


def test_classes_of_one_name_do_not_replace_each_other(folder):
    words = ["attribute", "photo.jpg", "--model", "my_network_for_cli:twins"]
    assert main([*words, *(word for k in "012" for word in ("--target", k))]) == 0
    made = sorted(path.name for path in folder.glob("*.png"))
    assert made == ["photo.2.png", "photo.Crane-1.png", "photo.crane-0.png"]


# --- what is refused, and what fails -------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "Grad-CAN"], "`--method`"),
        (["--method", "InfoMask evidense"], "Did you mean 'InfoMask evidence'"),
        (["--view", "crp"], "`--view`"),
        (["--view", "keep", "--method", "InfoMask crop"], "to name the same view"),
        (["--view", "crop", "--method", "Grad-CAM"], "`--view` with `--method` InfoMask; got Grad"),
        (["--contrast", "cup", "--method", "Occlusion"], "`--contrast` with `--method` InfoMask"),
        (["--sharpen", "superpixels", "--method", "Occlusion"], "`--sharpen`"),
        (["--input-sizes", "48", "--method", "Occlusion"], "`--input-sizes`"),
        (["--layer", "0", "--method", "Occlusion"], "InfoMask or Grad-CAM; got Occlusion"),
        (["--window", "8", "--method", "Grad-CAM"], "`--window` with `--method` InfoMask or Occl"),
        (["--stride", "8", "--method", "Integrated gradients"], "`--stride`"),
        (["--layer", "nope", "--method", "Grad-CAM"], "`layer`"),
        (["--contrast", "cart"], "Nearest: cat"),
        (["--target", "cat", "--target", "cart"], "Nearest: cat"),
        (["--head", "raw"], "`head`"),
        (["--seed", "-1"], "`seed`"),
        (["--fraction", "0"], "`fraction`"),
        (["--device", "tpu"], "`--device` to be one that PyTorch has here"),
        (
            ["--methods", "InfoMask"],
            "did you mean --method? (see captum-infomask attribute",
        ),
        (["--veiw=crop"], "unrecognized arguments: --veiw=crop; did you mean --view?"),
        (["--quiet", "other.jpg"], "other.jpg; write all pictures one after another"),
        (["--out", "missing/a.png"], "`--out` to be a file in a folder that exists"),
        (["--out", "a.html"], "`--out` to be a folder"),
        (
            ["--model", "."],
            "to be a folder that transformers' save_pretrained wrote, with config.json",
        ),
        (["--model", "photo.jpg"], "is a file. Give a file of weights as `weights` (on"),
    ],
)
def test_bad_arguments(words, told, folder, capsys):
    assert told in error_of([*ONE, *words], capsys)
    assert new_files(folder) == []


def test_a_bad_picture_is_known_before_the_network_is_made(folder, capsys, monkeypatch):
    monkeypatch.setattr("captum_infomask.cli.one_method.classifier_of", None)
    for bad in ("missing.jpg", "."):
        assert bad in error_of(["attribute", "photo.jpg", bad, *MODEL], capsys)


def test_a_damaged_picture_is_known_before_any_map(folder, capsys):
    Path("cut.jpg").write_bytes(Path("photo.jpg").read_bytes()[:2000])
    assert "cut.jpg" in error_of(["attribute", "photo.jpg", "cut.jpg", *MODEL], capsys)
    assert new_files(folder) == ["cut.jpg"]


def test_what_fails_on_one_picture_is_told_and_the_others_are_made(folder, capsys):
    Image.new("RGB", (60, 60)).save("dark.png")
    words = ["dark.png", "photo.jpg", "--model", "my_network_for_cli:fails_on_dark"]
    assert main(["attribute", *words, "--target", "dog", "--method", "Integrated gradients"]) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "Integrated gradients of dark.png failed: RuntimeError: too dark, too sad",
        "captum-infomask: 1 of 2 maps failed",
    ]
    assert printed.out.startswith("photo.jpg: dog")
    assert [path.name for path in folder.glob("*.dog.*")] == ["photo.dog.Integrated_gradients.png"]


# --- networks ------------------------------------------------------------------------------------


def test_a_checkpoint_of_ones_own_fills_a_network_of_timms(folder, capsys):
    torch.manual_seed(0)
    own = timm.create_model("test_resnet", num_classes=2).eval()
    state = {f"module.{name}": value for name, value in own.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 7}, "best.pth")
    Path("names.txt").write_text("sick\nhealthy\n")
    words = ["--model", "test_resnet", "--checkpoint", "best.pth", "--categories", "names.txt"]
    assert main(["attribute", "photo.jpg", *words, "--target", "healthy", "--npz"]) == 0
    picture = load_classifier("test_resnet", "best.pth").preprocess(read_image("photo.jpg"))
    p = float(own(picture).detach().softmax(1)[0, 1])
    assert f"healthy (class 1, {'not ' * (p < 0.5)}the prediction), p(y | x) = {p:.3f}" in (
        capsys.readouterr().out
    )
    assert arrays("photo.healthy.npz")["picture"].shape == (160, 160, 3)


@pytest.mark.parametrize("given", ["gradcam", "grad-cam", "GRAD CAM"])
def test_methods_and_views_are_taken_in_any_spelling(folder, given, capsys):
    assert main(["attribute", "photo.jpg", *MODEL, "--method", given, "--layer", "0"]) == 0
    assert "Grad-CAM" in capsys.readouterr().out
    assert main(["attribute", "photo.jpg", *MODEL, "--view", "Drop", "--window", "24"]) == 0
    assert "InfoMask drop" in capsys.readouterr().out
