"""What users of Captum, pytorch-grad-cam and SHAP type first: it works, or the error helps."""

import copy
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refused import refused
from tiny import WINDOWS, Counting, Net, images

import captum_infomask
from captum_infomask import InfoMap, InfoMask

X = images(1)
IT = InfoMask(Net())
MAP = IT.score_regions(X, target=2, view="drop", **WINDOWS)


class ClassifierOutputTarget:
    """pytorch-grad-cam's, by its attributes."""

    def __init__(self, category):
        self.category = category


@pytest.mark.parametrize("view", ["Drop", "DROP", "drop"])
def test_a_view_has_its_name_whatever_the_case(view):
    found = IT.score_regions(X, target=2, view=view, **WINDOWS)
    assert found.view == "drop"
    assert torch.equal(found.scores, MAP.scores)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("occlusion", ("`view`", "view='drop'")),
        ("Grad-CAM", ("`view`", "view='evidence'", "compare(model, inputs, methods=")),
        ("integrated_gradients", ("`view`", "'Integrated gradients'")),
        ("SHAP", ("`view`", "view='chain'")),
        ("dropp", ("`view`", "Did you mean 'drop'?")),
        (3, ("`view`", "got 3")),
    ],
)
def test_a_method_that_is_no_view_is_told(view, words):
    network = Counting(Net())
    refused(words, lambda: InfoMask(network).attribute(X, target=1, view=view))
    assert network.calls == 0


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (X[0].permute(1, 2, 0).numpy(), "from_numpy(inputs).permute(2, 0, 1)[None]"),
        (X.numpy(), "from_numpy(inputs) makes"),
        (Image.new("RGB", (8, 8)), "to_tensor(inputs)[None]"),
        (Image.new("RGB", (8, 8)), "classifier.preprocess(inputs)"),
        ([X, X], "torch.cat(inputs)"),
        ([X[0], X[0]], "torch.stack(inputs)"),
        ([X, torch.ones(1, 5)], "tuple(inputs) are several inputs"),
        ({"pixel_values": X, "pixel_mask": torch.ones(1, 5)}, "inputs['pixel_values'] holds"),
        ((X, torch.ones(5)), "inputs[1][None] adds a batch dimension"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_inputs_of_another_kind_are_told_how_to_become_tensors(inputs, words):
    refused(("`inputs`", words), lambda: IT.attribute(inputs, target=1))


class ModelProto:
    """onnx's, by its method."""

    def SerializeToString(self):  # noqa: N802
        return b""


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("net.onnx", "onnxruntime.InferenceSession(path)"),
        (Path("net.onnx"), "onnxruntime.InferenceSession(path)"),
        (Path("net.pt"), "is no network yet"),
        (ModelProto(), "InferenceSession(model.SerializeToString())"),
    ],
)
def test_files_of_networks_are_told_what_runs_them(network, words):
    refused(("`forward_func`", words), lambda: InfoMask(network))


def test_one_predicted_value_is_told_its_head():
    words = ("head='sigmoid'", "head=Gaussian(sigma)", "head='raw'")
    refused(words, lambda: InfoMask(lambda x: x.mean((1, 2, 3))).attribute(X, view="drop"))


def test_videos_with_frames_first_are_told():
    """As networks of transformers take them; without a warning, frames would be channels."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv3d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1)]
    net = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
    clip = torch.rand(1, 3, 6, 8, 8)
    frames_first = InfoMask(lambda x: net(x.transpose(1, 2)))
    with pytest.warns(UserWarning, match=r"\(1, 6, 3, 8, 8\).*inputs.transpose\(1, 2\)"):
        found = frames_first.attribute(clip.transpose(1, 2), target=1)
    assert found.shape == (1, 6, 3, 8, 8)
    # What the warning says to write: the network for the moved inputs is itself once more.
    moved = InfoMask(lambda x: frames_first.forward_func(x.transpose(1, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bits = moved.attribute(clip, target=1)
    assert bits.shape == clip.shape
    assert torch.allclose(bits, InfoMask(net).attribute(clip, target=1), atol=1e-6)


def test_what_the_errors_say_to_write_works():
    array = X[0].permute(1, 2, 0).numpy()
    assert torch.equal(torch.from_numpy(array).permute(2, 0, 1)[None], X)
    assert IT.attribute(torch.cat([X, X]), target=1, view="drop").shape == (2, 3, 8, 8)


def test_a_target_of_pytorch_grad_cam_is_told_its_number():
    for target in (ClassifierOutputTarget(3), [ClassifierOutputTarget(3)]):
        refused(("`target`", "target=3."), lambda target=target: IT.attribute(X, target=target))


def test_a_feature_mask_of_numpy_is_told():
    mask = np.zeros((8, 8), np.int64)
    refused(("`feature_mask`", "from_numpy"), lambda: IT.attribute(X, feature_mask=mask, target=1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_layers": []}, "layer="),
        ({"aug_smooth": True}, "sharpen="),
        ({"labels": ["a"]}, "categories="),
        ({"input_tensor": X}, "inputs"),
        ({"targets": 1}, "target"),
    ],
    ids=str,
)
def test_arguments_of_other_packages_are_told(options, words):
    with pytest.raises(TypeError, match=words):
        IT.attribute(X, **options)


def test_a_call_of_few_arguments_names_them_all():
    with pytest.raises(TypeError, match=r"'slice'\. It takes alpha, at, .*, unit\.$"):
        captum_infomask.show(MAP, slice=3)
    with pytest.raises(TypeError, match=r"'slice'\.$"):  # too many to name
        IT.attribute(X, target=1, slice=3)


def test_occlusions_order_is_told():
    words = "'target' by place and by name. By place it takes inputs, baselines, target"
    with pytest.raises(TypeError, match=words):
        IT.attribute(X, (3, 4, 4), (3, 2, 2), target=1)


@pytest.mark.parametrize(
    ("owner", "name", "words"),
    [
        (IT, "shap_values", "attribute"),
        (IT, "visualize", "show"),
        (MAP, "values", "scores"),
        (MAP, "plot", "figure"),
        (MAP, "base_values", "blank"),
        (MAP, "to_nifti", "export"),
    ],
)
def test_names_of_other_packages_are_told(owner, name, words):
    assert not hasattr(owner, name)
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'\. .*{words}") as caught:
        getattr(owner, name)
    assert (caught.value.name, caught.value.obj) == (name, owner)
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        owner.nothing  # noqa: B018
    again = copy.deepcopy(owner)
    assert type(again) is type(owner)
    assert isinstance(pickle.loads(pickle.dumps(MAP)), InfoMap)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.npy", "a.PNG"])
def test_save_refuses_the_endings_of_export(name, tmp_path):
    refused(("`path`", "safetensors", "export(path)"), lambda: MAP.save(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_a_page_takes_the_pictures_that_show_takes(tmp_path):
    exact = torch.randint(2, (8, 8, 3), generator=torch.Generator().manual_seed(0)).numpy()
    array = np.uint8(255 * exact)
    x = torch.from_numpy(exact).permute(2, 0, 1)[None].float()
    pages = []
    for picture in (Image.fromarray(array), array, x, x[0], x.bfloat16(), None):
        MAP.to_html(tmp_path / "map.html", picture)
        pages.append((tmp_path / "map.html").read_bytes())
    assert pages[:-1] == pages[:1] * 5
    assert pages[-1] != pages[0]
    refused(("`picture`", "8 × 8"), lambda: MAP.to_html(tmp_path / "b.html", x[..., :4]))
    refused(("`picture`", "alone"), lambda: MAP.to_html(tmp_path / "b.html", (X, X)))


def test_an_infomap_is_no_array():
    for call in (np.asarray, np.array, np.mean):
        with pytest.raises(TypeError, match="attributions"):
            call(MAP)


def test_a_misspelt_name_of_the_package_is_told_by_python():
    with pytest.raises(AttributeError, match="no attribute 'Infomask'") as caught:
        captum_infomask.Infomask  # noqa: B018
    assert caught.value.name == "Infomask"
    assert caught.value.obj is captum_infomask
