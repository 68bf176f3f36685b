# Captum's tools around an attribution method: NoiseTunnel, metrics, visualization.
from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel, visualization
from captum.metrics import infidelity, infidelity_perturb_func_decorator, sensitivity_max
from tiny import VIEWS, WINDOWS, Net, images, two_inputs
from torch import Tensor

from captum_infomask import InfoMask, threshold_mask

mpl.use("agg")


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("nt_type", ["smoothgrad", "smoothgrad_sq", "vargrad"])
def test_noise_tunnel(nt_type: str, view: str) -> None:
    x, samples = images(), 4
    infomask = InfoMask(Net())
    arguments = {"target": [1, 2], "view": view, **WINDOWS}
    torch.manual_seed(0)
    got = NoiseTunnel(infomask).attribute(
        x, nt_type=nt_type, nt_samples=samples, stdevs=0.2, **arguments
    )
    torch.manual_seed(0)
    noise = torch.normal(0, torch.full((2, samples, 3, 8, 8), 0.2))
    runs = torch.stack([infomask.attribute(x + noise[:, k], **arguments) for k in range(samples)])
    expected = {
        "smoothgrad": runs.mean(0),
        "smoothgrad_sq": (runs**2).mean(0),
        "vargrad": runs.var(0, correction=0),
    }[nt_type]
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)
    assert float(expected.abs().max()) > 0.1


@pytest.mark.parametrize("as_tuple", [False, True])
def test_noise_tunnel_keeps_the_format(as_tuple: bool) -> None:
    x = (images(),) if as_tuple else images()
    got = NoiseTunnel(InfoMask(Net())).attribute(x, nt_samples=2, target=1, view="drop")
    assert isinstance(got, tuple) == as_tuple


def test_noise_tunnel_of_several_inputs_with_additional_arguments() -> None:
    x, y = images().reshape(-1, 2)[:6], images(seed=1).reshape(-1, 2)[:6]
    scale = torch.rand(6, 1, generator=torch.Generator().manual_seed(0)) + 0.5

    def forward(x: Tensor, y: Tensor, scale: Tensor, k: int) -> Tensor:
        return two_inputs(x, y) * scale * k

    infomask = InfoMask(forward)
    arguments = {"additional_forward_args": (scale, 2), "target": [0, 1, 2, 0, 1, 2]}
    tunnel = NoiseTunnel(infomask)
    for batch in (None, 1, 2):
        got = tunnel.attribute(
            (x, y), nt_samples=4, nt_samples_batch_size=batch, stdevs=0.0, view="drop", **arguments
        )
        expected = infomask.attribute((x, y), view="drop", **arguments)
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
        assert float(got[0].abs().max()) > 0.1


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("as_tuple", [False, True])
def test_sensitivity_max(view: str, as_tuple: bool) -> None:
    infomask, x = InfoMask(Net()), images()
    given = (x,) if as_tuple else x
    arguments: dict[str, Any] = {"target": torch.tensor([1, 4]), "view": view, **WINDOWS}
    if view == "drop":
        arguments["baselines"] = 0.2

    def darker(inputs: Any, radius: float) -> Any:
        return (inputs[0] - radius,) if isinstance(inputs, tuple) else inputs - radius

    got = sensitivity_max(
        infomask.attribute,
        given,
        perturb_func=darker,
        perturb_radius=0.1,
        n_perturb_samples=2,
        **arguments,
    )
    before, after = (infomask.attribute(part, **arguments) for part in (x, x - 0.1))
    change = (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
    torch.testing.assert_close(got, change, atol=1e-4, rtol=1e-4)
    assert float(got.min()) > 0.01
    still = sensitivity_max(
        infomask.attribute,
        given,
        perturb_func=lambda inputs, _: inputs,
        perturb_radius=0.0,
        n_perturb_samples=2,
        **arguments,
    )
    assert float(still.max()) < 1e-4


def test_infidelity_of_a_linear_function_is_zero() -> None:
    x, weight = images(), torch.randn(192, 5, generator=torch.Generator().manual_seed(0))

    def linear(x: Tensor) -> Tensor:
        return x.flatten(1) @ weight

    @infidelity_perturb_func_decorator(multiply_by_inputs=True)
    def hide_some(inputs: Tensor, baselines: Any = None) -> Tensor:
        return torch.where(torch.rand(inputs.shape) < 0.3, 0.0, inputs)

    elements = torch.arange(192).reshape(1, 3, 8, 8)
    infomask = InfoMask(linear, head="raw", unit="nats")
    attributions = infomask.attribute(x, target=[1, 2], view="drop", feature_mask=elements)
    arguments: dict[str, Any] = {"target": [1, 2], "n_perturb_samples": 8}
    right = infidelity(linear, hide_some, x, attributions, **arguments)
    wrong = infidelity(linear, hide_some, x, attributions.flip(3), **arguments)
    assert right.shape == (2,)
    assert float(right.max()) < 1e-6
    assert float(wrong.min()) > 0.1


METHODS = ["heat_map", "blended_heat_map", "original_image", "masked_image", "alpha_scaling"]
SIGNS = ["all", "positive", "negative", "absolute_value"]


def channel_last(x: Tensor) -> np.ndarray:
    return x[0].permute(1, 2, 0).numpy()


def show(values: Tensor, picture: Tensor, method: str, sign: str) -> None:
    figure, axis = visualization.visualize_image_attr(
        channel_last(values),
        channel_last(picture),
        method=method,
        sign=sign,
        show_colorbar=True,
        use_pyplot=False,
    )
    assert axis.images
    drawn = np.asarray(axis.images[-1].get_array(), dtype=float)
    assert drawn.shape[:2] == (8, 8)
    assert np.isfinite(drawn).all()
    assert drawn.max() > drawn.min()
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("method", "sign"),
    [
        (method, sign)
        for method in METHODS
        for sign in SIGNS
        # Captum has no such picture: neither method can show signed values.
        if not (method in ("masked_image", "alpha_scaling") and sign == "all")
    ],
)
def test_attributions_can_be_shown(method: str, sign: str) -> None:
    x = images(1)
    bits = InfoMask(Net()).attribute(x, target=4, view="drop", **WINDOWS)
    assert bits.min() < 0 < bits.max()
    show(bits, x, method, sign)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sign", ["positive", "absolute_value"])
def test_masks_can_be_shown(method: str, sign: str) -> None:
    x = images(1)
    mask = InfoMask(Net()).mask(x, target=4, view="drop", **WINDOWS)
    assert mask.any()
    assert not mask.all()
    show(mask, x, method, sign)
    show(mask.float(), x, method, sign)
    show(mask, x * mask, "original_image", sign)


def test_masks_of_captums_format_hide_or_keep() -> None:
    x = images(1)
    bits = InfoMask(Net()).attribute(x, target=4, view="drop", **WINDOWS)
    kept, hidden = threshold_mask(bits), threshold_mask(bits, invert=True)
    assert kept.shape == x.shape
    assert kept.dtype == torch.bool
    assert torch.equal(x * kept + x * hidden, x)
