# The methods of the mosaic experiment, each answering for all photographs of a mosaic at once.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from captum.attr import LayerAttribution, LayerGradCam, Occlusion
from torch import Tensor, nn

from captum_infomask.attribution import InfoMask
from captum_infomask.comparison.methods import centred_blob, uniform_noise
from captum_infomask.evaluation.method_calls import Forward, log_probabilities
from captum_infomask.report.page_content import density

AttributeAll: TypeAlias = Callable[[Forward, Tensor, Sequence[int]], Tensor]


@dataclass(frozen=True)
class MosaicMethod:
    """An attribution method that answers for several classes of one picture.

    Args:
        name: What tables and figures call it.
        unit: What its values are counted in.
        attribute: ``(forward, picture, targets)`` → (K, H, W); ``forward`` maps (N, C, H, W) to
            logits and is the only way in which it may call the network.
    """

    name: str
    unit: str
    attribute: AttributeAll


def info_mask_classes(**settings: Any) -> AttributeAll:
    """InfoMask with some of ``attribute``'s settings, all classes from one set of passes."""

    def attribute(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
        maps = InfoMask(forward).score_classes(picture, classes=list(targets), **settings)
        planes = [maps.rank(k).attributions()[0, 0] for k in range(len(targets))]
        return torch.stack(planes)

    return attribute


def info_mask_each(**settings: Any) -> AttributeAll:
    """InfoMask with some of ``attribute``'s settings, a class at a time."""

    def attribute(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
        found = [InfoMask(forward).attribute(picture, target=t, **settings) for t in targets]
        return torch.cat(found)[:, 0]

    return attribute


def occlusion_classes(
    window: int, stride: int, read: Callable[[Tensor], Tensor] = lambda logits: logits
) -> AttributeAll:
    """Captum's Occlusion of what ``read`` makes of the logits, all classes from the same passes."""

    def attribute(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
        def several(shown: Tensor) -> Tensor:
            return read(forward(shown))[0, list(targets)]

        channels = picture.shape[1]
        with torch.no_grad():
            # One vector for one picture: Captum then attributes each of its entries.
            found: Tensor = Occlusion(several).attribute(
                picture, (channels, window, window), strides=(channels, stride, stride)
            )
        return found[:, 0]

    return attribute


def grad_cam_classes(layer: nn.Module) -> AttributeAll:
    """Captum's LayerGradCam, its positive part, brought to the picture's size."""

    def attribute(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
        size = (picture.shape[2], picture.shape[3])
        planes = []
        for target in targets:
            with torch.enable_grad():
                coarse = LayerGradCam(forward, layer).attribute(
                    picture, target, relu_attributions=True
                )
            planes.append(LayerAttribution.interpolate(coarse.detach(), size, "bilinear")[0, 0])
        return torch.stack(planes)

    return attribute


def blob_classes(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
    """The control that lies in the middle, whatever the class."""
    return centred_blob(*picture.shape[2:]).expand(len(targets), -1, -1)


def noise_classes(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
    """The control that lies anywhere."""
    return uniform_noise(len(targets), *picture.shape[2:])


def mosaic_methods(
    layers: Mapping[str, nn.Module], *, side: int, sizes: tuple[int, int, int]
) -> tuple[MosaicMethod, ...]:
    """Return the experiment's methods: InfoMask's default and other views, Grad-CAM, and so on.

    Windows are InfoMask's default, a quarter of the mosaic's side, an eighth apart; half as far
    apart in the fine setting.

    Args:
        layers: What Grad-CAM looks at, by the names of its rows.
        side: The side of the mosaics in pixels.
        sizes: Three sides that crops are resized to: that of the pictures which the network was
            trained on, a smaller and a still smaller one; the last two are also used together.

    Returns:
        The methods, in the order of the table.

    Example:
        >>> from torch import nn
        >>> from captum_infomask.comparison.mosaic_methods import mosaic_methods
        >>> layers = {"convolution": nn.Conv2d(3, 2, 3)}
        >>> mosaic_methods(layers, side=16, sizes=(8, 6, 4))[4].name
        'InfoMask crop, size 6'
    """
    window, stride = side // 4, side // 8
    squares = [(size, size) for size in sizes]
    trained, smaller, smallest = sizes
    fine = info_mask_classes(
        sliding_window_shapes=(3, window, window),
        strides=(3, stride // 2, stride // 2),
        crop_size=squares[1],
    )
    own, cheap = (info_mask_classes(crop_size=square) for square in squares[:2])
    both = info_mask_classes(crop_size=squares[1:])
    log_p = occlusion_classes(window, stride, log_probabilities)
    return (
        MosaicMethod("InfoMask", density("bits"), info_mask_each()),
        MosaicMethod("InfoMask evidence", density("bits"), info_mask_classes(view="evidence")),
        MosaicMethod("InfoMask crop, no size given", "bits", info_mask_classes(view="crop")),
        MosaicMethod(f"InfoMask crop, size {trained}", "bits", own),
        MosaicMethod(f"InfoMask crop, size {smaller}", "bits", cheap),
        MosaicMethod(f"InfoMask crop, size {smaller}, fine", "bits", fine),
        MosaicMethod(f"InfoMask crop, sizes {smaller} and {smallest}", "bits", both),
        MosaicMethod("InfoMask keep", "bits", info_mask_classes(view="keep")),
        MosaicMethod("InfoMask drop", "bits", info_mask_classes(view="drop")),
        *(
            MosaicMethod(f"Grad-CAM, {name}", "a.u.", grad_cam_classes(layer))
            for name, layer in layers.items()
        ),
        MosaicMethod("Occlusion, logits", "logits", occlusion_classes(window, stride)),
        MosaicMethod("Occlusion, log-probabilities", "nats", log_p),
        MosaicMethod("centred blob (control)", "a.u.", blob_classes),
        MosaicMethod("uniform noise (control)", "a.u.", noise_classes),
    )
