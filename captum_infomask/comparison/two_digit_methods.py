# The methods of the two-digit experiment: InfoMask's views, Grad-CAM, Occlusion, two controls.
from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from captum_infomask.comparison.methods import Method, centred_blob, uniform_noise
from captum_infomask.evaluation.method_calls import (
    Forward,
    Index,
    grad_cam,
    info_mask,
    log_probabilities,
    occlusion,
)
from captum_infomask.report.page_content import density

_OF_CELLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("InfoMask", {}),
    ("InfoMask evidence", {"view": "evidence"}),
)
# Crops keep their size: stretched to the picture's, digits look like none in training.
_OF_WINDOWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("InfoMask drop", {"view": "drop"}),
    ("InfoMask keep", {"view": "keep"}),
    ("InfoMask crop (blank)", {"view": "crop", "crop_size": "native", "reference": "blank"}),
    ("InfoMask crop", {"view": "crop", "crop_size": "native"}),
)


def two_digit_methods(
    network: nn.Module, *, window: int = 20, stride: int = 4
) -> tuple[Method, ...]:
    """Return the experiment's methods: InfoMask's default and other views, Grad-CAM, and so on.

    Args:
        network: Has a layer ``features``, whose output is the last feature map (for Grad-CAM).
        window: Side of the windows of Occlusion and of views of regions, in pixels.
        stride: Step between windows, in pixels.

    Returns:
        The methods, in the order of the table.

    Example:
        >>> from captum_infomask.comparison.two_digit_methods import two_digit_methods
        >>> from captum_infomask.models.two_digits import two_digit_network
        >>> two_digit_methods(two_digit_network())[0].name
        'InfoMask'

    Source: Qin & Kim, arXiv 1910.02629, Section 5.3.
    """
    shapes, strides = (1, window, window), (1, stride, stride)
    sliding = {"sliding_window_shapes": shapes, "strides": strides}
    log_p = occlusion(shapes, strides, log_probabilities)
    return (
        *(Method(name, density("bits"), info_mask(**view)) for name, view in _OF_CELLS),
        *(Method(name, "bits", info_mask(**sliding, **view)) for name, view in _OF_WINDOWS),
        Method("Grad-CAM", "a.u.", grad_cam(network.get_submodule("features"))),
        Method("Occlusion, logits", "logits", occlusion(shapes, strides, lambda logits: logits)),
        Method("Occlusion, log-probabilities", "nats", log_p),
        Method("centred blob (control)", "a.u.", _blob),
        Method("uniform noise (control)", "a.u.", _noise),
    )


def _blob(forward: Forward, inputs: Tensor, target: Index, show_progress: bool) -> Tensor:
    """The control that lies in the middle of each picture."""
    return centred_blob(*inputs.shape[2:]).expand_as(inputs).contiguous()


def _noise(forward: Forward, inputs: Tensor, target: Index, show_progress: bool) -> Tensor:
    """The control that lies anywhere."""
    return uniform_noise(*inputs.shape)
