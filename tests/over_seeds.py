# Scores of many seeds: their standard errors are checked against how scores differ between seeds.
from __future__ import annotations

import numpy as np
import torch

from captum_infomask import InfoMask

DRAWS = 16
SEEDS = 400


def over_seeds(forward, x, regions, seeds=SEEDS, **options):
    """Scores, standard errors and intervals of many seeds, (seeds, R) each."""
    infomask, found = InfoMask(forward), []
    for seed in range(seeds):
        infomap = infomask.score_regions(x, target=0, regions=regions, seed=seed, **options)
        found.append(torch.stack([infomap.scores, infomap.standard_errors, *infomap.interval()]))
    return torch.stack(found)[:, :, 0].unbind(1)


def check(found, wanted):
    """Errors are as large as scores differ between seeds, and intervals cover the exact values."""
    scores, errors, low, high = found
    rms = errors.square().mean(0).sqrt()
    # The deviation over so many seeds is known to 4%.
    np.testing.assert_allclose(rms / scores.std(0), np.ones(len(rms)), atol=0.15)
    wanted = torch.as_tensor(wanted)
    covered = ((low <= wanted) & (wanted <= high)).double().mean(0)
    assert bool(((covered >= 0.90) & (covered <= 0.99)).all()), covered
    assert bool((scores.std(0) > 1e-3).all())
