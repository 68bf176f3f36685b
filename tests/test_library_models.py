# Networks of timm by name, checkpoints as training scripts save them, and what is no model's name.
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import nn
from torchvision import models

from captum_infomask import ArgumentError
from captum_infomask.models.imagenet import imagenet_categories
from captum_infomask.models.loading import as_classifier, load_classifier
from captum_infomask.models.preprocessing import Preprocess

PIXELS = np.random.default_rng(0).integers(0, 256, (260, 300, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def saved(network: nn.Module, path: Path, wrap: str | None = None, prefix: str = "") -> Path:
    state = {f"{prefix}{name}": value for name, value in network.state_dict().items()}
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save({wrap: state, "epoch": 3} if wrap else state, path)
    return path


@pytest.mark.parametrize(
    ("name", "file", "wrap", "prefix"),
    [
        ("test_vit", "own.pt", None, ""),
        ("test_resnet", "own.pth", "state_dict", "module."),
        ("timm/test_byobnet", "own.ckpt", "model", ""),
        ("test_efficientnet.r160_in1k", "own.safetensors", None, "module."),
    ],
)
def test_timms_network_with_a_file(name, file, wrap, prefix, tmp_path):
    short = name.removeprefix("timm/")
    torch.manual_seed(1)
    network = timm.create_model(short, num_classes=5).eval()
    path = saved(network, tmp_path / file, wrap, prefix)
    state = torch.get_rng_state()
    made = load_classifier(name, path, ["a", "b", "c", "d", "e"])
    assert torch.equal(state, torch.get_rng_state())
    assert (made.name, made.weights, made.categories) == (short, str(path), tuple("abcde"))
    assert not any(module.training for module in made.network.modules())
    seen = create_transform(**resolve_data_config(model=network), is_training=False)(PICTURE)
    torch.testing.assert_close(made.preprocess(PICTURE)[0], seen, rtol=0, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(made.network(seen[None]), network(seen[None]))


def test_a_name_that_both_have_is_torchvisions(tmp_path):
    path = saved(timm.create_model("resnet18"), tmp_path / "own.pt")
    ours, theirs = load_classifier("resnet18", path), load_classifier("timm/resnet18", path)
    assert type(ours.network).__module__.startswith("torchvision.")
    assert type(theirs.network).__module__.startswith("timm.")
    assert ours.categories == theirs.categories == imagenet_categories()
    assert (ours.preprocess.resize, theirs.preprocess.resize) == (256, 235)


def test_two_last_layers_of_a_distilled_network(tmp_path):
    name = "deit_tiny_distilled_patch16_224"
    path = saved(timm.create_model(name, num_classes=4), tmp_path / "own.pt")
    assert load_classifier(name, path).categories == ("0", "1", "2", "3")


def test_a_network_of_timms_is_prepared_as_timm_says():
    made = as_classifier(timm.create_model("test_vit", num_classes=2).eval())
    assert made.preprocess.shape == (3, 160, 160)
    assert made.preprocess.mean == (0.5, 0.5, 0.5)
    plain = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    assert as_classifier(plain).preprocess == Preprocess()


def test_a_way_of_cutting_out_that_is_not_ours_is_told():
    network = timm.create_model("test_vit", num_classes=2).eval()
    network.pretrained_cfg["crop_mode"] = "squash"
    with pytest.warns(UserWarning, match="crop_mode='squash'; here the centre"):
        assert as_classifier(network).preprocess.crop == (160, 160)


@pytest.mark.parametrize("wrap", ["state_dict", "model"])
def test_torchvisions_network_with_a_trainings_checkpoint(wrap, tmp_path):
    network = models.squeezenet1_1(num_classes=3).eval()
    path = saved(network, tmp_path / "last.pt", wrap, "module.")
    made = load_classifier("squeezenet1_1", path)
    assert made.categories == ("0", "1", "2")
    assert all(
        torch.equal(a, b)
        for a, b in zip(made.network.parameters(), network.parameters(), strict=True)
    )


@pytest.fixture
def other(tmp_path) -> Path:
    return saved(timm.create_model("test_vit"), tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("spec", "has_file", "words"),
    [
        ("test_vit", False, r"`weights` to be a local file .* test_vit; .*pretrained=True"),
        ("test_resnet", True, r"`weights` to hold the \d+ tensors of ResNet"),
        ("test_vit.no_such_tag", True, r"made by timm; got: Invalid pretrained tag"),
        ("timm/no_such_network", True, r"`model`.*no_such_network"),
        ("vit_tiny_patch16_225", True, r"Nearest: .*vit_tiny_patch16_224"),
    ],
)
def test_what_is_no_network_of_timms(spec, has_file, words, other):
    with pytest.raises(ArgumentError, match=words):
        load_classifier(spec, other if has_file else None)


def test_without_timm_its_names_are_unknown(monkeypatch, other):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "timm" else find(name)
    )
    with pytest.raises(ArgumentError, match="pip install timm"):
        load_classifier("timm/test_vit", other)
    with pytest.raises(ArgumentError, match="to be a model"):
        load_classifier("test_vit", other)


def test_a_path_is_no_model(tmp_path, other):
    with pytest.raises(ArgumentError, match=r"with config\.json; .* holds other\.pt"):
        load_classifier(str(tmp_path))
    with pytest.raises(ArgumentError, match=r"no/such does not exist"):
        load_classifier("./no/such")
    with pytest.raises(ArgumentError, match=r"is a file\. Give a file of weights as `weights`"):
        load_classifier(str(other))
