# The imputer that removes hidden patches from a vision transformer's sequence.
from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask._types import Tensors
from captum_infomask.imputers.imputer_protocol import float_images


@dataclass(frozen=True)
class RemoveTokens:
    r"""Hidden patches are removed from a vision transformer's sequence of tokens.

    .. math::

        f(x_S) = \mathrm{head}(\mathrm{blocks}(c,\, e_p(x) + \pi_p : p \in S)),

    with c the class token and similar tokens, e_p the embedding of patch p and π_p its position,
    which a patch keeps. Nothing replaces the hidden patches, and the all-imputed view is c alone.
    This meaning of *missing* differs from grey pixels, and so do the numbers. It is also faster,
    because a view costs only its remaining tokens. It works for ``keep``, ``drop`` and ``chain``,
    for regions of whole patches, and for the ``VisionTransformer`` of torchvision, timm or
    open_clip, and transformers' ViT, DeiT, BEiT, DINOv2, SigLIP and CLIP, also inside an adapter.
    The engine is ``tokens``.

    Raises:
        ArgumentError: When used: the view is ``crop``, a region splits a patch, or the engine does
            not know the network as a transformer.

    Example:
        >>> import torch
        >>> from torchvision.models import VisionTransformer
        >>> from captum_infomask import InfoMask, RemoveTokens, grid
        >>> model = VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=2,
        ...                           hidden_dim=16, mlp_dim=32, num_classes=5).eval()
        >>> x = torch.rand(1, 3, 32, 32)
        >>> infomap = InfoMask(model).score_regions(
        ...     x, target=2, view="keep", regions=grid(x, 4, 4), imputer=RemoveTokens())
        >>> infomap.engine
        'tokens'

    Source: Jain et al. 2022, "Missingness Bias in Model Debugging", arXiv 2204.08945.
    """

    def prepare(self, inputs: Tensors) -> Removed:
        """Check that the inputs are one batch of images."""
        float_images("RemoveTokens", inputs)
        if len(inputs) != 1:
            raise ArgumentError(
                f"Expected one tensor of images as `inputs` for the imputer RemoveTokens; got "
                f"{len(inputs)} tensors."
            )
        return Removed()


@dataclass(frozen=True)
class Removed:
    """The stand-in of ``RemoveTokens``: it says that nothing replaces hidden patches."""

    def __call__(self, images: Tensor, hidden: tuple[Tensor | None, ...]) -> Tensors:
        """Refuse: a removed token has no pixels."""
        raise ArgumentError(
            "Expected an `imputer` of pixels here; RemoveTokens() puts none in their place. It "
            "works with InfoMask of a vision transformer, run by engine='tokens'."
        )
