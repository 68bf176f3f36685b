# Three small networks for pictures of 64 pixels, trained here and kept in a folder.
from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

from captum_infomask.datasets import mnist, sklearn_digits

CLASSES = 10


class Residual(nn.Module):
    """Two convolutions beside a way past them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        past = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
        self.past = nn.Sequential(*past)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inside = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return self.relu(inside + self.past(x))


def residual() -> nn.Module:
    """Four residual blocks at 32, 16, 8 and 8 pixels, the mean over places, one linear map."""
    return nn.Sequential(
        OrderedDict(
            stem=_convolution(3, 16, stride=2),
            block1=Residual(16, 16, 1),
            block2=Residual(16, 32, 2),
            block3=Residual(32, 64, 2),
            block4=Residual(64, 96, 1),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(96, CLASSES),
        )
    )


def vgg() -> nn.Module:
    """Convolutions and maxima by turns, means over quarters, two linear maps."""
    return nn.Sequential(
        OrderedDict(
            block1=_convolution(3, 16, stride=2),
            block2=nn.Sequential(_convolution(16, 24), _convolution(24, 24), nn.MaxPool2d(2)),
            block3=nn.Sequential(_convolution(24, 48), _convolution(48, 48), nn.MaxPool2d(2)),
            block4=nn.Sequential(_convolution(48, 64), _convolution(64, 64)),
            pool=nn.AdaptiveAvgPool2d(2),
            flat=nn.Flatten(),
            hidden=nn.Linear(64 * 2 * 2, 128),
            relu=nn.ReLU(),
            drop=nn.Dropout(0.3),
            head=nn.Linear(128, CLASSES),
        )
    )


def transformer(trunk: nn.Module | None = None) -> nn.Module:
    """torchvision's vision transformer, four blocks on 8 × 8 tokens, as a hybrid.

    Its stem is the first half of a residual network (Dosovitskiy et al. 2021, Sec. 3.1); upon plain
    convolutions it learned little.

    Args:
        trunk: The residual network that the stem is copied from, untrained if None.
    """
    network = VisionTransformer(
        image_size=64,
        patch_size=8,
        num_layers=4,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
        num_classes=CLASSES,
    )
    below = residual()
    if trunk is not None:
        below.load_state_dict(trunk.state_dict())
    first = {name: below.get_submodule(name) for name in ("stem", "block1", "block2")}
    network.conv_proj = nn.Sequential(OrderedDict(first, tokens=nn.Conv2d(32, 64, 3, 2, 1)))
    return network


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


# Each is built by a function, and trained for so many steps of 64 pictures at such a rate.
SMALL: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "residual": (residual, 900, 3e-3),
    "vgg": (vgg, 900, 1e-3),
    "transformer": (transformer, 900, 1e-3),
}


@dataclass(frozen=True)
class Lab:
    """What trained networks are made of.

    Attributes:
        cache: The folder that keeps them.
        digits: MNIST's folder; scikit-learn's digits if None.
        hurry: Whether to train for a fiftieth of the steps, which gives networks that know little.
    """

    cache: Path
    digits: Path | None = None
    hurry: bool = False

    @property
    def origin(self) -> str:
        """Whose digits they are."""
        return "sklearn" if self.digits is None else "mnist"

    def read_digits(self, train: bool) -> tuple[Tensor, Tensor]:
        """The digits and their labels."""
        return sklearn_digits(train) if self.digits is None else mnist(self.digits, train)

    def count(self, most: int) -> int:
        """So many steps, or pictures to train on."""
        return max(20, most // 50) if self.hurry else most


def trained(
    build: Callable[[], nn.Module],
    pictures: Callable[[], tuple[Tensor, Tensor]],
    steps: int,
    file: Path,
    prepare: Callable[[Tensor], Tensor] = Tensor.float,
    rate: float = 3e-3,
) -> nn.Module:
    """A network fitted by cross-entropy, from a file if it was fitted before.

    Args:
        build: Makes the network.
        pictures: Draws pictures (N, C, H, W) and labels (N,).
        steps: So many times 64 pictures.
        file: Where the weights are kept; steps, rate and number of weights are added to its name.
        prepare: What is done to the pictures before the network sees them.
        rate: The largest learning rate.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build()
    weights = sum(weight.numel() for weight in network.parameters())
    file = file.with_name(f"{file.name}-{steps}-{rate:g}-{weights}.safetensors")
    if file.exists():
        network.load_state_dict(load_file(file))
        return network.eval().requires_grad_(False)
    start = time.perf_counter()
    _fit(network.train(), *pictures(), steps, prepare, rate)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), file)
    took = time.perf_counter() - start
    print(f"Trained {file.stem} in {took:.0f} s", file=sys.stderr)
    return network.eval().requires_grad_(False)


def _fit(
    network: nn.Module,
    pictures: Tensor,
    labels: Tensor,
    steps: int,
    prepare: Callable[[Tensor], Tensor],
    rate: float,
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
        for step in range(steps):
            chosen = torch.randint(len(pictures), (64,))
            logits = network(prepare(pictures[chosen]))
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.02)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            if step % 100 == 99:
                print(f"  step {step + 1}: loss {loss.item():.3f}", file=sys.stderr, flush=True)


@torch.no_grad()
def accuracy(network: nn.Module, pictures: Tensor, labels: Tensor) -> float:
    """Share of the pictures for which the network answers right."""
    right = [
        network(some).argmax(1) == truth
        for some, truth in zip(pictures.split(100), labels.split(100), strict=True)
    ]
    return torch.cat(right).float().mean().item()
