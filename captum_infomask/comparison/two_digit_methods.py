# The methods of the two-digit experiment: InfoMask's views, Grad-CAM, Occlusion, two controls.
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import LayerAttribution, LayerGradCam, Occlusion
from torch import Tensor, nn

from captum_infomask.attribution import InfoMask
from captum_infomask.comparison.methods import Forward, Method

# Crops keep their size: stretched to the picture's, digits look like none in training.
_VIEWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("InfoMask drop", {"view": "drop"}),
    ("InfoMask keep", {"view": "keep"}),
    ("InfoMask crop (blank)", {"view": "crop", "crop_size": "native", "reference": "blank"}),
    ("InfoMask crop", {"view": "crop", "crop_size": "native"}),
)


def two_digit_methods(
    network: nn.Module, *, window: int = 20, stride: int = 4
) -> tuple[Method, ...]:
    """Return the experiment's methods: InfoMask's views, Grad-CAM, Occlusion, two controls.

    Args:
        network: Has a layer ``features``, whose output is the last feature map (for Grad-CAM).
        window: Side of InfoMask's and Occlusion's windows, in pixels.
        stride: Step between windows, in pixels.

    Returns:
        The methods, in the order of the table.

    Example:
        >>> from captum_infomask.comparison.two_digit_methods import two_digit_methods
        >>> from captum_infomask.models.two_digits import two_digit_network
        >>> two_digit_methods(two_digit_network())[0].name
        'InfoMask drop'

    Source: Qin & Kim, arXiv 1910.02629, Section 5.3.
    """
    windows = {"sliding_window_shapes": (1, window, window), "strides": (1, stride, stride)}
    return (
        *(Method(name, "bits", _info_mask({**windows, **view})) for name, view in _VIEWS),
        Method("Grad-CAM", "a.u.", _grad_cam(network.get_submodule("features"))),
        Method("Occlusion, logits", "logits", _occlusion(windows, lambda logits: logits)),
        Method("Occlusion, log-probabilities", "nats", _occlusion(windows, _log_probabilities)),
        Method("centred blob (control)", "a.u.", _blob),
        Method("uniform noise (control)", "a.u.", _noise),
    )


def _info_mask(settings: dict[str, Any]) -> Callable[[Forward, Tensor, int, bool], Tensor]:
    """InfoMask with some of attribute's settings."""

    def attribute(forward: Forward, inputs: Tensor, target: int, show_progress: bool) -> Tensor:
        bits: Tensor = InfoMask(forward).attribute(
            inputs, target=target, show_progress=show_progress, **settings
        )
        return bits

    return attribute


def _grad_cam(layer: nn.Module) -> Callable[[Forward, Tensor, int, bool], Tensor]:
    """Captum's LayerGradCam, its positive part, brought to the picture's size."""

    def attribute(forward: Forward, inputs: Tensor, target: int, show_progress: bool) -> Tensor:
        coarse = LayerGradCam(forward, layer).attribute(inputs, target, relu_attributions=True)
        size = (inputs.shape[2], inputs.shape[3])
        fine: Tensor = LayerAttribution.interpolate(coarse.detach(), size, "bilinear")
        return fine

    return attribute


def _occlusion(
    windows: dict[str, Any], output: Callable[[Tensor], Tensor]
) -> Callable[[Forward, Tensor, int, bool], Tensor]:
    """Captum's Occlusion of some function of the logits."""

    def attribute(forward: Forward, inputs: Tensor, target: int, show_progress: bool) -> Tensor:
        with torch.no_grad():
            difference: Tensor = Occlusion(lambda shown: output(forward(shown))).attribute(
                inputs,
                **windows,
                target=target,
                perturbations_per_eval=8,  # no bar: Captum's counts elements and stops at 3%
            )
        return difference

    return attribute


def _log_probabilities(logits: Tensor) -> Tensor:
    """Log p(y | x)."""
    return logits.log_softmax(dim=1)


def _blob(forward: Forward, inputs: Tensor, target: int, show_progress: bool) -> Tensor:
    """A Gaussian in the middle of each picture, a quarter of its sides wide: no network."""
    across = [torch.linspace(-2, 2, side).square() for side in inputs.shape[2:]]
    blob = (-(across[0][:, None] + across[1]) / 2).exp()
    return blob.expand_as(inputs).contiguous()


def _noise(forward: Forward, inputs: Tensor, target: int, show_progress: bool) -> Tensor:
    """Independent uniform noise per pixel, not blurred: no network."""
    return torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0))
