# The adapter of transformers' classifiers, on toy networks and processors; no package is imported.
from __future__ import annotations

import copy
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from refused import refused
from torch import nn
from torchvision import transforms

from captum_infomask import InfoMask, run_dataset
from captum_infomask.adapters import huggingface
from captum_infomask.models.huggingface_models import HuggingFaceNetwork, names_its_labels
from captum_infomask.models.loading import as_classifier, load_classifier
from captum_infomask.models.preprocessing import Preprocess

PARTS = {"sliding_window_shapes": (3, 5, 5), "strides": (3, 5, 5)}
WEIGHT = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.7, -1.0]])


class ToyForImageClassification(nn.Module):
    """Logits of the mean colour, inside an object, as transformers' networks return them."""

    def __init__(self, labels=None, **config):
        super().__init__()
        labels = {1: "dog", 0: "cat"} if labels is None else labels
        self.config = SimpleNamespace(id2label=labels, **config)
        self.colours = nn.Linear(3, 2, bias=False)
        self.colours.weight.data.copy_(WEIGHT)
        self.eval()

    def forward(self, pixel_values):
        return {"logits": self.colours(pixel_values.mean((2, 3))), "loss": None}


class Processor:
    """Resizes to 6 × 8 pixels, and does to pixels what its settings say."""

    def __init__(self, **settings):
        self.size = {"height": 6, "width": 8}
        self.do_resize = self.do_rescale = self.do_normalize = True
        self.image_mean, self.image_std = [0.1, 0.2, 0.3], [0.5, 0.25, 0.125]
        vars(self).update(settings)

    def resized(self, image):
        return image.resize((8, 6), Image.Resampling.BILINEAR)

    def __call__(self, images, return_tensors):
        pixels = np.asarray(self.resized(images), float)
        if self.do_rescale:
            pixels = pixels * getattr(self, "rescale_factor", 1 / 255)
        if self.do_normalize:
            pixels = (pixels - np.asarray(self.image_mean)) / np.asarray(self.image_std)
        return {"pixel_values": torch.tensor(pixels).movedim(2, 0)[None]}


def photo(height=20, width=30):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_the_logits_and_the_names():
    model = ToyForImageClassification()
    made = huggingface(model)
    x = torch.rand(4, 3, 5, 5)
    torch.testing.assert_close(made.network(x), x.mean((2, 3)) @ WEIGHT.T)
    assert made.categories == ("cat", "dog")
    assert made.network.tower is model
    bits = InfoMask(made.network).score_regions(x, target=1, view="drop", **PARTS).total
    expected = (x.mean((2, 3)) @ WEIGHT.T).log_softmax(1)[:, 1] / np.log(2) + 1
    torch.testing.assert_close(bits, expected.detach())


def test_the_users_network_keeps_its_mode_and_precision():
    model = ToyForImageClassification().train().bfloat16()
    before = copy.deepcopy(model.state_dict())
    made = huggingface(model)
    assert model.training
    assert made.network.training
    assert made.network(torch.ones(1, 3, 2, 2).bfloat16()).dtype == torch.bfloat16
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_every_form_of_a_model_becomes_this_classifier():
    model = ToyForImageClassification()
    made = as_classifier(model)
    assert made.categories == ("cat", "dog")
    assert isinstance(made.network, HuggingFaceNetwork)
    own = Preprocess(4, 4)
    given = as_classifier(model, categories=["a", "b"], preprocess=own)
    assert (given.categories, given.preprocess) == (("a", "b"), own)


def test_who_names_labels():
    assert names_its_labels(ToyForImageClassification())
    assert not names_its_labels(ToyForImageClassification({0: "LABEL_0", 1: "LABEL_1"}))
    assert not names_its_labels(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("labels", "targets"),
    [({0: "dog", 1: "cat"}, [1, 0]), ({0: "LABEL_0", 1: "LABEL_1"}, [0, 1])],
)
def test_the_folders_of_a_data_set_are_found_by_the_configs_names(labels, targets, tmp_path):
    """If the config has none, the folders' names in their order are those of the outputs."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        photo().save(tmp_path / "data" / name / "one.png")
    model = ToyForImageClassification(labels, image_size=8)
    run = run_dataset(
        tmp_path / "data",
        model,
        tmp_path / "made",
        target="label",
        transform=transforms.Compose([transforms.Resize((8, 8)), transforms.ToTensor()]),
        view="drop",
        sliding_window_shapes=(3, 4, 4),
        strides=(3, 4, 4),
        workers=1,
        show_progress=False,
    )
    rows = {row["key"]: row["target"] for row in run.table.to_pylist()}
    assert [rows["cat/one.png"], rows["dog/one.png"]] == targets


def test_independent_labels_are_told():
    with pytest.warns(UserWarning, match=r"independent .*head='sigmoid'"):
        made = huggingface(ToyForImageClassification(problem_type="multi_label_classification"))
    assert made.categories == ("cat", "dog")


def of_kind(name, **config):
    settings = SimpleNamespace(id2label={0: "a", 1: "b"}, **config)
    return type(name, (nn.Module,), {"config": settings})()


def unnamed(labels):
    made = ToyForImageClassification()
    made.config.id2label = labels
    return made


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear(2, 2), ("`model`", "image classifier of transformers", "Linear")),
        (lambda x: x, ("`model`", "image classifier of transformers")),
        (of_kind("BertForSequenceClassification"), ("BertForSequenceClassification",)),
        (of_kind("CLIPModel"), ("CLIPModel", "adapters.zero_shot")),
        (of_kind("Siglip2Model"), ("Siglip2Model", "adapters.zero_shot")),
        (of_kind("SegformerForSemanticSegmentation"), ("adapters.area",)),
        (of_kind("DetrForObjectDetection"), ("adapters.detection",)),
        (
            of_kind("ViTForImageClassification", problem_type="regression"),
            ("regression", "Gaussian(sigma)"),
        ),
        (ToyForImageClassification({0: "age"}), ("regression", "1 output", "Gaussian(sigma)")),
        (unnamed(None), ("`model.config.id2label`", "{0: 'cat', 1: 'dog'}", "got None")),
        (unnamed({}), ("`model.config.id2label`", "got {}")),
        (unnamed(["cat", "dog"]), ("`model.config.id2label`", "['cat', 'dog']")),
        (unnamed({"cat": 0}), ("`model.config.id2label`", "{'cat': 0}")),
    ],
)
def test_what_is_no_classifier_is_refused(model, words):
    refused(words, lambda: huggingface(model))


def test_a_config_without_names_is_refused_wherever_networks_are_taken():
    refused(("`model.config.id2label`", "got None"), lambda: as_classifier(unnamed(None)))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, Preprocess(256, (224, 224))),
        ({"image_size": 384}, Preprocess(439, (384, 384))),
        ({"image_size": [28, 56], "num_channels": 1}, Preprocess(32, (28, 56), (0.5,), (0.25,))),
        ({"vision_config": SimpleNamespace(image_size=96)}, Preprocess(110, (96, 96))),
    ],
)
def test_without_a_processor_pictures_have_the_size_of_the_config(config, expected):
    assert huggingface(ToyForImageClassification(**config)).preprocess == expected


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"resample": 2},
        {"image_mean": 0.5, "image_std": 0.25},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [120] * 3, "image_std": [60] * 3},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
        {"size": SimpleNamespace(height=6, width=8, shortest_edge=None)},
    ],
)
def test_pixels_are_those_of_the_processor(settings):
    processor = Processor(**settings)
    made = huggingface(ToyForImageClassification(), processor).preprocess
    seen = processor(photo(), "pt")["pixel_values"]
    assert seen.std() > 0.05
    torch.testing.assert_close(made(photo()).double(), seen, rtol=1e-5, atol=1e-5)


class Both(Processor):
    """A processor of pictures and texts."""

    def __init__(self):
        self.image_processor = Processor()


def test_a_processor_of_pictures_and_texts():
    assert huggingface(ToyForImageClassification(), Both()).preprocess.shape == (3, 6, 8)


class Flipping(Processor):
    """Blue first."""

    def resized(self, image):
        return np.asarray(super().resized(image))[..., ::-1]


class Shifting(Processor):
    """Another part of the picture."""

    def resized(self, image):
        return super().resized(image.crop((60, 0, *image.size)))


class Tiling(Processor):
    """Two pictures out of one."""

    def __call__(self, images, return_tensors):
        return {"pixel_values": torch.zeros(2, 3, 6, 8)}


class Failing(Processor):
    """A processor that needs something else."""

    def __call__(self, images, return_tensors):
        raise RuntimeError("no words given")


@pytest.mark.parametrize(
    ("processor", "words"),
    [
        (Failing(), ("Failing", "it raises RuntimeError: no words given", "preprocess=")),
        (Processor(size=(6, 8)), ("Processor", "it raises TypeError", "preprocess=")),
        (Processor(do_normalize=True, image_mean=None), ("Processor", "it raises TypeError")),
        (Processor(resample=77), ("Processor", "it raises KeyError: 77")),
        (Flipping(), ("Flipping", "of 255 on average", "preprocess=")),
        (Shifting(), ("Shifting", "of 255 on average")),
        (Tiling(), ("Tiling", "preprocess=")),
        (Processor(size={"max_height": 4, "max_width": 4}), ("Processor", "max_height")),
        (Processor(size={"shortest_edge": 4, "longest_edge": 8}), ("longest_edge",)),
        (Processor(do_resize=False), ("resizes to nothing",)),
        ("vit", ("`processor`", "image processor", "'vit'")),
    ],
)
def test_a_processor_that_does_something_else_is_refused(processor, words):
    refused(words, lambda: huggingface(ToyForImageClassification(), processor))


CONFIG = {"architectures": ["ViTForImageClassification"], "model_type": "vit"}
WHOLE = {"config.json": CONFIG, "model.safetensors": ""}
INDEX = {"weight_map": {"a": "model-1.safetensors", "b": "../elsewhere.safetensors"}}


def folder_of(path, files):
    for name, content in files.items():
        (path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, ("config.json", "holds nothing")),
        ({"readme.md": ""}, ("config.json", "holds readme.md")),
        ({**WHOLE, "config.json": "{"}, ("config.json", "JSON")),
        ({**WHOLE, "config.json": []}, ("config.json", "names and values")),
        (
            {**WHOLE, "config.json": {**CONFIG, "auto_map": {"AutoModel": "mine.Mine"}}},
            ("auto_map", "mine.Mine", "never run", "module:function"),
        ),
        (
            {**WHOLE, "preprocessor_config.json": {"auto_map": {"AutoImageProcessor": "p.P"}}},
            ("preprocessor_config.json", "auto_map", "never run"),
        ),
        (
            {**WHOLE, "config.json": {**CONFIG, "attn_implementation": "someone/kernels"}},
            ("attn_implementation", "someone/kernels", "never run"),
        ),
        (
            {**WHOLE, "processor_config.json": {"image_processor": {"auto_map": {"A": "p.P"}}}},
            ("processor_config.json", "auto_map", "never run"),
        ),
        (
            {**WHOLE, "config.json": {**CONFIG, "parts": [{"_attn_implementation": "a/b"}]}},
            ("_attn_implementation", "a/b", "never run"),
        ),
        (
            {**WHOLE, "config.json": {**CONFIG, "quantization_config": {"quant_method": "x"}}},
            ("plain weights", "quantization_config"),
        ),
        ({"config.json": CONFIG}, ("model.safetensors", "it is missing")),
        (
            {"config.json": CONFIG, "pytorch_model.bin": ""},
            ("model.safetensors", "pytorch_model.bin", "not read", "save_pretrained"),
        ),
        (
            {"config.json": CONFIG, "model.safetensors.index.json": INDEX},
            ("model.safetensors.index.json", "../elsewhere.safetensors, model-1.safetensors"),
        ),
        ({**WHOLE, "adapter_config.json": {}}, ("adapter_config.json", "whole network")),
        (
            {**WHOLE, "config.json": {"architectures": ["CLIPModel"]}},
            ("CLIPModel", "adapters.zero_shot"),
        ),
        (
            {**WHOLE, "config.json": {"architectures": ["BertForMaskedLM"]}},
            ("BertForMaskedLM", "ForImageClassification"),
        ),
        ({**WHOLE, "config.json": {}}, ("no architectures",)),
        (
            {**WHOLE, "config.json": {"architecture": "resnet18", "num_classes": 4}},
            ("timm/resnet18", "`weights`"),
        ),
    ],
)
def test_a_folder_is_refused_before_it_is_loaded(files, words, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # importing it would raise
    given = folder_of(tmp_path, files)
    assert len(str(tmp_path)) < 120
    refused(words, lambda: load_classifier(given))


def test_without_transformers_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    given = folder_of(tmp_path, {**WHOLE, "preprocessor_config.json": {}})
    with pytest.raises(ModuleNotFoundError, match=r"captum-infomask\[huggingface\]"):
        load_classifier(given)


def test_a_folder_has_its_own_weights(tmp_path):
    given = folder_of(tmp_path, WHOLE)
    refused(("no `weights`", "own.pt"), lambda: load_classifier(given, "own.pt"))


def test_a_folder_without_a_processor_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    given = folder_of(tmp_path, WHOLE)
    told = pytest.warns(UserWarning, match=r"no preprocessor_config\.json.*as for ImageNet")
    with told, pytest.raises(ModuleNotFoundError):
        load_classifier(given)
