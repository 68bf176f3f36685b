# Image classifiers of transformers itself, small and with random weights; nothing is downloaded.
from __future__ import annotations

import json
import logging
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_networks import (
    CLASSIFIERS,
    CONVOLUTIONS,
    HAS_NEW_BEIT,
    LABELS,
    random_network,
    resnet,
    vit,
)
from PIL import Image

pytestmark = pytest.mark.slow
hf = pytest.importorskip("transformers")

from captum_infomask import ArgumentError, InfoMask  # noqa: E402
from captum_infomask.adapters import huggingface  # noqa: E402
from captum_infomask.cli import main  # noqa: E402
from captum_infomask.comparison.compare import compare  # noqa: E402
from captum_infomask.comparison.gradcam_layers import layer_map  # noqa: E402
from captum_infomask.dataset_run.manifest import preprocess_of  # noqa: E402
from captum_infomask.datasets import sample_photo  # noqa: E402
from captum_infomask.models.loading import load_classifier  # noqa: E402

EXACT = {"rtol": 0, "atol": 1e-10}
PARTS = {"sliding_window_shapes": (3, 16, 16), "strides": (3, 8, 8)}
PROCESSORS = ["Beit", "Bit", "CLIP", "ConvNext", "DeiT", "Siglip", "ViT"]


@pytest.fixture
def x():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def offline(monkeypatch):
    """No network: a connection would be an error."""

    own = socket.socket.connect

    def connect(self, *address):
        if self.family != socket.AF_UNIX:  # processes of this machine
            pytest.fail("it connects to a network")
        return own(self, *address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it looks up a host"))


@pytest.mark.parametrize("view", [None, "evidence", "drop", "crop"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_values_are_those_of_the_logits(name, view, x):
    if view == "evidence" and not HAS_NEW_BEIT and name in ("beit", "beit, class token"):
        pytest.skip("the positions of BEiT before version 5.9 hide its last map")
    model = random_network(name)
    options = {"target": 1, **({} if view is None else {"view": view})}
    options |= PARTS if view in ("drop", "crop") else {}
    made = InfoMask(huggingface(model).network).score_regions(x, **options)
    if view in ("drop", "crop"):
        own = InfoMask(lambda pictures: model(pictures).logits).score_regions(x, **options)
        torch.testing.assert_close(made.scores, own.scores, **EXACT)
    else:
        assert made.engine.startswith(view or "relay")
        sums = made.attributions()[:, 0].sum((1, 2))
        torch.testing.assert_close(sums, made.explained, rtol=0, atol=2e-3)
    with torch.no_grad():
        total = model(x).logits.log_softmax(1)[:, 1] / np.log(2) + np.log2(5)
    torch.testing.assert_close(made.total, total, **EXACT)
    assert made.scores.std() > 1e-5


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_run_incrementally(name):
    x = torch.rand(1, 3, 96, 96).double()
    info_mask = InfoMask(huggingface(random_network(name)).network)
    options = {"target": 1, "view": "drop", **PARTS}
    fast = info_mask.score_regions(x, engine="incremental", **options)
    plain = info_mask.score_regions(x, engine="batched", **options)
    assert fast.engine == "incremental"
    torch.testing.assert_close(fast.scores, plain.scores, **EXACT)
    assert plain.scores.std() > 1e-5


LAYERS = {"convnext": "tower.convnext.encoder.stages.3", "resnet": "tower.resnet.encoder.stages.3"}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_layer_of_grad_cam(name):
    network = huggingface(random_network(name)).network
    x = torch.rand(1, 3, 96, 96) if name in CONVOLUTIONS else torch.rand(1, 3, 32, 32)
    if name in LAYERS:
        found = layer_map(network, x.double())
        assert network.get_submodule(LAYERS[name]) is found.module
        assert not found.channels_last
    else:
        with pytest.raises(ArgumentError, match=r"layers work on tokens\..*layer="):
            layer_map(network, x.double())


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_compare_takes_it(name):
    made = huggingface(CLASSIFIERS[name]().eval())
    x = torch.rand(1, 3, 96, 96) if name == "resnet" else torch.rand(1, 3, 32, 32)
    found = compare(made.network, x, 2, metrics=[], categories=made.categories)
    assert found.labels == ("cup",)
    errors = {outcome.name: outcome.errors[0] for outcome in found.outcomes if outcome.failed}
    assert set(errors) == (set() if name == "resnet" else {"Grad-CAM"})
    assert all("its last layers work on tokens" in error for error in errors.values())


@pytest.mark.parametrize("backend", ["", "Pil"])
@pytest.mark.parametrize("name", PROCESSORS)
def test_pictures_are_prepared_as_by_the_processor(name, backend):
    kind = getattr(hf, f"{name}ImageProcessor{backend}", None)
    if kind is None:  # before version 5
        pytest.skip("one backend")
    for settings in ({}, {"size": {"shortest_edge": 160}} if name == "ConvNext" else {}):
        processor = kind(**settings)
        preprocess = huggingface(resnet(), processor).preprocess
        for photo in (sample_photo("coffee"), sample_photo("rocket")[:, 80:301]):
            picture = Image.fromarray(photo)
            seen = processor(images=picture, return_tensors="pt")["pixel_values"]
            apart = (seen - preprocess(picture)) * torch.tensor(preprocess.std)[:, None, None] * 255
            # Those that resize by Pillow are equal; tensors are resized up to rounding.
            assert apart.abs().max() < (0.01 if backend else 8)
            assert apart.abs().mean() < (0.001 if backend else 0.1)


def test_a_processor_that_does_more_is_refused():
    with pytest.raises(ArgumentError, match=r"EfficientNetImageProcessor.* differ by 50 of 255"):
        huggingface(resnet(), hf.EfficientNetImageProcessor())


def test_a_processor_without_a_cut_is_told():
    processor = hf.CLIPImageProcessor(do_center_crop=False)
    with pytest.warns(UserWarning, match=r"cuts nothing out .* 224 × 224"):
        assert huggingface(resnet(), processor).preprocess.shape == (3, 224, 224)


def test_grey_pictures():
    config = hf.ViTConfig(num_channels=1, hidden_size=8, num_attention_heads=2, image_size=32)
    processor = hf.ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.4], image_std=[0.2]
    )
    made = huggingface(hf.ViTForImageClassification(config).eval(), processor)
    grey = Image.fromarray(sample_photo("coffee")).convert("L")
    array = np.array(grey)[..., None]  # version 4 takes no pictures without channels
    seen = torch.as_tensor(processor(images=array, return_tensors="pt")["pixel_values"])
    torch.testing.assert_close(made.preprocess(grey), seen, rtol=0, atol=0.03)
    assert made.network(seen).shape == (1, 2)


def saved(folder: Path, model=None, processor=None) -> Path:
    (model or vit()).save_pretrained(folder)
    (processor or hf.ViTImageProcessor(size={"height": 32, "width": 32})).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_folder_is_loaded_from_this_machine_alone(name, tmp_path, offline, capfd):
    model = CLASSIFIERS[name]().eval()
    saved(tmp_path / "org" / name, model)
    capfd.readouterr()
    level, bars = hf.utils.logging.get_verbosity(), hf.utils.logging.is_progress_bar_enabled()
    state = torch.get_rng_state()
    made = load_classifier(str(tmp_path / "org" / name))
    assert torch.equal(state, torch.get_rng_state())
    assert hf.utils.logging.get_verbosity() == level
    assert hf.utils.logging.is_progress_bar_enabled() == bars
    assert capfd.readouterr() == ("", "")
    assert (made.name, made.categories) == (name, tuple(LABELS))
    assert made.preprocess.shape == (3, 32, 32)
    assert not any(module.training for module in made.network.modules())
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(made.network(x), model(x).logits)


def test_a_processor_of_pictures_and_texts_may_lie_in_the_folder(tmp_path):
    vit().save_pretrained(tmp_path / "vit")
    settings = hf.ViTImageProcessor(size={"height": 32, "width": 32}).to_dict()
    both = {"image_processor": settings, "processor_class": "CLIPProcessor"}
    (tmp_path / "vit" / "processor_config.json").write_text(json.dumps(both))
    assert load_classifier(str(tmp_path / "vit")).preprocess.resize == (32, 32)


def test_a_folder_keeps_its_precision_and_may_lie_in_parts(tmp_path, offline):
    vit().bfloat16().save_pretrained(tmp_path / "half", max_shard_size="20KB")
    names = {path.name for path in (tmp_path / "half").iterdir()}
    assert "model.safetensors.index.json" in names
    with pytest.warns(UserWarning, match=r"no preprocessor_config\.json"):
        made = load_classifier(str(tmp_path / "half"))
    assert {one.dtype for one in made.network.parameters()} == {torch.bfloat16}
    assert made.preprocess.shape == (3, 32, 32)
    (tmp_path / "half" / sorted(names)[2]).unlink()
    with pytest.raises(ArgumentError, match="is not in the folder"):
        load_classifier(str(tmp_path / "half"))


def test_weights_that_are_missing_are_never_made_up(tmp_path):
    saved(tmp_path / "vit")
    weights = __import__("safetensors.torch", fromlist=["x"])
    state = weights.load_file(tmp_path / "vit" / "model.safetensors")
    del state["classifier.weight"]
    weights.save_file(state, tmp_path / "vit" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArgumentError, match=r"1 are missing \(classifier\.weight\)"):
        load_classifier(str(tmp_path / "vit"))


def test_weights_of_another_shape_or_damaged(tmp_path):
    saved(tmp_path / "vit")
    config = json.loads((tmp_path / "vit" / "config.json").read_text())
    config["hidden_size"] = 16
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config))
    # Transformers 4 tells names alone.
    sizes = r" is \(.+\), not \(.*16.*\)" if int(hf.__version__[0]) > 4 else r"\.weight"
    with pytest.raises(ArgumentError, match=f"of another size .*{sizes}"):
        load_classifier(str(tmp_path / "vit"))
    (tmp_path / "vit" / "model.safetensors").write_bytes(b"none")
    with pytest.raises(ArgumentError, match="cannot be loaded"):
        load_classifier(str(tmp_path / "vit"))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    saved(tmp_path / "vit-folder")
    monkeypatch.chdir(tmp_path)
    for name in ("coffee", "camera", "rocket"):
        place = tmp_path / "pictures" / ("cup" if name == "coffee" else "tripod")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample_photo(name)).convert("RGB").save(place / f"{name}.jpg")
    return tmp_path


def test_the_command_line_compares(folder, offline, capfd):
    capfd.readouterr()
    words = ["compare", "pictures/cup/coffee.jpg", "--model", "./vit-folder", "--metrics", "none"]
    assert main([*words, "--target", "tabby cat", "--out", "made.html"]) == 0
    printed = capfd.readouterr()
    assert "Target: tabby cat (class 0" in printed.out
    assert "Model: vit-folder" in printed.out
    assert printed.err == ""
    page = (folder / "made.html").read_text(encoding="utf-8")
    assert "tabby cat" in page
    assert "--model ./vit-folder" in page


def test_the_command_line_draws_a_map(folder, capfd):
    capfd.readouterr()
    words = ["attribute", "pictures/cup/coffee.jpg", "--model", "vit-folder", "--target", "cup"]
    assert main(words) == 0
    assert "cup (class 2" in capfd.readouterr().out
    assert (folder / "coffee.cup.png").exists()


def test_the_command_line_runs_over_a_folder(folder, offline, capfd):
    capfd.readouterr()
    words = ["run", "--data", "pictures", "--model", "./vit-folder", "--out", "made"]
    assert main([*words, "--target", "label", "--workers", "1"]) == 0
    printed = capfd.readouterr()
    assert "Loading weights" not in printed.err
    from captum_infomask import load_run

    run = load_run(folder / "made")
    assert len(run) == 3
    own = load_classifier("./vit-folder").preprocess
    assert own.resize == (32, 32)
    assert preprocess_of(run.manifest["preprocess"]) == own
    frame = np.asarray(own.frame(Image.open(folder / "pictures" / "cup" / "coffee.jpg")))
    assert np.array_equal(run.picture("cup/coffee.jpg"), frame)
    assert set(run.table["target"].to_pylist()) == {2, 3}


@pytest.fixture
def labels_folder(folder) -> Path:
    model = vit()
    model.config.problem_type = "multi_label_classification"
    saved(folder / "labels", model)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "pictures/cup/coffee.jpg", "--metrics", "none", "--methods", "Occlusion"],
        ["attribute", "pictures/cup/coffee.jpg", "--target", "cup"],
        ["run", "--data", "pictures", "--out", "made", "--workers", "1"],
    ],
)
@pytest.mark.filterwarnings("always")
def test_the_command_line_advises_the_sigmoid_unless_it_is_given(words, labels_folder, capfd):
    words = [*words, "--model", "./labels"]
    capfd.readouterr()
    assert main([*words, "--head", "sigmoid"]) == 0
    assert "warning" not in capfd.readouterr().err
    shutil.rmtree("made", ignore_errors=True)
    assert main(words) == 0
    told = "labels of ViTForImageClassification are independent"
    assert capfd.readouterr().err.count(told) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--weights", "own.pt"], "no `weights` beside the folder ./vit-folder"),
        (["--target", "tabby"], "tabby cat"),
    ],
)
def test_the_command_line_explains(words, told, folder, capfd):
    capfd.readouterr()
    assert main(["compare", "pictures/cup/coffee.jpg", "--model", "./vit-folder", *words]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert told in printed.err
    assert printed.err.count("\n") == 1


def test_another_level_of_logging_is_kept(tmp_path):
    saved(tmp_path / "vit")
    before = hf.utils.logging.get_verbosity()
    hf.utils.logging.set_verbosity(logging.INFO)
    hf.utils.logging.disable_progress_bar()
    try:
        load_classifier(str(tmp_path / "vit"))
        assert hf.utils.logging.get_verbosity() == logging.INFO
        assert not hf.utils.logging.is_progress_bar_enabled()
    finally:
        hf.utils.logging.set_verbosity(before)
        hf.utils.logging.enable_progress_bar()
    assert "transformers" in sys.modules
