# A network whose logits are the similarities of a picture's embedding and K others.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError


class SimilarityLogits(nn.Module):
    r"""Logits of a picture: the scaled cosines of its embedding and K references.

    .. math::

        f_k(x) = s \cos(g(x), e_k) + b

    The engines for tokens take the tower by itself, and give what it returns to ``read``.

    Args:
        tower: From pictures (N, ...) to what ``embed`` reads.
        references: e, (K, D), of any length but 0.
        scale: s, one number.
        bias: b, one number.
        embed: From what the tower returns to embeddings g(x), (N, D); None if it returns these.

    Raises:
        ArgumentError: A reference is of length 0, or not finite.
    """

    references: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(
        self,
        tower: nn.Module,
        references: Tensor,
        *,
        scale: Tensor,
        bias: Tensor,
        embed: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.embed = nn.Identity().eval() if embed is None else embed
        self.register_buffer("references", _of_length_1(references))
        self.register_buffer("scale", scale.detach().to(self.references).reshape(()))
        self.register_buffer("bias", bias.detach().to(self.references).reshape(()))
        self.training = tower.training  # `eval` would set the mode of the user's network too

    def forward(self, pictures: Tensor) -> Tensor:
        """From pictures (N, ...) to logits (N, K)."""
        return self.read(self.tower(pictures))

    def read(self, output: Any) -> Tensor:
        """From what the tower returned to logits (N, K)."""
        return self.compare(self.embed(output))

    def compare(self, embeddings: Tensor) -> Tensor:
        """From embeddings (N, D) to logits (N, K)."""
        _check_embeddings(embeddings, self.references.shape[1])
        unit = F.normalize(embeddings.to(self.references.dtype), dim=1)
        return self.scale * F.linear(unit, self.references) + self.bias


def _of_length_1(references: Tensor) -> Tensor:
    """References of length 1, in single precision at least: logits need more digits than half."""
    wide = torch.promote_types(references.dtype, torch.float32)
    values = references.detach().to(wide)
    lengths = values.norm(dim=1)
    wrong = (~(lengths.isfinite() & (lengths > 0))).nonzero()[:, 0]
    if len(wrong):
        raise ArgumentError(
            f"Expected every reference to be finite and longer than 0; reference {int(wrong[0])} "
            f"has length {float(lengths[wrong[0]]):g}."
        )
    return F.normalize(values, dim=1)


def _check_embeddings(embeddings: object, width: int) -> None:
    """Refuse a network that does not return embeddings; stand-ins of a trace are not looked at."""
    if isinstance(embeddings, Mapping | tuple | list):
        part = "[0]"
        if isinstance(embeddings, Mapping):
            names = [name for name, value in embeddings.items() if isinstance(value, Tensor)]
            best = [name for name in ("image_embeds", "pooler_output") if name in names]
            part = f"[{(best or names or ['embeddings'])[0]!r}]"
        raise ArgumentError(
            f"Expected `model` to return embeddings, a tensor (N, {width}); got "
            f"{type(embeddings).__name__}. Wrap it in a torch.nn.Module whose forward(self, x) "
            f"returns self.model(x){part}."
        )
    if isinstance(embeddings, Tensor) and embeddings.shape[1:] != (width,):
        raise ArgumentError(
            f"Expected `model` to return embeddings (N, {width}), as the references have; got "
            f"{describe(embeddings)}."
        )
