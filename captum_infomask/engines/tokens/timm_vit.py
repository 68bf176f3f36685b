# timm's VisionTransformer taken apart.
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from captum_infomask.engines.tokens.types import type_name
from captum_infomask.engines.traced import StandsAside

# The parts of an attention that _attend_first knows; one with others runs whole.
_PARTS = {"qkv", "q_norm", "k_norm", "attn_drop", "norm", "proj", "proj_drop"}


@dataclass(frozen=True, eq=False)
class TimmTransformer:
    """Tokens in and out of the network, whatever its norms, registers and pooling.

    Attributes:
        network: timm's module, of a package that need not be installed for its name to be known.
    """

    network: Any

    def __post_init__(self) -> None:
        if not self.network.global_pool:
            raise StandsAside("it does not pool its tokens (global_pool='')")

    @property
    def prefix(self) -> int:
        """The class token and registers."""
        return int(self.network.num_prefix_tokens)

    @property
    def needs_patches(self) -> bool:
        """Whether it pools no token of the prefix."""
        # Older ones of timm 1.0 have no such choice.
        with_prefix = getattr(self.network, "pool_include_prefix", False)
        return not (self.prefix and (self._reads_one or with_prefix))

    @property
    def _reads_one(self) -> bool:
        """Whether the head reads the class token alone."""
        return bool(self.network.global_pool == "token")

    @property
    def embedding(self) -> nn.Module:
        """The patch embedding."""
        embedding = self.network.patch_embed
        is_plain = type_name(embedding) == "timm.layers.patch_embed.PatchEmbed"
        return embedding.proj if is_plain else embedding  # type: ignore[no-any-return]

    def embed(self, pictures: Tensor) -> Tensor:
        """Pictures → tokens with their positions."""
        network = self.network
        tokens = network._pos_embed(network.patch_embed(pictures))
        return network.norm_pre(network.patch_drop(tokens))  # type: ignore[no-any-return]

    def classify(self, tokens: Tensor) -> Tensor:
        """Tokens → the network's output."""
        blocks = list(self.network.blocks)
        for block in blocks[:-1]:
            tokens = block(tokens)
        for block in blocks[-1:]:
            tokens = _class_token(block, tokens) if self._reads_one else block(tokens)
        return self.network.forward_head(self.network.norm(tokens))  # type: ignore[no-any-return]


def _class_token(block: Any, tokens: Tensor) -> Tensor:
    """What the last block makes of the class token; nothing reads what it makes of the others."""
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
    """The attention's answer (B, 1, D) to the first token's query alone."""
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
