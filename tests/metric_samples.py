# Samples to measure: a picture, a network whose answers are known, a map.
from __future__ import annotations

import torch

from captum_infomask.evaluation.metric_protocol import Sample


def sample(plane, forward=None, **given):
    """A sample of one picture; what is not given is plain."""
    plane = torch.as_tensor(plane, dtype=torch.float64)
    height, width = plane.shape
    inputs = given.pop("inputs", torch.ones(1, 1, height, width, dtype=torch.float64))
    settings = {
        "forward": forward,
        "inputs": inputs,
        "target": 0,
        "attributions": plane[None, None],
        "plane": plane,
        "mask": plane > 0,
        "attribute": lambda picture: plane[None, None],
        "fill": torch.zeros_like(inputs),
    }
    return Sample(**{**settings, **given})


class Linear(torch.nn.Module):
    """p(class 0) is b + Σ w x over the first channel; what is left is p(class 1)."""

    def __init__(self, weights, bias=0.1):
        super().__init__()
        self.weights, self.bias, self.seen = weights, bias, []

    def forward(self, pictures):
        self.seen.append(len(pictures))
        p = self.bias + (pictures[:, 0] * self.weights).sum((1, 2))
        return torch.stack([p, 1 - p], 1).log()
