# compare(): what it runs, what it finds, and what stays whole when a part of it fails.
from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, Occlusion
from PIL import Image
from small_net import SmallNet
from tiny import Net, images, randomise
from torch import Tensor, nn

from captum_infomask import (
    ArgumentError,
    AtLeast,
    InfoMask,
    MaxFraction,
    compare,
    default_methods,
    grid,
    max_box_acc,
    threshold_mask,
)
from captum_infomask.views.choose_view import ViewName

WINDOWS = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)}
QUICK = {"metrics": []}


class Tokens(nn.Module):
    """A small vision transformer: a convolution, then tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)
        randomise(self, scale=0.3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.mix(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(tokens.tanh().mean(1))


@pytest.fixture
def network() -> nn.Module:
    return SmallNet(dtype=torch.float32).eval()


def constant(value: float):
    """A method that gives every pixel the same value."""
    return lambda model, inputs, target: torch.full_like(inputs, value)


# --- what is run -------------------------------------------------------------------------------


@pytest.mark.parametrize("view", get_args(ViewName))
def test_every_view_is_a_method_by_its_name(network, view):
    x, fill = images(2), 0.3
    name = f"InfoMask {view}"
    found = compare(network, x, [2, 0], methods=[name], baselines=fill, **WINDOWS, **QUICK)
    options = {} if view in ("evidence", "relay") else WINDOWS
    if view not in ("crop", "features"):
        options = {**options, "baselines": fill}
    own = InfoMask(network).attribute(x, target=torch.tensor([2, 0]), view=view, **options)
    torch.testing.assert_close(torch.from_numpy(found[name].planes), own.mean(1))
    assert found[name].unit == ("bits per pixel" if view in ("evidence", "relay") else "bits")


def test_the_default_methods_are_what_their_names_say(network):
    x = images(1)
    found = compare(network, x, 2, **WINDOWS, **QUICK)
    assert found.names == (
        "InfoMask",
        "InfoMask drop",
        "Grad-CAM",
        "Occlusion",
        "blurred noise (control)",
        "centred blob (control)",
    )
    planes = [torch.from_numpy(outcome.planes[0]) for outcome in found.outcomes]
    ours = InfoMask(network)
    torch.testing.assert_close(planes[0], ours.attribute(x, target=2)[0, 0])
    expected = ours.attribute(x, target=2, view="drop", **WINDOWS)[0, 0]
    torch.testing.assert_close(planes[1], expected)
    coarse = LayerGradCam(network, network.second).attribute(x, 2, relu_attributions=True).detach()
    fine = nn.functional.interpolate(coarse, (8, 8), mode="bilinear")
    torch.testing.assert_close(planes[2], fine[0, 0])
    nats = Occlusion(lambda x: network(x).log_softmax(1)).attribute(x, target=2, **WINDOWS)
    torch.testing.assert_close(planes[3], nats[0, 0], rtol=1e-4, atol=1e-5)
    # The identity that the text states: drop is Occlusion of log p, in bits instead of nats.
    torch.testing.assert_close(planes[1] * math.log(2), planes[3], rtol=1e-4, atol=1e-5)
    assert min(float(plane.std()) for plane in planes) > 0.001
    assert [outcome.unit for outcome in found.outcomes[:4]] == [
        "bits per pixel", "bits", "a.u.", "nats"
    ]  # fmt: skip
    assert planes[5].argmax() in (27, 28, 35, 36)  # the middle of 8 × 8
    assert planes[4].max() <= 1
    assert found.reference == "InfoMask"


def test_windows_are_infomasks_own_where_none_are_given(network):
    x = images(1, height=16, width=24)
    found = compare(network, x, 1, methods=["InfoMask drop", "Occlusion"], **QUICK)
    own = InfoMask(network).attribute(x, target=1, view="drop")[0, 0]
    torch.testing.assert_close(torch.from_numpy(found["InfoMask drop"].planes[0]), own)
    passes = [outcome.forward_passes[0] for outcome in found.outcomes]
    assert passes == [50, 50]  # 7 × 7 windows and the picture


def test_hidden_pixels_become_the_same_for_all(network):
    x, fill = images(1), torch.rand(1, 3, 8, 8)
    found = compare(
        network, x, 2, methods=["InfoMask drop", "Occlusion"], baselines=fill, **WINDOWS
    )
    own = InfoMask(network).attribute(x, fill, 2, view="drop", **WINDOWS)[0, 0]
    zero = InfoMask(network).attribute(x, 0, 2, view="drop", **WINDOWS)[0, 0]
    drop, occlusion = (torch.from_numpy(outcome.planes[0]) for outcome in found.outcomes)
    torch.testing.assert_close(drop, own)
    assert (drop - zero).abs().max() > 0.05
    torch.testing.assert_close(drop * math.log(2), occlusion, rtol=1e-4, atol=1e-5)
    # Deletion ends at the fill, and insertion begins there.
    p = float(network(fill).softmax(1)[0, 2].detach())
    assert found["Occlusion"].curves["deletion"][0][-1] == pytest.approx(p, abs=1e-6)
    assert found["Occlusion"].curves["insertion"][0][0] == pytest.approx(p, abs=1e-6)
    assert ("Fill", "the picture given as `baselines`") in found.settings


def test_a_transformer_gets_other_methods_beside_the_error():
    found = compare(Tokens().eval(), images(1), 0, **WINDOWS, **QUICK)
    assert found.names[2:5] == ("Grad-CAM", "Input x gradient", "Integrated gradients")
    assert "its last layers work on tokens" in found["Grad-CAM"].error
    assert [name for name in found.names if found[name].failed] == ["Grad-CAM"]
    assert found["Integrated gradients"].planes.std() > 0
    named = compare(Tokens().eval(), images(1), 0, methods="Grad-CAM", layer="patches", **QUICK)
    assert not named["Grad-CAM"].failed


def test_a_function_is_a_model_without_layers(network):
    found = compare(lambda x: network(x) * 1, images(1), **WINDOWS, **QUICK)
    assert "needs a torch.nn.Module" in found["Grad-CAM"].error
    plain = compare(network, images(1), **WINDOWS, **QUICK)
    assert np.array_equal(found["Occlusion"].planes, plain["Occlusion"].planes)


# --- what is found -----------------------------------------------------------------------------


def test_predictions_information_and_names(network):
    x = images(3)
    log_p = network(x).detach().double().log_softmax(1)
    found = compare(network, x, methods={"one": constant(1.0)}, categories=tuple("abcd"), **QUICK)
    best = log_p.argmax(1)
    assert found.targets.tolist() == found.predictions.tolist() == best.tolist()
    assert found.labels == tuple("abcd"[k] for k in best)
    np.testing.assert_allclose(
        found.information, log_p.max(1).values.numpy() / math.log(2) + 2, atol=1e-5
    )
    other = (best + 1) % 4
    asked = compare(network, x, other, methods={"one": constant(1.0)}, **QUICK)
    assert asked.targets.tolist() == other.tolist()
    assert asked.labels[0] == f"class {int(other[0])}"
    np.testing.assert_allclose(
        asked.log_probabilities, log_p.gather(1, other[:, None])[:, 0].numpy(), atol=1e-5
    )
    for form in (other.tolist(), other.numpy(), [(int(k),) for k in other]):
        assert (
            compare(network, x, form, methods={"one": constant(1.0)}, **QUICK).targets.tolist()
            == other.tolist()
        )


@pytest.mark.parametrize(
    ("methods", "share"),
    [
        (["InfoMask", "Grad-CAM"], 0.5),
        (["Grad-CAM", "Occlusion"], 0.2),
        (["InfoMask drop", "InfoMask crop"], 0.2),
        (["InfoMask evidence"], 0.5),
    ],
    ids=str,
)
def test_masks_are_cut_at_what_suits_the_maps(network, methods, share):
    found = compare(network, images(1), 0, methods=methods, **QUICK)
    assert found.rule == MaxFraction(share)
    for outcome in found.outcomes:
        plane = torch.from_numpy(outcome.planes)[:, None]
        assert torch.equal(threshold_mask(plane, found.rule)[:, 0], torch.from_numpy(outcome.masks))
    own = InfoMask(network)
    windows = {"regions": grid(images(1), 2, 2)}
    of_regions = compare(network, images(1), 0, methods={"own": (own, windows)}, **QUICK)
    assert of_regions.rule == MaxFraction(0.2)
    assert compare(network, images(1), 0, rule=MaxFraction(0.2), **QUICK).rule == MaxFraction(0.2)


def test_masks_are_cut_by_the_rule(network):
    values = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    for rule in (MaxFraction(0.5), AtLeast(0.9)):
        found = compare(
            network, images(1), 0, methods={"v": lambda m, x, y: values}, rule=rule, **QUICK
        )
        want = threshold_mask(values, rule)[0, 0].numpy()
        assert (found["v"].masks[0] == want).all()
        assert found["v"].share.tolist() == [want.mean()]
        assert found["v"].largest.tolist() == [1]
    nothing = compare(network, images(1), 0, methods={"v": constant(-1.0)}, **QUICK)
    assert nothing["v"].share.tolist() == [0]  # and no warning


def test_channels_are_averaged_and_coarse_maps_enlarged(network):
    x = images(1)
    fine = torch.rand(1, 3, 8, 8)
    coarse = torch.rand(1, 1, 2, 2)
    found = compare(
        network,
        x,
        0,
        methods={"fine": lambda m, x, y: fine, "coarse": lambda m, x, y: (coarse,)},
        **QUICK,
    )
    np.testing.assert_allclose(found["fine"].planes[0], fine.mean(1)[0].numpy())
    want = nn.functional.interpolate(coarse, (8, 8), mode="bilinear")[0, 0]
    np.testing.assert_allclose(found["coarse"].planes[0], want.numpy(), atol=1e-6)


def test_metrics_are_asked_with_the_sample_and_seed(network):
    x, seen = images(2), []

    def own(sample):
        seen.append(sample)
        return float(sample.plane.max())

    found = compare(
        network, x, [1, 2], methods={"a": constant(3.0), "b": constant(5.0)},
        metrics={"largest": own, "again": own}, seed=7,
    )  # fmt: skip
    assert found["a"].metrics["largest"].tolist() == [3, 3]
    assert found["b"].metrics["largest"].tolist() == [5, 5]
    assert [sample.target for sample in seen[::2]] == [1, 1, 2, 2]
    assert {sample.seed for sample in seen} == {7}
    assert torch.equal(seen[4].inputs, x[1:])
    assert torch.equal(seen[0].attribute(x[:1]), torch.full((1, 3, 8, 8), 3.0))
    assert seen[0].truth is None


def test_truth_reaches_metrics_and_the_result(network):
    truth = torch.zeros(2, 8, 8, dtype=torch.bool)
    truth[:, :4] = True
    top = torch.zeros(1, 1, 8, 8)
    top[:, :, :4] = 1
    found = compare(
        network, images(2), 0, ground_truth=truth,
        methods={"top": lambda m, x, y: top, "bottom": lambda m, x, y: 1 - top},
        metrics=["pointing_game", "iou"],
    )  # fmt: skip
    assert (found.truth == truth.numpy()).all()
    assert found["top"].metrics["iou"].tolist() == [1, 1]
    assert found["bottom"].metrics["iou"].tolist() == [0, 0]
    assert found["bottom"].metrics["pointing_game"].tolist() == [0, 0]
    labels = truth.long() * 3
    by_label = compare(
        network, images(2), 3, ground_truth=labels, methods={"top": constant(1.0)}, metrics="iou"
    )
    assert (by_label.truth == truth.numpy()).all()


def test_differences_are_paired_with_the_reference(network):
    x = images(10)
    methods = {
        "a": lambda m, x, y: torch.full_like(x, 1.0),
        "b": lambda m, x, y: torch.full_like(x, 3.0),
        "InfoMask": (InfoMask(network), WINDOWS),
    }
    metrics = {"largest": lambda sample: float(sample.plane.max())}
    found = compare(network, x, 0, methods=methods, metrics=metrics, reference="a")
    assert found["a"].differences == {}
    gap = found["b"].differences["largest"]
    assert (gap.mean, gap.low, gap.high) == (2, 2, 2)
    default = compare(network, x, 0, methods=methods, metrics=metrics)
    assert default.reference == "InfoMask"
    ours = default["InfoMask"].metrics["largest"]
    gap = default["a"].differences["largest"]
    assert gap.mean == pytest.approx(1 - ours.mean())
    assert gap.low < gap.mean < gap.high
    nobody = compare(network, x[:1], 0, methods={"a": constant(1.0)}, metrics=metrics)
    assert nobody.reference == ""


def test_agreement_is_between_the_methods_that_gave_maps(network):
    ramp = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    found = compare(
        network, images(2), 0, **QUICK,
        methods={
            "up": lambda m, x, y: ramp,
            "fails": lambda m, x, y: 1 / 0,
            "down": lambda m, x, y: -ramp,
        },
    )  # fmt: skip
    spearman, iou = found.agreement
    assert spearman.names == iou.names == ("up", "down")
    np.testing.assert_allclose(spearman.values, [[1, -1], [-1, 1]])
    np.testing.assert_allclose(iou.values, [[1, 0], [0, 1]])


# --- failures ----------------------------------------------------------------------------------


def test_one_methods_failure_does_not_lose_the_others(network):
    x = images(3)

    def second(model, inputs, target):
        if torch.equal(inputs, x[1:2]):
            raise RuntimeError("no\nanswer")
        return inputs

    methods = default_methods(network, x, **WINDOWS)
    whole = compare(network, x, 1, methods=methods)
    found = compare(network, x, 1, methods={"second": second, **methods})
    assert found["second"].errors == ("", "RuntimeError: no answer", "")
    assert "on 1 of 3 pictures, first on picture 1: RuntimeError" in found["second"].error
    assert np.isnan(found["second"].planes[1]).all()
    assert not np.isnan(found["second"].planes[[0, 2]]).any()
    assert not found["second"].failed
    assert np.isnan(found["second"].metrics["deletion"]).tolist() == [False, True, False]
    for name in whole.names:
        assert np.array_equal(whole[name].planes, found[name].planes)
        for metric in ("deletion", "insertion"):
            assert np.array_equal(whole[name].metrics[metric], found[name].metrics[metric])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: None, "Expected attributions of shape"),
        (lambda x: x[0], "Expected attributions of shape"),
        (lambda x: torch.cat([x, x]), "Expected attributions of shape"),
        (lambda x: (x, x), "Expected attributions of shape"),
        (lambda x: torch.full_like(x, torch.nan), "finite attributions"),
    ],
)
def test_answers_that_are_no_maps_are_errors(answer, words, network):
    found = compare(network, images(1), 0, methods={"odd": lambda m, x, y: answer(x)}, **QUICK)
    assert words in found["odd"].error


def test_a_metrics_failure_is_a_gap_that_is_told(network):
    def fails(sample):
        raise RuntimeError("too dark")

    found = compare(
        network, images(2), 0, methods={"a": constant(1.0)},
        metrics={"mine": fails, "ten": lambda sample: 10.0},
    )  # fmt: skip
    assert np.isnan(found["a"].metrics["mine"]).all()
    assert found["a"].metrics["ten"].tolist() == [10, 10]
    assert found.troubles == ("No mine of a on picture 0: RuntimeError: too dark",)
    assert not found["a"].error


def test_interrupting_is_no_failure_of_a_method(network):
    def interrupt(model, inputs, target):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(network, images(1), 0, methods={"slow": interrupt})


# --- the same again ----------------------------------------------------------------------------


def random_methods():
    return {
        "torch": lambda m, x, y: torch.rand(1, 1, 8, 8),
        "numpy": lambda m, x, y: torch.from_numpy(np.random.rand(1, 1, 8, 8)),
    }


def test_the_seed_decides_and_nothing_else(network):
    x = images(2)
    first = compare(network, x, 0, methods=random_methods(), seed=3)
    torch.rand(5), np.random.rand(5)
    again = compare(network, x, 0, methods=random_methods(), seed=3)
    other = compare(network, x, 0, methods=random_methods(), seed=4)
    for name in first.names:
        assert np.array_equal(first[name].planes, again[name].planes)
        assert np.array_equal(first[name].metrics["deletion"], again[name].metrics["deletion"])
        assert not np.array_equal(first[name].planes, other[name].planes)


def test_a_batch_gives_what_its_pictures_give_alone(network):
    x, fills = images(3), torch.rand(3, 3, 8, 8)
    methods = {
        **default_methods(network, x, **WINDOWS),
        **random_methods(),
        "own fill": (Occlusion(network), {**WINDOWS, "baselines": fills}),
    }
    batch = compare(network, x, [0, 1, 2], methods=methods)
    for k in range(3):
        methods["own fill"] = (Occlusion(network), {**WINDOWS, "baselines": fills[k : k + 1]})
        alone = compare(network, x[k : k + 1], k, methods=methods)
        for name in batch.names:
            assert np.array_equal(batch[name].planes[k], alone[name].planes[0]), name
            assert np.array_equal(batch[name].masks[k], alone[name].masks[0])
            passes = batch[name].forward_passes[k], alone[name].forward_passes[0]
            assert np.array_equal(*passes, equal_nan=True)
            for metric in ("deletion", "insertion"):
                assert batch[name].metrics[metric][k] == alone[name].metrics[metric][0]
        assert batch.information[k] == alone.information[0]
    assert np.abs(np.diff(batch["own fill"].planes, axis=0)).max() > 0.01


def test_pictures_to_show(network):
    x = images(2)
    made = compare(network, x, 0, methods={"a": constant(1.0)}, **QUICK).pictures
    assert made.shape == (2, 8, 8, 3)
    assert made.dtype == np.uint8
    assert [picture.min() for picture in made] == [0, 0]
    assert [picture.max() for picture in made] == [255, 255]
    np.testing.assert_allclose(
        made[0] / 255,
        ((x[0] - x[0].min()) / (x[0].max() - x[0].min())).permute(1, 2, 0),
        atol=0.003,
    )
    photos = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    for given in (photos, list(photos), [Image.fromarray(photo) for photo in photos]):
        shown = compare(network, x, 0, methods={"a": constant(1.0)}, pictures=given, **QUICK)
        assert (shown.pictures == photos).all()
        assert shown.sources == ()
    named = {"a/cat.jpg": photos[0], "dog.jpg": Image.fromarray(photos[1])}
    shown = compare(network, x, 0, methods={"a": constant(1.0)}, pictures=named, **QUICK)
    assert (shown.pictures == photos).all()
    assert shown.sources == ("a/cat.jpg", "dog.jpg")
    with pytest.raises(ArgumentError, match="`pictures` to be 2 pictures"):
        compare(network, x, 0, methods=["InfoMask"], pictures={"a": photos[0]}, **QUICK)
    grey = SmallNet(channels=1, dtype=torch.float32).eval()
    made = compare(grey, images(1, channels=1), 0, methods={"a": constant(1.0)}, **QUICK).pictures
    assert (made[..., 0] == made[..., 2]).all()
    assert made.max() == 255


@pytest.mark.usefixtures("terminal")
def test_progress_is_shown_on_stderr_only_if_asked_for(network, capsys):
    compare(network, images(1), 0, methods=["InfoMask", "Occlusion"], **WINDOWS, **QUICK)
    assert capsys.readouterr() == ("", "")
    compare(
        network, images(1), 0, methods=["InfoMask", "Occlusion"], show_progress=True, **WINDOWS
    )  # fmt: skip
    printed = capsys.readouterr()
    assert printed.out == ""
    for words in ("Comparison: 100%", "Info Mask attribution: 100%", "Occlusion attribution: 100%"):
        assert words in printed.err
    assert "2/2" in printed.err


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"inputs": images(1)[0]}, "`inputs`"),
        ({"inputs": (images(1),)}, "`inputs`"),
        ({"inputs": images(1).long()}, "`inputs`"),
        ({"inputs": images(1) * torch.inf}, "`inputs`"),
        ({"model": "resnet18"}, "`model`"),
        ({"target": [0, 1]}, "`target`"),
        ({"target": (0, 1)}, "`target`"),
        ({"target": -1}, "`target`"),
        ({"target": 0.5}, "`target`"),
        ({"methods": "InfoMsk"}, "Did you mean 'InfoMask'"),
        ({"methods": ["Grad-CAM", "ocklusion"]}, "Did you mean 'Occlusion'"),
        ({"methods": ["InfoMask", "InfoMask"]}, "`methods` to name each method once"),
        ({"methods": []}, "`methods`"),
        ({"methods": {}}, "`methods`"),
        ({"methods": 3}, "`methods`"),
        ({"methods": {"a": 3}}, "`methods`['a']"),
        ({"methods": {"a": Occlusion}}, "`methods`['a']"),
        ({"methods": {"a": (Occlusion(Net()), 3)}}, "a dict of arguments"),
        ({"methods": {"a": (Occlusion(Net()), {"target": 1})}}, "without target"),
        ({"methods": {3: Occlusion(Net())}}, "`methods`"),
        ({"layer": "conf"}, "Nearest: conv"),
        ({"layer": nn.Conv2d(1, 1, 1)}, "`layer`"),
        ({"layer": 3}, "`layer`"),
        ({"sliding_window_shapes": (3, 9, 9)}, "`sliding_window_shapes`"),
        ({"strides": (3, 2, 2)}, "`strides` alone"),
        ({"sliding_window_shapes": (3, 4, 4), "strides": (3, 5, 5)}, "`strides`"),
        ({"metrics": "deletoin"}, "Did you mean 'deletion'"),
        ({"metrics": "iou"}, "`ground_truth`"),
        ({"ground_truth": torch.ones(1, 4, 4, dtype=torch.bool)}, "`ground_truth`"),
        ({"baselines": torch.zeros(2, 3, 8, 8)}, "`baselines`"),
        ({"baselines": torch.zeros(1, 3, 8, 7)}, "`baselines`"),
        ({"baselines": "blur"}, "`baselines`"),
        ({"rule": 20}, "`rule`"),
        ({"pictures": np.zeros((1, 8, 9, 3), np.uint8)}, "`pictures`"),
        ({"pictures": np.zeros((1, 8, 8, 3))}, "`pictures`"),
        ({"pictures": []}, "`pictures`"),
        ({"pictures": Image.new("RGB", (8, 8))}, "`pictures`"),
        ({"categories": "abcde"}, "`categories`"),
        ({"seed": -1}, "`seed`"),
        ({"show_progress": 1}, "`show_progress`"),
        ({"reference": "Grad-Camm"}, "`reference`"),
        ({"methods": {"a": lambda m, x, y: x}, "reference": "b"}, "`reference`"),
    ],
)
def test_bad_arguments_come_before_any_pass(wrong, words):
    class Never(Net):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("the network was run")

    arguments = {"model": Never(), "inputs": images(1), "target": 0, **wrong}
    with pytest.raises(ArgumentError) as caught:
        compare(**arguments)
    assert words in str(caught.value), str(caught.value)


def test_what_only_the_network_can_tell(network):
    with pytest.raises(ArgumentError, match="`target` from 0 to 3; got 4"):
        compare(network, images(1), 4)
    with pytest.raises(ArgumentError, match="`categories` to hold 4 names"):
        compare(network, images(1), 0, categories=["a", "b"])
    for bad, words in [
        (lambda x: x.mean((1, 2, 3)), "logits"),
        (lambda x: x.mean((2, 3))[:, :1], "two classes"),
        (lambda x: x.flatten(1) * torch.nan, "finite logits"),
        (lambda x: "cat", "logits"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            compare(bad, images(1), 0)
    with pytest.raises(ArgumentError, match=r"`reference`.*'Integrated gradients'"):
        compare(network, images(1), 0, reference="Integrated gradients", **QUICK)
    with pytest.raises(ArgumentError, match="Did you mean 'InfoMask drop'"):
        compare(network, images(1), 0, methods="InfoMask drop", **QUICK)["InfoMask drp"]


def test_max_box_acc_takes_one_threshold_for_all_pictures_that_a_method_answered():
    network = SmallNet(dtype=torch.float32).eval()
    pictures = images(5)
    boxes = [torch.tensor([[1 + k % 2, 1, 5 + k % 3, 6]]) for k in range(5)]

    def part(model, inputs, target):
        if target == 3:
            raise RuntimeError("no answer")
        return inputs.abs()

    found = compare(
        network,
        pictures,
        [0, 1, 2, 3, 0],
        methods={"part": part},
        metrics=["max_box_acc"],
        ground_truth=boxes,
    )
    answered = [0, 1, 2, 4]
    planes = pictures[answered].abs().mean(1, keepdim=True)
    expected = max_box_acc(planes, [boxes[k] for k in answered])
    assert found["part"].mean("max_box_acc") == pytest.approx(expected.mean, abs=1e-12)
    assert math.isnan(found["part"].metrics["max_box_acc"][3])
    assert 0 < expected.mean < 1
