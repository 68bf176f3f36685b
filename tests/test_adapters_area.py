# The posterior of an area: right values, in every view, for segmentation networks of every form.
import copy
import dataclasses
import functools
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from state import differences, take_down
from torch import nn
from torch.nn import functional as F

from captum_infomask import (
    ArgumentError,
    Incremental,
    InfoMask,
    bounding_boxes,
    compare,
    fit_critic,
)
from captum_infomask.adapters import area
from captum_infomask.models.classifier import Classifier

DTYPE = torch.float64


class Pixels(nn.Module):
    """Classes at every pixel, of this pixel alone; perhaps of every fourth pixel."""

    def __init__(self, classes=3, step=1, held=None, dims=2):
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        self.conv = conv(3, classes, 1, stride=step, dtype=DTYPE)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for own in self.parameters():
                own.copy_(3 * torch.randn(own.shape, generator=generator, dtype=DTYPE))
        self.held = held
        self.eval()

    def forward(self, x):
        logits = self.conv(x)
        forms = {"out": {"out": logits, "aux": None}, "object": SimpleNamespace(logits=logits)}
        return forms.get(self.held, logits)


class Around(nn.Module):
    """Classes at every pixel, of the pixels around it too: two layers, and a coarse map."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=1, stride=2, dtype=DTYPE)
        self.second = nn.Conv2d(6, 6, 5, padding=2, dtype=DTYPE)
        self.last = nn.Conv2d(6, 4, 1, dtype=DTYPE)
        self.eval()

    def forward(self, x):
        return 4 * self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


def pictures(*size, n=2):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 3, *size, generator=generator, dtype=DTYPE)


def mask_of(*size):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(*size, generator=generator) < 0.4


X = pictures(8, 12)
MASK = mask_of(8, 12)
BOX = torch.zeros(8, 12, dtype=torch.bool)
BOX[1:6, 3:9] = True
BOXES = BOX.clone()
BOXES[6:8, 0:4] = True


@pytest.mark.parametrize("held", [None, "out", "object"])
@pytest.mark.parametrize(
    ("where", "mask"),
    [
        (MASK, MASK),
        (MASK.numpy(), MASK),
        ((3, 1, 9, 6), BOX),
        (torch.tensor([3.0, 1.0, 9.0, 6.0]), BOX),
        (np.array([[3, 1, 9, 6]], dtype=np.uint16), BOX),
        ([[3, 1, 9, 6], [0, 6, 4, 8]], BOXES),
        (bounding_boxes(BOX[None, None])[0], BOX),
    ],
)
def test_the_mean_posterior_over_the_area(held, where, mask):
    network = Pixels(held=held)
    found = area(network, where)(X)
    wanted = network.conv(X).softmax(1)[..., mask].mean(-1)
    assert found.dtype == DTYPE
    assert torch.allclose(found.exp(), wanted, rtol=0, atol=1e-14)
    assert torch.allclose(found.log_softmax(1), found, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("size", "modes"), [((12,), "linear"), ((8, 12), "bilinear"), ((4, 8, 12), "trilinear")]
)
@pytest.mark.parametrize("step", [2, 4])
def test_smaller_maps_are_resized_as_their_networks_are_trained(size, modes, step):
    network, x, mask = Pixels(step=step, dims=len(size)), pictures(*size), mask_of(*size)
    logits = F.interpolate(network(x), size=size, mode=modes, align_corners=False)
    wanted = logits.softmax(1)[..., mask].mean(-1)
    found = area(network, mask)(x).exp()
    assert torch.allclose(found, wanted, rtol=0, atol=1e-14)
    nearest = F.interpolate(network(x), size=size, mode="nearest").softmax(1)[..., mask].mean(-1)
    assert not torch.allclose(found, nearest, atol=1e-3)


def test_a_mask_of_the_maps_size_is_not_resized():
    network = Pixels(step=4)
    mask = torch.tensor([[True, False, True], [False, False, True]])  # of the map, 2 × 3
    wanted = network(X).softmax(1)[..., mask].mean(-1)
    assert torch.allclose(area(network, mask)(X).exp(), wanted, rtol=0, atol=1e-14)


def test_one_channel_is_two_classes():
    network = Pixels(classes=1)
    found = area(network, MASK)(X).exp()
    wanted = network(X).sigmoid()[:, 0, MASK].mean(-1)
    assert torch.allclose(found, torch.stack([1 - wanted, wanted], 1), rtol=0, atol=1e-14)


def test_drop_takes_each_pixels_part_of_the_mean():
    network = Pixels()
    p, at_zero = network(X).softmax(1)[:, 2], network(torch.zeros_like(X)).softmax(1)[:, 2]
    mean = p[:, BOX].mean(1)[:, None, None]
    without = mean - torch.where(BOX, p - at_zero, 0) / BOX.sum()
    wanted = (mean / without).log2()
    for head in ("logits", "log_probs"):
        found = InfoMask(area(network, BOX), head=head).attribute(
            X, target=2, view="drop", sliding_window_shapes=(3, 1, 1), strides=(3, 1, 1)
        )
        assert torch.allclose(found, wanted[:, None].expand_as(X), rtol=0, atol=1e-12)
    assert wanted.abs().max() > 0.02


@pytest.mark.parametrize("view", ["relay", "evidence"])
def test_evidence_of_an_area_is_complete_and_goes_beyond_it(view):
    network, x = Around(), pictures(24, 24)
    asked = area(network, (4, 4, 8, 8))
    infomap = InfoMask(asked).score_regions(x, target=1, view=view, baselines=0.0)
    rise = (asked(x) - asked(torch.zeros_like(x)))[:, 1] / math.log(2)
    assert infomap.engine == f"{view} (12 × 12 cells)"
    assert torch.allclose(infomap.scores.sum(1), rise, atol=1e-3)
    # The area's pixels are made of the cells 1 to 4, and these of cells up to two away.
    cells = infomap.scores.reshape(2, 12, 12).clone()
    assert not cells[:, 7:].any()
    assert not cells[:, :, 7:].any()
    whole = cells.abs().sum()
    cells[:, 1:5, 1:5] = 0
    assert cells.abs().sum() > 0.1 * whole


def test_the_default_view_shows_places_on_whole_pictures():
    infomap = InfoMask(area(Around(), (4, 4, 8, 8))).score_regions(pictures(16, 16), target=1)
    assert (infomap.view, infomap.engine) == ("relay", "relay (8 × 8 cells)")


@pytest.mark.parametrize("where", [MASK, (3, 1, 9, 6)])
def test_incremental_traces_through_it(where):
    asked = area(Around(), where)
    settings = {
        "target": 1,
        "view": "drop",
        "sliding_window_shapes": (3, 4, 4),
        "strides": (3, 2, 2),
    }
    fast = InfoMask(asked).score_regions(X, engine=Incremental(), **settings)
    slow = InfoMask(asked).score_regions(X, engine="batched", **settings)
    assert fast.engine == "incremental"
    assert torch.allclose(fast.scores, slow.scores, rtol=0, atol=1e-10)
    assert slow.scores.abs().max() > 0.01


def test_half_precision_is_read_in_single_precision():
    network = Pixels().to(torch.bfloat16)
    found = area(network, MASK)(X.bfloat16())
    wanted = network(X.bfloat16()).float().softmax(1)[..., MASK].mean(-1)
    assert found.dtype == torch.float32
    assert torch.allclose(found.exp(), wanted, atol=1e-6)


def test_the_network_is_as_it_was_and_copies_answer_alike():
    network = Around()
    before = take_down(network)
    asked = area(network, MASK)
    bits = InfoMask(asked).attribute(X, target=0)
    assert differences(before, take_down(network)) == []
    assert not asked.training
    assert list(asked.state_dict()) == [f"model.{name}" for name in network.state_dict()]
    assert torch.equal(InfoMask(copy.deepcopy(asked)).attribute(X, target=0), bits)
    assert area(Around().train(), MASK).training


def test_a_flipped_array_is_a_mask():
    flipped = np.flipud(MASK.numpy())
    wanted = area(Pixels(), MASK.flip(0))(X)
    assert torch.equal(area(Pixels(), flipped)(X), wanted)
    assert not torch.allclose(area(Pixels(), MASK)(X), wanted, atol=1e-2)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (torch.zeros(8, 12, dtype=torch.bool), "at least one pixel"),
        (torch.ones(8, 12), "where > 0 is boolean"),
        (np.ones((8, 12)), "where > 0 is boolean"),
        (bounding_boxes(BOX[None, None]), r"bounding_boxes\(masks\)\[0\]"),
        ((3, 1, 3, 6), "0 ≤ x0 < x1"),
        ((3.5, 1, 9, 6), "whole pixels"),
        ((-1, 1, 9, 6), "0 ≤ x0"),
        ((1, 2, 3), "boolean mask"),
        ("all", "The class is the target"),
        (2, "The class is the target"),
        (None, "boolean mask"),
        (torch.zeros(0, 4), "at least one box"),
        ([torch.rand(4, requires_grad=True)], "boolean mask"),
        (torch.empty(8, 12, dtype=torch.bool, device="meta"), "boolean mask"),
    ],
)
def test_areas_that_are_none(where, words):
    with pytest.raises(ArgumentError, match=rf"`where`.*{words}"):
        area(Pixels(), where)


@pytest.mark.parametrize(
    ("network", "where", "words"),
    [
        (Pixels(), torch.ones(6, 6, dtype=torch.bool), r"\(8, 12\).*got \(6, 6\)\.$"),
        (Pixels(), torch.ones(1, 8, 12, dtype=torch.bool), r"where\[0\] is that of the first"),
        (Pixels(), (0, 0, 13, 8), "12 and 8; got x1 = 13, y1 = 8"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(288, 5, dtype=DTYPE)),
            MASK,
            r"got a tensor.*\(2, 5\)",
        ),
        (lambda x: {"class_queries_logits": x, "masks_queries_logits": x}, MASK, "'class_queries_"),
        (lambda x: [x, x], MASK, "got list"),
        (lambda x: Pixels()(x).argmax(1, keepdim=True), MASK, "logits at every.*torch.int64"),
        (lambda x: Pixels()(x) + 0j, MASK, "logits at every.*torch.complex128"),
    ],
)
def test_passes_that_do_not_fit(network, where, words):
    with pytest.raises(ArgumentError, match=words):
        area(network, where)(X)


@pytest.mark.parametrize("where", [(0, 0, 10**6, 10**9), [(0, 0, 2, 2), (3, 3, 10**6, 10**9)]])
def test_boxes_of_any_size_are_compared_with_the_pictures_first(where):
    with pytest.raises(ArgumentError, match="12 and 8; got x1 = 1000000, y1 = 1000000000"):
        area(Pixels(), where)(X)


def test_boxes_are_no_parts_of_volumes():
    with pytest.raises(ArgumentError, match="`where` to be a mask"):
        area(Pixels(dims=3), (0, 0, 2, 2))(pictures(4, 4, 4))


@pytest.mark.parametrize(
    "options", [{"view": "crop"}, {"crop_size": "native"}, {"view": "relay", "input_sizes": [8]}]
)
def test_views_that_move_the_picture_are_refused(options):
    with pytest.raises(ArgumentError, match="leaves every part of the picture in its place"):
        InfoMask(area(Around(), MASK)).attribute(X, target=1, **options)


ASKED = area(Around(), MASK)


@dataclasses.dataclass
class Holder:
    """An object that is called, and keeps the network in a list."""

    held: list

    def __call__(self, x):
        return self.held[0](x)


WRAPPED = {
    "a function": lambda x: ASKED(x)[:, :3],
    "an object": Holder([ASKED]),
    "a part of arguments": functools.partial(lambda network, x: network(x), ASKED),
    "its method": ASKED.forward,
    "a sequence": nn.Sequential(ASKED, nn.Identity()).eval(),
    "in parallel": nn.DataParallel(ASKED),
    "compiled": torch.compile(ASKED, backend="eager"),
    "a classifier": Classifier("areas", nn.Sequential(ASKED).eval(), tuple("abcd")),
}


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
def test_what_wraps_an_area_is_about_its_place_too(wrapped):
    infomask = InfoMask(wrapped)
    with pytest.raises(ArgumentError, match="leaves every part of the picture in its place"):
        infomask.attribute(X, target=1, view="crop")
    # The early map is read, and not that of 8 × 12, which holds the answers of all pixels.
    assert infomask.score_regions(X, target=1).engine == "relay (4 × 6 cells)"


def named_by_a_function(x):
    return Around()(x)


@pytest.mark.parametrize(
    ("network", "name"),
    [(Around(), "Around"), (named_by_a_function, "named_by_a_function")],
)
def test_tables_name_the_network_and_not_the_adapter(network, name):
    found = compare(area(network, MASK), X, 1, methods="Occlusion", metrics=[])
    assert found.settings[0] == ("Model", name)


def test_a_critic_of_an_area_sees_no_crops():
    batches = [torch.rand(4, *X.shape[1:], dtype=X.dtype) for _ in range(3)]
    settings = {"window_shapes": [4], "steps": 1}
    with pytest.raises(ArgumentError, match=r"in its place.*Leave out 'crops'"):
        fit_critic(ASKED, batches, views=["windows", "crops"], **settings)
    fitted = fit_critic(ASKED, batches, views=["windows", "rest"], **settings)
    assert "crops" not in {row.view for row in fitted.report.rows}


def test_a_network_beside_an_area_is_about_no_place():
    network = Around()
    area(network, MASK)
    crops = InfoMask(lambda x: network(x).mean((2, 3))).attribute(X, target=1, view="crop")
    assert crops.abs().sum() > 0


def test_probabilities_are_doubted_and_logits_are_not():
    softmax = nn.Sequential(Pixels(), nn.Softmax(1))
    sigmoid = nn.Sequential(Pixels(classes=1), nn.Sigmoid())
    with pytest.warns(UserWarning, match=r"lambda x: model\(x\)\.log\(\)"):
        area(softmax, MASK)(X)
    with pytest.warns(UserWarning, match=r"torch\.logit\(model\(x\), eps=1e-6\)"):
        area(sigmoid, MASK)(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = area(lambda x: softmax(x).log(), MASK)(X)
        once = area(lambda x: torch.logit(sigmoid(x), eps=1e-6), MASK)(X)
    assert torch.allclose(plain, area(Pixels(), MASK)(X), atol=1e-12)
    assert torch.allclose(once, area(Pixels(classes=1), MASK)(X), atol=1e-4)


# --- networks of other packages ---


def _torchvision(name):
    import torchvision

    make = getattr(torchvision.models.segmentation, name)
    return make(weights=None, weights_backbone=None, num_classes=4)


def _segformer():
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_labels=4, depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 16, 32],
        num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16,
    )  # fmt: skip
    return SegformerForSemanticSegmentation(config)


def _upernet():
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    backbone = ConvNextConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=16, num_labels=4, use_auxiliary_head=False,
        pool_scales=[1, 2],
    )  # fmt: skip
    return UperNetForSemanticSegmentation(config)


def _unet():
    from monai.networks.nets import UNet

    return UNet(spatial_dims=2, in_channels=3, out_channels=1, channels=(4, 8), strides=(2,))


REAL = {
    "lraspp": lambda: _torchvision("lraspp_mobilenet_v3_large"),
    "fcn": lambda: _torchvision("fcn_resnet50"),
    "deeplab": lambda: _torchvision("deeplabv3_mobilenet_v3_large"),
    "segformer": _segformer,
    "upernet": _upernet,
    "monai's U-Net": _unet,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_networks_of_other_packages(name):
    torch.manual_seed(0)
    network = REAL[name]().eval()
    x = torch.rand(1, 3, 64, 64)
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[16:40, 16:48] = True
    with torch.no_grad():
        output = network(x)
    logits = output if isinstance(output, torch.Tensor) else output.get("out", output.get("logits"))
    logits = F.interpolate(logits, size=(64, 64), mode="bilinear", align_corners=False)
    logits = torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits
    asked = area(network, mask)
    wanted = logits.softmax(1)[..., mask].mean(-1)
    assert torch.allclose(asked(x).exp(), wanted, atol=1e-5)
    infomap = InfoMask(asked).score_regions(x, target=1)
    assert infomap.view == "relay"
    assert float(infomap.residual.abs().max()) < 0.01
    dropped = InfoMask(asked).score_regions(
        x, target=1, view="drop", sliding_window_shapes=(3, 32, 32), strides=(3, 32, 32)
    )
    assert dropped.scores.shape == (1, 4)
