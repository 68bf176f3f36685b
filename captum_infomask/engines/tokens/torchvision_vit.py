# torchvision's VisionTransformer taken apart.
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_infomask.engines.tokens.types import type_name

if TYPE_CHECKING:
    from torchvision.models.vision_transformer import VisionTransformer


@dataclass(frozen=True, eq=False)
class TorchvisionTransformer:
    """Tokens in and out of the network; its head reads the class token."""

    network: VisionTransformer
    prefix = 1
    needs_patches = False

    @property
    def embedding(self) -> nn.Module:
        """The patch embedding."""
        return self.network.conv_proj  # type: ignore[no-any-return]

    def embed(self, pictures: Tensor) -> Tensor:
        """Pictures → tokens with their positions."""
        patches = self.network._process_input(pictures)
        first = self.network.class_token.expand(len(patches), -1, -1)
        encoder = self.network.encoder
        return encoder.dropout(torch.cat([first, patches], dim=1) + encoder.pos_embedding)  # type: ignore[no-any-return]

    def classify(self, tokens: Tensor) -> Tensor:
        """Tokens → the network's output."""
        encoder = self.network.encoder
        blocks = list(encoder.layers)
        for block in blocks[:-1]:
            tokens = block(tokens)
        for block in blocks[-1:]:
            tokens = _class_token(block, tokens)
        return self.network.heads(encoder.ln(tokens)[:, 0])  # type: ignore[no-any-return]


def _class_token(block: Any, tokens: Tensor) -> Tensor:
    """What the last block makes of the class token; nothing reads what it makes of the others."""
    if type_name(block) != "torchvision.models.vision_transformer.EncoderBlock":
        return block(tokens)  # type: ignore[no-any-return]
    normed = block.ln_1(tokens)
    attended, _ = block.self_attention(normed[:, :1], normed, normed, need_weights=False)
    first = tokens[:, :1] + block.dropout(attended)
    return first + block.mlp(block.ln_2(first))  # type: ignore[no-any-return]
