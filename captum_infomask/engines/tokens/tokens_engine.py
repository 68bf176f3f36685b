# The token engine runs only the tokens that each view of a vision transformer shows.
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.tokens.transformers import Transformer, patch_size, transformer_of
from captum_infomask.engines.traced_network import StandsAside
from captum_infomask.engines.verified_copy import roundings
from captum_infomask.views.view_plan import Blank, Scene, ViewPlan

_GROUP = 64  # regions whose masks are held at a time


def kept_patches(plan: ViewPlan, patch: tuple[int, int]) -> Tensor:
    """Return the patches that each view of a plan shows: bool (V, P), row by row of the picture.

    Args:
        plan: Views that leave the picture in place; nothing is cut out.
        patch: Height and width of a patch, in pixels. Pictures are whole patches.

    Raises:
        ArgumentError: A region holds a part of a patch.
    """
    scene, images, regions = plan.scene, plan.images, plan.regions
    rows, columns = _patch_grid(scene, patch)
    if plan.hidden == "everything" or regions is None:
        return torch.full((len(plan), rows * columns), plan.hidden == "nothing")
    if plan.orders is None:
        own = _patches_of(scene, images, regions, patch)
        return own if plan.hidden == "rest" else ~own
    kept = torch.zeros(len(plan), rows * columns, dtype=torch.bool)
    for image in images.unique():
        views = (images == image).nonzero()[:, 0]
        added = plan.orders.added(views, images[views], regions[views])
        used = added.any(0).nonzero()[:, 0]
        patches = _patches_of(scene, image.expand(len(used)), used, patch)
        kept[views] = added[:, used].float() @ patches.float() > 0
    return kept


def check_pictures(scene: Scene, patch: tuple[int, int]) -> None:
    """Refuse pictures that are not made of whole patches."""
    height, width = scene.inputs[0].shape[2:]
    if height % patch[0] or width % patch[1]:
        raise ArgumentError(
            f"Expected `inputs` whose height and width are multiples of the network's patches, "
            f"{patch[0]} × {patch[1]} pixels, for RemoveTokens(); got {height} × {width}."
        )


def _patch_grid(scene: Scene, patch: tuple[int, int]) -> tuple[int, int]:
    height, width = scene.inputs[0].shape[2:]
    return height // patch[0], width // patch[1]


def _patches_of(scene: Scene, images: Tensor, regions: Tensor, patch: tuple[int, int]) -> Tensor:
    """Return the patches that make up regions (V,) of images (V,): bool (V, P)."""
    rows, columns = _patch_grid(scene, patch)
    parts = [torch.zeros(0, rows * columns, dtype=torch.bool)]
    for start in range(0, len(regions), _GROUP):
        group = slice(start, start + _GROUP)
        (mask,) = scene.regions.masks(images[group], regions[group], torch.device("cpu"))
        if mask is None:
            parts.append(torch.zeros(len(regions[group]), rows * columns, dtype=torch.bool))
            continue
        mask = mask.expand(len(regions[group]), -1, rows * patch[0], columns * patch[1])
        pixels = mask.unflatten(3, (columns, patch[1])).unflatten(2, (rows, patch[0]))
        pixels = pixels.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        whole = pixels.all(2)
        split = (pixels.any(2) & ~whole).any(1)
        if bool(split.any()):
            _refuse(scene, int(regions[group][split][0]), patch)
        parts.append(whole)
    return torch.cat(parts)


def _refuse(scene: Scene, region: int, patch: tuple[int, int]) -> None:
    channels = scene.inputs[0].shape[1]
    rows, columns = _patch_grid(scene, patch)
    windows, strides = (channels, 2 * patch[0], 2 * patch[1]), (channels, *patch)
    raise ArgumentError(
        f"Expected regions of whole patches of {patch[0]} × {patch[1]} pixels for RemoveTokens(); "
        f"region {region} {scene.regions.describe(region)} splits one. Make such regions by "
        f"grid(x, rows={rows}, columns={columns}) or sliding_windows(x, {windows}, {strides})."
    )


def check_exact(transformer: Transformer, picture: Tensor, expected: Tensor) -> None:
    """Refuse a transformer if its tokens, in another order, do not give the network's output.

    If the order of tokens matters to a network, no token can be removed as if it had never been
    there. The other order detects such a network.

    Args:
        transformer: The transformer, in parts.
        picture: One picture (1, C, H, W).
        expected: The network's own output for it (1, M).

    Raises:
        ArgumentError: They differ by more than 1e-5 of the largest number in the output. In half
            precision, and if float32 factors are rounded (TF32), the limit is what that explains.
    """
    tokens = transformer.embed(picture)
    first, patches = tokens.tensor_split([transformer.prefix], dim=1)
    order = torch.randperm(patches.shape[1], generator=torch.Generator().manual_seed(0))
    order = order.to(patches.device)
    places = torch.cat([order.new_tensor(range(transformer.prefix)), order + transformer.prefix])
    output = transformer.classify(torch.cat([first, patches[:, order]], dim=1), places[None])
    difference = float((output - expected).abs().max() / expected.abs().max())
    allowed = max(1e-5, 10 * torch.finfo(expected.dtype).eps)
    if expected.dtype == torch.float32:
        allowed = max(allowed, roundings(expected.dtype, expected.device))
    if difference > allowed:
        raise ArgumentError(
            f"Expected `forward_func` to be a vision transformer that does not mind the order of "
            f"its tokens, positions added; its output changed by {difference:.1e} of its largest "
            f"number. engine='batched' runs it, with imputers of pixels."
        )


# A chunk's size in tokens: measured with one CPU thread on ViT-B/16 (docs/tokens.md), a guess
# elsewhere.
_TOKENS_ON_CPU, _TOKENS_ON_ACCELERATOR = 1024, 2**15
_PICTURES = 32  # pictures that are embedded at a time


@dataclass(frozen=True)
class Tokens:
    """Exact runs of vision transformers by their tokens.

    With :class:`RemoveTokens`, pictures are embedded once, and a view runs only the tokens that it
    keeps. With other imputers, views run whole. Only the last block is shorter: if nothing reads
    its other tokens, it computes the class token alone.

    Raises:
        ArgumentError: In the call: the network is not a vision transformer of torchvision, timm,
            open_clip or transformers, or takes further arguments.

    Example:
        >>> import torch
        >>> from torchvision.models import VisionTransformer
        >>> from captum_infomask import InfoMask, Tokens, grid
        >>> model = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16,
        ...                           mlp_dim=32, num_classes=5).eval()
        >>> x = torch.rand(1, 3, 32, 32)
        >>> infomap = InfoMask(model).score_regions(x, target=1, view="drop",
        ...                                         regions=grid(x, 4, 4), engine=Tokens())
        >>> infomap.engine
        'tokens'

    Source: Jain et al., arXiv 2204.08945 (removing tokens).
    """

    def start(self, call: Call) -> RunningTokens:
        """Begin a call.

        Raises:
            ArgumentError: The forward function is not a known transformer, or takes further
                arguments.
        """
        if call.additional_forward_args:
            raise ArgumentError(
                "Expected no `additional_forward_args` for engine='tokens'; vision transformers "
                f"take a picture alone; got {len(call.additional_forward_args)}."
            )
        try:
            return RunningTokens(call, transformer_of(call.forward_func))
        except StandsAside as reason:
            raise _unknown(reason) from None


@dataclass(frozen=True, eq=False)
class RunningTokens:
    """The token engine at work on one call."""

    call: Call
    transformer: Transformer
    name = "tokens"

    def check(self, plan: ViewPlan, blank: Blank | None) -> None:
        """Refuse views whose tokens cannot be removed, before anything runs."""
        if plan.scene.has_pixels:
            return
        if plan.cuts is not None:
            raise ArgumentError(
                "Expected view='keep', 'drop' or 'chain' for RemoveTokens(); view='crop' resizes "
                "what it shows, and removes no patch."
            )
        self._kept(plan)
        if blank is not None:
            self._kept(blank.plan)

    def run(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each chunk's rows and outputs."""
        if plan.hidden == "nothing" and plan.cuts is None:
            yield from self._whole(plan)
        elif not plan.scene.has_pixels:
            yield from self._kept_alone(plan)
        else:
            yield from Batched().start(replace(self.call, forward_func=self._forward)).run(plan)

    def _whole(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Run whole images by the network itself, and check the engine against it on one."""
        checked = False
        for rows, output in Batched().start(self.call).run(plan):
            if not checked:
                image = plan.scene.inputs[0][plan.images[rows[:1]]]
                check_exact(self.transformer, image, output[:1])
                checked = True
            yield rows, output

    def _kept_alone(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Run views whose hidden patches are removed; views of equal length run together."""
        kept = self._kept(plan)
        counts = kept.sum(1)
        pictures = plan.scene.inputs[0]
        with self.call.generators:
            parts = [self.transformer.embed(part) for part in pictures.split(_PICTURES)]
        tokens = torch.cat(parts)
        first = torch.arange(self.transformer.prefix)
        for count in counts.unique().tolist():
            same = (counts == count).nonzero()[:, 0]
            for rows in same.split(self._chunk_size(pictures, len(first) + count)):
                patches = kept[rows].nonzero()[:, 1].reshape(len(rows), count)
                places = torch.cat([first.expand(len(rows), -1), patches + len(first)], dim=1)
                places = places.to(tokens.device)
                images = plan.images[rows, None].to(tokens.device)
                with self.call.generators:
                    output = self.transformer.classify(tokens[images, places], places)
                yield rows, output

    def _kept(self, plan: ViewPlan) -> Tensor:
        try:
            patch = patch_size(self.transformer)
        except StandsAside as reason:
            raise _unknown(reason) from None
        check_pictures(plan.scene, patch)
        kept = kept_patches(plan, patch)
        if self.transformer.needs_patches and not bool(kept.any(1).all()):
            view = int((~kept.any(1)).nonzero()[0])
            raise ArgumentError(
                f"Expected views that keep a patch, for a network that pools patches; got the view "
                f"of {plan.describe(view)}, which keeps none under RemoveTokens(). Count from "
                f"the prior, as view='keep' with reference='prior' does, or use view='drop'."
            )
        return kept

    def _chunk_size(self, pictures: Tensor, tokens: int) -> int:
        if self.call.perturbations_per_eval is not None:
            return self.call.perturbations_per_eval * len(pictures)
        budget = _TOKENS_ON_CPU if pictures.device.type == "cpu" else _TOKENS_ON_ACCELERATOR
        return max(budget // tokens, 1)

    def _forward(self, pictures: Tensor) -> Any:
        tokens = self.transformer.embed(pictures)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.transformer.classify(tokens, places[None])


def _unknown(reason: StandsAside) -> ArgumentError:
    return ArgumentError(
        f"Expected `forward_func` to be a vision transformer for engine='tokens' and "
        f"RemoveTokens(): torchvision's, timm's or open_clip's VisionTransformer, or transformers' "
        f"ViT, DeiT, BEiT, DINOv2, SigLIP or CLIP, unwrapped or in an adapter, in evaluation mode "
        f"and without hooks; {reason}."
    )
