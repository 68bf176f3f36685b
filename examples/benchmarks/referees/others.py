# The methods of others behind one signature: (network, picture, target) → map (H, W).
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import KernelShap, Lime, Occlusion
from scipy.ndimage import sobel
from torch import Tensor, nn

from captum_infomask import superpixels
from captum_infomask.comparison.methods import centred_blob, uniform_noise
from captum_infomask.evaluation.method_calls import chosen_windows
from captum_infomask.regions.sharpening import averaged, label_maps

from .cases import Attribute

_AT_ONCE = 8  # pictures in a forward pass


def grad_cam(layer: nn.Module, network: nn.Module, picture: Tensor, target: int) -> Tensor:
    """The positive part of Captum's LayerGradCam, at the picture's size.

    Where the layer gives tokens (N, 1 + h w, D), the first of which stands for the class, the
    others are its feature map.
    """
    side = picture.shape[2:]
    with torch.enable_grad():
        seen, gradient = _at_layer(layer, network, picture, target)
    if seen.ndim == 3:
        seen, gradient = (_as_map(tokens) for tokens in (seen, gradient))
    weights = gradient.mean((2, 3), keepdim=True)
    plane = (weights * seen).sum(1, keepdim=True).clamp_min(0)
    return resized(plane, side)[0, 0]


def _at_layer(
    layer: nn.Module, network: nn.Module, picture: Tensor, target: int
) -> tuple[Tensor, Tensor]:
    """What a layer gives, and the target's gradient there."""
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, given, output: kept.append(output))
    try:
        logits = network(picture.clone().requires_grad_())
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(logits[0, target], kept[-1])
    return kept[-1].detach(), gradient


def _as_map(tokens: Tensor) -> Tensor:
    places = tokens[:, 1:].transpose(1, 2)
    side = round(places.shape[2] ** 0.5)
    return places.unflatten(2, (side, side))


def several_sizes(
    method: Attribute, sizes: Sequence[int], network: nn.Module, picture: Tensor, target: int
) -> Tensor:
    """The mean of a method's maps of the picture at several sizes, each scaled to a mean of 1.

    Args:
        method: Made anew for every size.
        sizes: Sides in pixels.
        network: Takes any size.
        picture: (1, C, H, W).
        target: Index of the class.
    """
    own = picture.shape[2:]
    planes = []
    for side in sizes:
        shown = picture if own == (side, side) else resized(picture, (side, side))
        planes.append(resized(method(network, shown, target)[None, None], own)[0, 0])
    return torch.stack([_scaled(plane) for plane in planes]).mean(0)


def _scaled(plane: Tensor) -> Tensor:
    return plane / plane.abs().mean().clamp_min(1e-12)


def snapped(method: Attribute, network: nn.Module, picture: Tensor, target: int) -> Tensor:
    """The mean of a method's map over the superpixels that sharpen InfoMask's."""
    plane = method(network, picture, target)
    labels = label_maps("superpixels", (picture,), 0)
    assert labels is not None, "superpixels are asked for"
    return averaged(plane[None, None], labels)[0, 0]


@contextmanager
def _guided(network: nn.Module) -> Iterator[None]:
    """Inside, rectifiers let only positive gradients pass, and write to nothing in its place."""
    kinds = nn.ReLU | nn.ReLU6 | nn.GELU
    rectifiers = [module for module in network.modules() if isinstance(module, kinds)]
    in_place = [module for module in rectifiers if getattr(module, "inplace", False)]
    hooks = [
        module.register_full_backward_hook(
            lambda module, inward, outward: (inward[0].clamp(min=0),)
        )
        for module in rectifiers
    ]
    try:
        for module in in_place:
            module.inplace = False
        yield
    finally:
        for module in in_place:
            module.inplace = True
        for hook in hooks:
            hook.remove()


def _gradient(network: nn.Module, pictures: Tensor, target: int) -> Tensor:
    with torch.enable_grad():
        shown = pictures.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(shown)[:, target].sum(), shown)
    return gradient


def guided_grad_cam(layer: nn.Module, network: nn.Module, picture: Tensor, target: int) -> Tensor:
    """Guided backpropagation times Grad-CAM (Selvaraju et al. 2017), its magnitude."""
    with _guided(network):
        gradient = _gradient(network, picture, target)
    return gradient.abs().sum(1)[0] * grad_cam(layer, network, picture, target)


def gradient_times_input(network: nn.Module, picture: Tensor, target: int) -> Tensor:
    return (_gradient(network, picture, target) * picture).sum(1)[0]


def integrated_gradients(network: nn.Module, picture: Tensor, target: int) -> Tensor:
    """Sundararajan et al. 2017 from the picture of zeros, 32 steps, the midpoint rule."""
    shares = (torch.arange(32) + 0.5) / 32
    total = torch.zeros_like(picture)
    for some in shares.split(_AT_ONCE):
        path = some[:, None, None, None] * picture
        total += _gradient(network, path, target).sum(0, keepdim=True) / len(shares)
    return (total * picture).sum(1)[0]


def smooth_grad(network: nn.Module, picture: Tensor, target: int) -> Tensor:
    """Smilkov et al. 2017: the mean gradient of 32 noisy pictures, its magnitude."""
    generator = torch.Generator().manual_seed(0)
    noise = 0.15 * float(picture.max() - picture.min())
    total = torch.zeros_like(picture)
    for _ in range(32 // _AT_ONCE):
        noisy = torch.randn(_AT_ONCE, *picture.shape[1:], generator=generator)
        gradient = _gradient(network, picture + noise * noisy, target)
        total += gradient.sum(0, keepdim=True)
    return total.abs().sum(1)[0]


def magnitude(method: Attribute, network: nn.Module, picture: Tensor, target: int) -> Tensor:
    return method(network, picture, target).abs()


def occlusion(network: nn.Module, picture: Tensor, target: int) -> Tensor:
    """Captum's Occlusion of the logit, with InfoMask's default windows."""
    shapes, strides = chosen_windows(picture, None, None)
    with torch.no_grad():
        found: Tensor = Occlusion(network).attribute(
            picture, shapes, strides, target=target, perturbations_per_eval=_AT_ONCE
        )
    return found.mean(1)[0]


def rise(masks: int, network: nn.Module, picture: Tensor, target: int) -> Tensor:
    """Petsiuk et al. 2018: the mean of random masks, each weighted by p(target) behind it."""
    generator = torch.Generator().manual_seed(0)
    height, width = picture.shape[2:]
    cells, total = 7, torch.zeros(height, width)
    step = [-(-length // cells) for length in (height, width)]
    for _ in range(masks // _AT_ONCE):
        coarse = (torch.rand(_AT_ONCE, 1, cells, cells, generator=generator) < 0.5).float()
        large = [(cells + 1) * length for length in step]
        fine = F.interpolate(coarse, large, mode="bilinear", align_corners=False)
        shown = torch.empty(_AT_ONCE, 1, height, width)
        for k in range(_AT_ONCE):
            top, left = (int(torch.randint(length, (), generator=generator)) for length in step)
            shown[k] = fine[k, :, top : top + height, left : left + width]
        with torch.no_grad():
            said = network(picture * shown).softmax(1)[:, target]
        total += (said[:, None, None] * shown[:, 0]).sum(0)
    return total / masks


def on_superpixels(
    kind: Callable[[nn.Module], KernelShap | Lime],
    samples: int,
    network: nn.Module,
    picture: Tensor,
    target: int,
) -> Tensor:
    """Captum's KernelShap or Lime on 50 superpixels."""
    low, high = picture.min(), picture.max()
    regions = superpixels((picture - low) / (high - low).clamp_min(1e-6), 50)
    labels = regions.labels[0] if isinstance(regions.labels, tuple) else regions.labels
    with torch.no_grad():
        found: Tensor = kind(network).attribute(
            picture,
            target=target,
            feature_mask=labels.reshape(1, 1, *picture.shape[2:]),
            n_samples=samples,
            perturbations_per_eval=_AT_ONCE,
        )
    return found.mean(1)[0]


def noise(network: nn.Module, picture: Tensor, target: int) -> Tensor:
    return uniform_noise(*picture.shape[2:])


def blob(network: nn.Module, picture: Tensor, target: int) -> Tensor:
    return centred_blob(*picture.shape[2:])


def edges(network: nn.Module, picture: Tensor, target: int) -> Tensor:
    """The magnitude of Sobel's gradient of the mean over channels."""
    grey = picture[0].mean(0).numpy()
    return torch.from_numpy(np.hypot(sobel(grey, 0), sobel(grey, 1)))


def resized(planes: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, antialiased where it shrinks."""
    size = tuple(size)
    if tuple(planes.shape[2:]) == size:
        return planes
    return F.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=True)
