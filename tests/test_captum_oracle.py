# An oracle that costs nothing: `drop` is Captum's Occlusion of log p, in bits.
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import captum
import pytest
import torch
from captum.attr import FeatureAblation, Occlusion
from tiny import Net, images, two_inputs
from torch import Tensor

from captum_infomask import InfoMask, from_feature_mask


def bits(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *x: forward(*x).log_softmax(1) / math.log(2)


def assert_equal_bits(got: Any, expected: Any) -> None:
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0, check_dtype=False)
    parts = got if isinstance(got, tuple) else (got,)
    assert all(float(part.abs().max()) > 0.1 for part in parts)


@pytest.mark.parametrize("perturbations_per_eval", [None, 3])
@pytest.mark.parametrize(
    ("window", "stride"),
    [
        ((3, 4, 4), (3, 4, 4)),
        ((3, 5, 4), (3, 5, 4)),  # the last row and column of windows are cut off at the border
        ((3, 4, 3), (3, 2, 2)),  # windows overlap
        ((3, 4, 4), 3),  # a stride beyond the channels
        ((1, 4, 4), (1, 4, 4)),  # one channel at a time
        ((2, 6, 5), (1, 3, 4)),  # overlapping channels, uneven ends
        ((3, 11, 9), None),  # one window
        ((3, 6, 6), None),  # stride 1
    ],
    ids=str,
)
def test_drop_is_occlusion_of_log_softmax(
    window: tuple[int, ...], stride: Any, perturbations_per_eval: int | None
) -> None:
    net, x = Net().double(), images(height=11, width=9).double()
    arguments = {"target": [1, 3], "sliding_window_shapes": window, "strides": stride}
    got = InfoMask(net).attribute(
        x, view="drop", perturbations_per_eval=perturbations_per_eval, **arguments
    )
    assert_equal_bits(got, Occlusion(bits(net)).attribute(x, **arguments))


def test_in_single_precision_too() -> None:
    net, x = Net(), images()
    arguments = {"target": 1, "sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4)}
    got = InfoMask(net).attribute(x, view="drop", **arguments)
    assert_equal_bits(got, Occlusion(bits(net)).attribute(x, **arguments))


@pytest.mark.parametrize(
    "baselines",
    [0.5, 2, images(seed=5).double(), images(1, seed=6).double(), (images(seed=5).double(),)],
    ids=["float", "int", "batch", "one for all", "tuple"],
)
def test_drop_is_occlusion_with_baselines(baselines: Any) -> None:
    net, x = Net().double(), images().double()
    x = (x,) if isinstance(baselines, tuple) else x
    arguments = {"target": 4, "sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)}
    got = InfoMask(net).attribute(x, baselines, view="drop", **arguments)
    assert_equal_bits(got, Occlusion(bits(net)).attribute(x, baselines=baselines, **arguments))


@pytest.mark.parametrize("stride", [(3, 4, 4), (3, 2, 2)], ids=str)
def test_keep_is_minus_occlusion_of_the_blank_by_the_picture(stride: tuple[int, ...]) -> None:
    """i(y; x_R in place) − i(y; blank): Captum's own loop with input and baseline exchanged."""
    net, x, blank = Net().double(), images().double(), images(seed=5).double()
    arguments = {"target": [1, 4], "sliding_window_shapes": (3, 4, 4), "strides": stride}
    got = InfoMask(net).attribute(x, blank, view="keep", **arguments)
    assert_equal_bits(got, -Occlusion(bits(net)).attribute(blank, baselines=x, **arguments))


@pytest.mark.parametrize(
    ("windows", "strides"),
    [
        (((2, 1), (1,)), ((2, 1), (1,))),
        (((2, 1), (2,)), (1, 1)),
        (((1, 1), (2,)), ((1, 1), 2)),
        (((2, 1), (2,)), None),
    ],
    ids=str,
)
def test_drop_is_occlusion_of_tuples(windows: Any, strides: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 1, generator=generator)
    y = torch.randn(3, 2, generator=generator)
    arguments = {"target": [0, 1, 2], "sliding_window_shapes": windows, "strides": strides}
    got = InfoMask(two_inputs).attribute((x, y), (0.1, 0.0), view="drop", **arguments)
    expected = Occlusion(bits(two_inputs)).attribute((x, y), baselines=(0.1, 0.0), **arguments)
    assert_equal_bits(got, expected)


QUARTERS = (torch.arange(64).reshape(8, 8) // 4 % 2) + 2 * (torch.arange(8)[:, None] // 4)
MASKS = {
    "quarters": QUARTERS[None, None],
    "no batch dimension": QUARTERS,
    "labels with gaps": QUARTERS[None, None] * 7 + 3,
    "diagonal": torch.eye(8, dtype=torch.long)[None, None],
    "channels": torch.arange(3).reshape(1, 3, 1, 1),
    "one per element": torch.arange(192).reshape(1, 3, 8, 8),
    "one per image": torch.stack([QUARTERS, QUARTERS.T * 2])[:, None],
    "int32": QUARTERS[None, None].int(),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("perturbations_per_eval", [None, 3])
def test_drop_is_feature_ablation_with_a_mask(
    name: str, perturbations_per_eval: int | None
) -> None:
    net, x = Net().double(), images().double()
    arguments = {"target": 4, "baselines": 0.3, "feature_mask": MASKS[name]}
    got = InfoMask(net).attribute(
        x, view="drop", perturbations_per_eval=perturbations_per_eval, **arguments
    )
    if name == "one per image":  # which Captum does one image at a time
        own = [{**arguments, "feature_mask": mask[None]} for mask in MASKS[name]]
        parts = [
            FeatureAblation(bits(net)).attribute(x[i : i + 1], **own[i]) for i in range(len(x))
        ]
        expected = torch.cat(parts)
    else:
        expected = FeatureAblation(bits(net)).attribute(x, **arguments)
    assert_equal_bits(got, expected)
    same = InfoMask(net).attribute(
        x, 0.3, 4, view="drop", regions=from_feature_mask(x, MASKS[name]),
        perturbations_per_eval=perturbations_per_eval,
    )  # fmt: skip
    assert torch.equal(got, same)


@pytest.mark.parametrize(
    "masks",
    [
        None,
        (torch.tensor([[0, 0]]), torch.tensor([[1, 2]])),
        pytest.param(
            (torch.tensor([[0, 1]]), torch.tensor([[1, 0]])),
            marks=pytest.mark.skipif(
                captum.__version__ < "0.9",
                reason="before 0.9 captum ablates a label in each input by itself",
            ),
        ),
        (torch.tensor([[5]]), torch.tensor([9, 9])),
    ],
    ids=["no mask", "apart", "shared", "broadcast"],
)
def test_drop_is_feature_ablation_of_tuples(masks: Any) -> None:
    x, y = images().reshape(-1, 2)[:6], images(seed=1).reshape(-1, 2)[:6]
    arguments = {"target": 1, "feature_mask": masks, "baselines": (0.2, -0.3)}
    got = InfoMask(two_inputs).attribute((x, y), view="drop", **arguments)
    assert_equal_bits(got, FeatureAblation(bits(two_inputs)).attribute((x, y), **arguments))


@pytest.mark.parametrize("shape", [(4, 6), (4, 2, 5), (2, 3, 2, 4, 2)], ids=str)
def test_drop_is_feature_ablation_in_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(x[0].numel(), 3, generator=generator, dtype=torch.float64)

    def forward(x: Tensor) -> Tensor:
        return x.flatten(1) @ weight

    mask = torch.arange(x[0].numel()).reshape(1, *shape[1:])
    got = InfoMask(forward).attribute(x, target=2, view="drop", feature_mask=mask)
    expected = FeatureAblation(bits(forward)).attribute(x, target=2, feature_mask=mask)
    assert_equal_bits(got, expected)
