# torchvision's networks with random weights, such that every part of a picture changes the logits.
from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlock
from torchvision.models.resnet import BasicBlock, Bottleneck

_NAMES = (
    "resnet18",
    "resnet50",
    "vgg16",
    "mobilenet_v2",
    "densenet121",
    "convnext_tiny",
    "efficientnet_b0",
)


def _vision_transformer(side: int) -> nn.Module:
    return torchvision.models.vit_b_16(weights=None, image_size=side)


def _timm(name: str, side: int) -> nn.Module:
    import timm

    return timm.create_model(name, img_size=side)


def _any_size(name: str, side: int) -> nn.Module:
    return torchvision.models.get_model(name, weights=None)


# Each builds a network for pictures of so many pixels a side.
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    **{name: partial(_any_size, name) for name in _NAMES},
    "vit_b_16": _vision_transformer,
}
TIMM: dict[str, Callable[[int], nn.Module]] = {
    "timm/vit_small_patch16_224": partial(_timm, "vit_small_patch16_224"),
}


def network(name: str, side: int = 224, *, calibrate: bool = True) -> nn.Module:
    """A network in evaluation mode whose logits depend on the picture.

    Args:
        name: Of :data:`NETWORKS` or :data:`TIMM`.
        side: Height and width of the pictures that it will see.
        calibrate: Whether batch norms get the statistics of random pictures, as training would
            give them; without it activations die out on their way up.
    """
    torch.manual_seed(0)
    made = (NETWORKS | TIMM)[name](side)
    _redraw(made)
    if calibrate:
        calibrated(made, torch.randn(8, 3, side, side))
    return made.eval().requires_grad_(False)


def calibrated(made: nn.Module, pictures: Tensor) -> nn.Module:
    """Give a network of random weights the batch statistics of some pictures."""
    made.eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
            module.train()
    with torch.no_grad():
        made(pictures)
    return made.eval().requires_grad_(False)


@torch.no_grad()
def _redraw(made: nn.Module) -> None:
    """Undo initial values for training, such as heads of 0; keep float32 well-conditioned."""
    for module in made.modules():
        if isinstance(module, CNBlock):
            module.layer_scale.fill_(0.5)
        elif isinstance(module, BasicBlock | Bottleneck):
            # At a weight of 1 ResNet-50's plain pass in float32 is off by 1.3e-5 of its logits, at
            # 0.5 by 3.5e-6: branches that are as large as what they are added to enlarge rounding.
            norms = [each for each in module.children() if isinstance(each, nn.BatchNorm2d)]
            norms[-1].weight.fill_(0.5)
    head = [module for module in made.modules() if isinstance(module, nn.Linear)][-1]
    head.weight.normal_(std=head.in_features**-0.5)
    head.bias.zero_()
