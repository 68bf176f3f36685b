# What the engine asks of a vision transformer, and which networks are known to answer.
from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from captum_infomask.engines.tokens.timm_vit import TimmTransformer
from captum_infomask.engines.tokens.torchvision_vit import TorchvisionTransformer
from captum_infomask.engines.tokens.types import type_name
from captum_infomask.engines.traced import StandsAside, plain_module


class Transformer(Protocol):
    """A vision transformer taken apart; its modules are called, and nothing of it is changed."""

    @property
    def prefix(self) -> int:
        """Tokens before those of patches: the class token and its like, which always stay."""
        ...

    @property
    def needs_patches(self) -> bool:
        """Whether the head pools the tokens of patches alone, so that one at least must stay."""
        ...

    @property
    def embedding(self) -> nn.Module:
        """The module that turns patches into tokens."""
        ...

    def embed(self, pictures: Tensor) -> Tensor:
        """Pictures (B, C, H, W) → tokens (B, S, D), positions added, prefix first."""
        ...

    def classify(self, tokens: Tensor) -> Tensor:
        """Some of those tokens (B, s, D), the prefix among them → the network's output (B, M)."""
        ...


_FAMILIES: dict[str, type[Any]] = {
    "torchvision.models.vision_transformer.VisionTransformer": TorchvisionTransformer,
    "timm.models.vision_transformer.VisionTransformer": TimmTransformer,
}


def transformer_of(forward_func: object) -> Transformer:
    """Take a vision transformer apart.

    Raises:
        StandsAside: It is no network that is known, is in training mode or has hooks.
    """
    network = plain_module(forward_func)
    family = _FAMILIES.get(type_name(network))
    if family is None:
        raise StandsAside(f"{type(network).__name__} is none")
    made: Transformer = family(network)
    return made


def patch_size(transformer: Transformer) -> tuple[int, int]:
    """Height and width of the pixels that one token sees.

    Raises:
        StandsAside: Tokens see beyond a patch of their own.
    """
    conv = transformer.embedding
    if (
        type(conv) is not nn.Conv2d
        or conv.kernel_size != conv.stride
        or set(conv.dilation) != {1}
        or conv.padding not in ((0, 0), "valid")
    ):
        raise StandsAside(
            f"its patches are embedded by {type(conv).__name__}, not one convolution that sees "
            f"each patch by itself"
        )
    height, width = conv.kernel_size
    return height, width
