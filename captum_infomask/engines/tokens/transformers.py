# Vision transformers in the parts that the engine needs: torchvision's, timm's, those in adapters.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_infomask._outputs import logits_of
from captum_infomask.engines.tokens.huggingface_blocks import (
    HuggingFaceTransformer,
    OpenClipTransformer,
)
from captum_infomask.engines.traced import plain_module
from captum_infomask.engines.traced_network import StandsAside

if TYPE_CHECKING:
    from torchvision.models.vision_transformer import VisionTransformer


def type_name(thing: object) -> str:
    """Return the full name of a thing's own type."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


@dataclass(frozen=True, eq=False)
class TorchvisionTransformer:
    """The way into the tokens of the network and out of them; its head reads the class token."""

    network: VisionTransformer
    prefix = 1
    needs_patches = False

    @property
    def embedding(self) -> nn.Module:
        """The patch embedding."""
        return self.network.conv_proj  # type: ignore[no-any-return]

    def embed(self, pictures: Tensor) -> Tensor:
        """Turn pictures into tokens with their positions."""
        patches = self.network._process_input(pictures)
        first = self.network.class_token.expand(len(patches), -1, -1)
        encoder = self.network.encoder
        return encoder.dropout(torch.cat([first, patches], dim=1) + encoder.pos_embedding)  # type: ignore[no-any-return]

    def classify(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Turn tokens into the network's output."""
        encoder = self.network.encoder
        blocks = list(encoder.layers)
        for block in blocks[:-1]:
            tokens = block(tokens)
        for block in blocks[-1:]:
            tokens = _class_token_of_torchvision(block, tokens)
        return self.network.heads(encoder.ln(tokens)[:, 0])  # type: ignore[no-any-return]


def _class_token_of_torchvision(block: Any, tokens: Tensor) -> Tensor:
    """Return the last block's class token; nothing reads its other tokens."""
    if type_name(block) != "torchvision.models.vision_transformer.EncoderBlock":
        return block(tokens)  # type: ignore[no-any-return]
    normed = block.ln_1(tokens)
    attended, _ = block.self_attention(normed[:, :1], normed, normed, need_weights=False)
    first = tokens[:, :1] + block.dropout(attended)
    return first + block.mlp(block.ln_2(first))  # type: ignore[no-any-return]


# The parts of an attention that _attend_first knows. An attention with other parts runs whole.
_PARTS = {"qkv", "q_norm", "k_norm", "attn_drop", "norm", "proj", "proj_drop"}


@dataclass(frozen=True, eq=False)
class TimmTransformer:
    """The way into the tokens of the network and out of them, for all norms, registers and pooling.

    Attributes:
        network: timm's module. The package need not be installed for its name to be known.
    """

    network: Any

    def __post_init__(self) -> None:
        if not self.network.global_pool:
            raise StandsAside("it does not pool its tokens (global_pool='')")

    @property
    def prefix(self) -> int:
        """The number of tokens of the prefix: the class token and registers."""
        return int(self.network.num_prefix_tokens)

    @property
    def needs_patches(self) -> bool:
        """Whether the pool uses no token of the prefix."""
        # Older versions of timm 1.0 have no such choice.
        with_prefix = getattr(self.network, "pool_include_prefix", False)
        return not (self.prefix and (self._reads_one or with_prefix))

    @property
    def _reads_one(self) -> bool:
        """Whether the head reads only the class token."""
        return bool(self.network.global_pool == "token")

    @property
    def embedding(self) -> nn.Module:
        """The patch embedding."""
        embedding = self.network.patch_embed
        is_plain = type_name(embedding) == "timm.layers.patch_embed.PatchEmbed"
        return embedding.proj if is_plain else embedding  # type: ignore[no-any-return]

    def embed(self, pictures: Tensor) -> Tensor:
        """Turn pictures into tokens with their positions."""
        network = self.network
        tokens = network._pos_embed(network.patch_embed(pictures))
        return network.norm_pre(network.patch_drop(tokens))  # type: ignore[no-any-return]

    def classify(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Turn tokens into the network's output."""
        blocks = list(self.network.blocks)
        for block in blocks[:-1]:
            tokens = block(tokens)
        for block in blocks[-1:]:
            tokens = _class_token(block, tokens) if self._reads_one else block(tokens)
        return self.network.forward_head(self.network.norm(tokens))  # type: ignore[no-any-return]


def _class_token(block: Any, tokens: Tensor) -> Tensor:
    """Return the last block's class token; nothing reads its other tokens."""
    if type_name(block) != "timm.models.vision_transformer.Block" or not _is_plain(block.attn):
        return block(tokens)  # type: ignore[no-any-return]
    attended = _attend_first(block.attn, block.norm1(tokens))
    first = tokens[:, :1] + block.drop_path1(block.ls1(attended))
    return first + block.drop_path2(block.ls2(block.mlp(block.norm2(first))))  # type: ignore[no-any-return]


def _is_plain(attention: nn.Module) -> bool:
    return (
        type_name(attention) == "timm.layers.attention.Attention"
        and {name for name, _ in attention.named_children()} <= _PARTS
        and type(attention.qkv) is nn.Linear
    )


def _attend_first(attention: Any, tokens: Tensor) -> Tensor:
    """Return the attention's output (B, 1, D) for the first token's query alone."""
    width = attention.proj.in_features
    weight, bias = attention.qkv.weight, attention.qkv.bias
    asks, tells = (None, None) if bias is None else (bias[:width], bias[width:])
    query = F.linear(tokens[:, :1], weight[:width], asks)
    keys, values = F.linear(tokens, weight[width:], tells).chunk(2, dim=-1)
    query, keys, values = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for part in (query, keys, values)
    )
    mixed = F.scaled_dot_product_attention(
        attention.q_norm(query), attention.k_norm(keys), values, scale=attention.scale
    )
    mixed = mixed.transpose(1, 2).flatten(2)
    if "norm" in dict(attention.named_children()):
        mixed = attention.norm(mixed)
    return attention.proj(mixed)  # type: ignore[no-any-return]


class Transformer(Protocol):
    """A vision transformer in parts. Its modules are called, and nothing of it changes."""

    @property
    def prefix(self) -> int:
        """The number of tokens before those of patches: the class token and its like; all stay."""
        ...

    @property
    def needs_patches(self) -> bool:
        """Whether the head pools only the tokens of patches, so at least one must stay."""
        ...

    @property
    def embedding(self) -> nn.Module:
        """The module that turns patches into tokens."""
        ...

    def embed(self, pictures: Tensor) -> Tensor:
        """Turn pictures (B, C, H, W) into tokens (B, S, D), positions added, prefix first."""
        ...

    def classify(self, tokens: Tensor, places: Tensor) -> Any:
        """Turn some of those tokens (B, s, D), prefix included, into the network's output.

        Args:
            tokens: The tokens.
            places: Their places in the whole sequence, long (B, s).
        """
        ...


@runtime_checkable
class OverTower(Protocol):
    """A network whose output is read from that of another: ``forward(x)`` is ``read(tower(x))``.

    Adapters have this form. So the engine sees the transformer in them.
    """

    tower: nn.Module

    def read(self, output: Any) -> Any:
        """Turn what the tower returned into the output (N, M)."""
        ...


@dataclass(frozen=True, eq=False)
class ReadTransformer:
    """A transformer whose output is read by a further step.

    Attributes:
        inner: The transformer.
        read: The step.
    """

    inner: Transformer
    read: Callable[[Any], Any]

    @property
    def prefix(self) -> int:
        """The number of tokens before those of patches."""
        return self.inner.prefix

    @property
    def needs_patches(self) -> bool:
        """Whether at least one patch must stay."""
        return self.inner.needs_patches

    @property
    def embedding(self) -> nn.Module:
        """The module that turns patches into tokens."""
        return self.inner.embedding

    def embed(self, pictures: Tensor) -> Tensor:
        """Turn pictures into tokens with their positions."""
        return self.inner.embed(pictures)

    def classify(self, tokens: Tensor, places: Tensor) -> Any:
        """Turn tokens into the output."""
        return self.read(self.inner.classify(tokens, places))


_FAMILIES: dict[str, Callable[[Any], Transformer]] = {
    "torchvision.models.vision_transformer.VisionTransformer": TorchvisionTransformer,
    "timm.models.vision_transformer.VisionTransformer": TimmTransformer,
    "open_clip.transformer.VisionTransformer": OpenClipTransformer,
    # open_clip's tower of a network of timm's.
    "open_clip.timm_model.TimmModel": lambda network: ReadTransformer(
        _parts_of(network.trunk), network.head
    ),
}


def transformer_of(forward_func: object) -> Transformer:
    """Return the parts of a vision transformer, or of the one in an adapter.

    Raises:
        StandsAside: It is not a known network, is in training mode or has hooks.
    """
    return ReadTransformer(_parts_of(plain_module(forward_func)), logits_of)


def _parts_of(network: nn.Module) -> Transformer:
    family = _FAMILIES.get(type_name(network))
    if family is not None:
        return family(network)
    if HuggingFaceTransformer.knows(network):
        return HuggingFaceTransformer(network)
    if isinstance(network, OverTower):
        return ReadTransformer(_parts_of(network.tower), network.read)
    raise StandsAside(f"{type(network).__name__} is none")


def patch_size(transformer: Transformer) -> tuple[int, int]:
    """Return the height and width of the pixels that one token sees.

    Raises:
        StandsAside: Tokens see beyond their own patch.
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
