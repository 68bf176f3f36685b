# Measures how much a map is about the picture, and how much about the imputer.
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from captum_infomask._checks import check_inputs, describe, one_of
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import said_once
from captum_infomask._types import Target
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.imputers import Blur, Constant, Imputer, Inpaint, LocalMean
from captum_infomask.regions.windows import grid
from captum_infomask.report.evaluation_figures import FillPanel, fills_figure
from captum_infomask.results import InfoMap
from captum_infomask.scores.heads import SOFTMAX_HEADS
from captum_infomask.scores.score_settings import NATS_PER_UNIT
from captum_infomask.views.choose_view import ViewName

_IMPUTERS: dict[str, Imputer] = {
    "0": Constant(0),
    "blur": Blur(),
    "local mean": LocalMean(),
    "inpaint": Inpaint(),
}


@dataclass(frozen=True, eq=False, repr=False)
class FillDisagreement:
    """The change of scores between imputers, and the network's answers for all-imputed pictures.

    Attributes:
        imputers: The I imputers' names.
        maps: One InfoMap per imputer.
        entropy: The entropy of p(y | all-imputed picture), in bits, (I, N). It is log2 M if the
            network has no opinion about a picture that shows nothing.
        top_class: The likeliest class of the all-imputed picture, (I, N).
        top_probability: Its probability, (I, N).

    Example:
        >>> import torch
        >>> from captum_infomask import Constant, InfoMask, fill_disagreement, grid
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
        >>> x, fills = torch.rand(1, 3, 8, 8), {"black": Constant(0), "white": Constant(1)}
        >>> found = fill_disagreement(
        ...     InfoMask(model), x, target=1, imputers=fills, regions=grid(x, 2, 2))
        >>> str(found).splitlines()[0]
        'imputer  mean |score|  largest  entropy of all imputed  its top class'
    """

    imputers: tuple[str, ...]
    maps: tuple[InfoMap, ...]
    entropy: Tensor
    top_class: Tensor
    top_probability: Tensor

    @property
    def unit(self) -> str:
        """The scores' unit."""
        return self.maps[0].unit

    @property
    def scores(self) -> Tensor:
        """Information of each region with each imputer, (I, N, R)."""
        return torch.stack([infomap.scores for infomap in self.maps])

    @property
    def movement(self) -> Tensor:
        """The change of each score: the largest minus the smallest over imputers, (N, R)."""
        return self.scores.amax(0) - self.scores.amin(0)

    @property
    def share(self) -> Tensor:
        """The mean movement as a share of the largest magnitude of any score, (N,).

        Near 0 the map is about the picture. Near 1 and above, it is about the fill.
        """
        largest = self.scores.abs().nan_to_num(0).amax((0, 2))
        return self.movement.nanmean(1) / largest.clamp_min(1e-12)

    def __repr__(self) -> str:
        """The text that a notebook or a prompt shows."""
        return str(self)

    def __str__(self) -> str:
        """A table of the first image, with a line per imputer."""
        width = max(map(len, (*self.imputers, "imputer")))
        lines = [
            f"{'imputer':<{width}}  mean |score|  largest  entropy of all imputed  its top class"
        ]
        for number, name in enumerate(self.imputers):
            scores = self.scores[number, 0]
            lines.append(
                f"{name:<{width}}  {float(scores.abs().nanmean()):>12.2f}  "
                f"{float(scores.nan_to_num(-math.inf).max()):>7.2f}  "
                f"{float(self.entropy[number, 0]):>17.2f} bits  "
                f"{int(self.top_class[number, 0])} ({float(self.top_probability[number, 0]):.0%})"
            )
        moved = self.movement[0]
        lines.append(
            f"Regions move by {float(moved.nanmedian()):.2f} {self.unit} (median), "
            f"{float(moved.nan_to_num(0).max()):.2f} at most; on average by "
            f"{float(self.share[0]):.0%} of the largest score."
        )
        return "\n".join(lines)

    def figure(self, image: npt.NDArray[np.uint8] | None = None) -> tuple[Figure, list[Axes]]:
        """Draw the first image's maps for all imputers on one scale, and the change of scores.

        Args:
            image: (H, W, 3), uint8, the picture to show beside them, if any.
        """
        panels = [
            FillPanel(
                name,
                self._plane(infomap),
                f"all imputed: class {int(self.top_class[number, 0])}, "
                f"{float(self.top_probability[number, 0]):.0%}",
            )
            for number, (name, infomap) in enumerate(zip(self.imputers, self.maps, strict=True))
        ]
        moved = InfoMap(**{**vars(self.maps[0]), "scores": self.movement})
        note = f"{float(self.share[0]):.0%} of the largest, on average"
        panels.append(FillPanel("how far it moves", self._plane(moved), note))
        return fills_figure(panels, unit=self.unit, image=image)

    @staticmethod
    def _plane(infomap: InfoMap) -> npt.NDArray[np.float32]:
        attributions = infomap.attributions()
        tensor = attributions[0] if isinstance(attributions, tuple) else attributions
        plane: npt.NDArray[np.float32] = tensor[0].mean(0).float().cpu().numpy()
        return plane


@said_once()
def fill_disagreement(
    infomask: InfoMask,
    inputs: Tensor,
    target: Target,
    *,
    view: ViewName = "drop",
    imputers: Mapping[str, Imputer] | None = None,
    **options: Any,
) -> FillDisagreement:
    """Score the same regions with several imputers, and measure how much the answers differ.

    The network also answers to the values that replace hidden pixels (missingness bias). If scores
    change by as much as their size, the map is about the fill.

    Args:
        infomask: The ``InfoMask`` of the network.
        inputs: Images (N, C, H, W).
        target: The class, in any form that Captum accepts.
        view: ``drop``, ``keep`` or ``chain``.
        imputers: At least two, by name; 0, blur, local mean and inpainting if None.
        **options: Other arguments of ``attribute``: regions, windows, ``perturbations_per_eval``.

    Returns:
        A :class:`FillDisagreement`; ``print`` shows it as a table, ``figure`` draws it.

    Raises:
        ArgumentError: The same as from ``attribute``; or there are fewer than two ``imputers``, or
            the InfoMask's head gives no probability per class.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask, fill_disagreement, grid
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
        >>> x = torch.rand(1, 3, 8, 8)
        >>> found = fill_disagreement(InfoMask(model), x, target=1, regions=grid(x, 2, 2))
        >>> found.movement.shape, found.entropy.shape
        (torch.Size([1, 4]), torch.Size([4, 1]))

    Source: Jain et al., "Missingness Bias in Model Debugging", ICLR 2022 (arXiv 2204.08945).
    """
    one_of("view", view, ("drop", "keep", "chain"))
    if not isinstance(infomask, InfoMask):
        raise ArgumentError(f"Expected `infomask` to be an InfoMask; got {describe(infomask)}.")
    score = infomask.score.with_classes("fills disagree about classes")
    one_of("head", score.head, SOFTMAX_HEADS)
    chosen = _IMPUTERS if imputers is None else imputers
    if not isinstance(chosen, Mapping) or len(chosen) < 2:
        raise ArgumentError(
            f"Expected `imputers` to hold at least two imputers by name; got {describe(imputers)}."
        )
    tensors = check_inputs(inputs)
    # If targets count groups, this is still over all of the network's own classes.
    whole = InfoMask(infomask.forward_func, score=replace(infomask.score, groups=None))
    maps, blanks = [], []
    for imputer in chosen.values():
        maps.append(
            infomask.score_regions(tensors[0], None, target, view=view, imputer=imputer, **options)
        )
        # With the whole picture as one region, the all-imputed picture is the blank of `keep`.
        blanks.append(
            whole.score_classes(
                tensors[0], view="keep", imputer=imputer, regions=grid(tensors[0], 1, 1)
            )
        )
    posteriors = [
        _posterior(infomask, maps_of.stacked.blank, maps_of.classes) for maps_of in blanks
    ]
    likeliest = torch.stack([posterior.max(1).values for posterior in posteriors])
    classes = torch.stack(
        [
            maps_of.classes.to(posterior.device).gather(1, posterior.argmax(1, keepdim=True))[:, 0]
            for maps_of, posterior in zip(blanks, posteriors, strict=True)
        ]
    )
    entropy = torch.stack([-(p * p.clamp_min(1e-45).log2()).sum(1) for p in posteriors])
    return FillDisagreement(tuple(chosen), tuple(maps), entropy, classes, likeliest)


def _posterior(infomask: InfoMask, blank: Tensor | None, classes: Tensor) -> Tensor:
    """p(y | all-imputed picture), (N, K), from its information about every class, (N, 1, K)."""
    assert blank is not None, "`keep` counts from the blank"
    nats = blank[:, 0].double() * NATS_PER_UNIT[infomask.score.unit]
    if infomask.score.class_prior is not None:
        nats = nats + infomask.score.class_prior.log().to(nats)[classes.to(nats.device)]
    return nats.softmax(1)
