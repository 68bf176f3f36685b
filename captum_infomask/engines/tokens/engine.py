# The token engine: views of a vision transformer, for the price of the tokens that they show.
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask.engines.base import Call
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.tokens.exact import check_exact
from captum_infomask.engines.tokens.kept import check_pictures, kept_patches
from captum_infomask.engines.tokens.transformers import Transformer, patch_size, transformer_of
from captum_infomask.engines.traced import StandsAside
from captum_infomask.imputers.remove_tokens import Removed
from captum_infomask.views.view_plan import Blank, ViewPlan

# A chunk's size in tokens: measured with one CPU thread on ViT-B/16 (docs/tokens.md); a guess
# elsewhere.
_TOKENS_ON_CPU, _TOKENS_ON_ACCELERATOR = 1024, 2**15
_PICTURES = 32  # embedded at a time


@dataclass(frozen=True)
class Tokens:
    """Vision transformers by their tokens, exactly.

    With :class:`RemoveTokens`, pictures are embedded once, and a view runs only the tokens that it
    keeps. With other imputers, views run whole, but for the last block, which is asked for the
    class token alone where nothing reads the others.

    Raises:
        ArgumentError: In the call: the network is none of torchvision's or timm's vision
            transformers, or takes further arguments.

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
            ArgumentError: The forward function is no transformer that is known, or takes further
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
        """Refuse views that tokens cannot be removed for, before anything runs."""
        if not isinstance(plan.scene.stand_in, Removed):
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
        elif isinstance(plan.scene.stand_in, Removed):
            yield from self._kept_alone(plan)
        else:
            yield from Batched().start(replace(self.call, forward_func=self._forward)).run(plan)

    def _whole(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Whole images, by the network itself: what the engine must give, checked on one."""
        checked = False
        for rows, output in Batched().start(self.call).run(plan):
            if not checked:
                image = plan.scene.inputs[0][plan.images[rows[:1]]]
                check_exact(self.transformer, image, output[:1])
                checked = True
            yield rows, output

    def _kept_alone(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Views whose hidden patches are removed, those of equal length together."""
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
                images = plan.images[rows, None].to(tokens.device)
                with self.call.generators:
                    output = self.transformer.classify(tokens[images, places.to(tokens.device)])
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

    def _forward(self, pictures: Tensor) -> Tensor:
        return self.transformer.classify(self.transformer.embed(pictures))


def _unknown(reason: StandsAside) -> ArgumentError:
    return ArgumentError(
        f"Expected `forward_func` to be a vision transformer for engine='tokens' and "
        f"RemoveTokens(): torchvision's or timm's VisionTransformer itself, unwrapped, in "
        f"evaluation mode and without hooks; {reason}."
    )
