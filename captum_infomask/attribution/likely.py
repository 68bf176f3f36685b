# Scores pictures of a run, and reads the classes that bets may be placed on, from the same passes.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captum_infomask._process import default_on_cpu
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.attribution.questions import AboutClasses, AboutTarget, Asking
from captum_infomask.engines.untouched import modes_kept
from captum_infomask.results import InfoMap
from captum_infomask.scores.likely_classes import LikelyClasses


@modes_kept()
@default_on_cpu()
@torch.no_grad()
def score_with_likely(
    infomask: InfoMask, pictures: Tensor, targets: Tensor | None, options: Mapping[str, Any]
) -> tuple[InfoMap, LikelyClasses]:
    """What each region tells about a class, and the classes that each region's view makes likely.

    Args:
        infomask: How the network's outputs are read.
        pictures: (N, C, H, W).
        targets: Each picture's class, (N,); None for its likeliest class.
        options: The keyword arguments of ``InfoMask.score_regions``. The view's scores are bets.

    Returns:
        The InfoMap of ``score_regions(pictures, target=targets)``, to the bit, or that of
        ``score_classes(pictures, top_k=1).rank(0)``; and the likely classes.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask, grid
        >>> from captum_infomask.attribution.likely import score_with_likely
        >>> x = torch.rand(1, 1, 8, 8)
        >>> infomask = InfoMask(lambda x: x.flatten(2).mean(2) * torch.tensor([1.0, -1.0]))
        >>> options = {"view": "crop", "regions": grid(x, 2, 2)}
        >>> infomap, likely = score_with_likely(infomask, x, torch.tensor([1]), options)
        >>> infomap.scores.shape, likely.classes[0, 0].tolist()
        (torch.Size([1, 4]), [0, 1])
    """
    others = dict(options)
    given = (others.pop("baselines", None), None, others.pop("feature_mask", None))
    asking = Asking.checked(infomask.forward_func, pictures, given, others, infomask.categories)
    score, name = infomask.score, infomask.get_name()
    if targets is None:
        likeliest = AboutClasses.checked(score, None, 1, asking.options, asking.n)
        maps, likely = asking.ask_with_likely(likeliest, name)
        return maps.rank(0), likely
    target = AboutTarget.checked(score, targets, asking.options, asking.n)
    return asking.ask_with_likely(target, name)
