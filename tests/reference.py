"""Slow, literal equations: the oracles. Nothing here calls the package.

One view at a time, one Python float at a time.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F


def log_probability(output, y, head, temperature=1.0):
    """log p(y | v) from one example's output: a list of floats, one per class."""
    values = [float(v) / temperature for v in output]
    if head == "raw":
        return values[y]
    if head == "sigmoid":
        f = values[y]
        return -math.log1p(math.exp(-f)) if f > -700 else f
    if head == "probs":
        values = [math.log(float(p)) / temperature for p in output]
    top = max(values)
    partition = sum(math.exp(v - top) for v in values)
    return values[y] - top - math.log(partition)


def information(
    output,
    y,
    *,
    head="logits",
    prior=None,
    trained_with="cross_entropy",
    temperature=1.0,
    unit="bits",
):
    """i(y; v) of one example, by the formulas of the paper."""
    classes = len(output)
    scale = math.log(2) if unit == "bits" else 1.0
    if head == "raw":
        return float(output[y]) / temperature / scale
    if head == "sigmoid":
        pi = 0.5 if prior is None else float(prior[y])
        return (log_probability(output, y, head, temperature) - math.log(pi)) / scale
    pi = [1 / classes] * classes if prior is None else [float(p) for p in prior]
    if trained_with == "pc_softmax":
        critic = [float(f) / temperature for f in output]
        top = max(critic)
        partition = sum(p * math.exp(t - top) for p, t in zip(pi, critic, strict=True))
        return (critic[y] - top - math.log(partition)) / scale
    return (log_probability(output, y, head, temperature) - math.log(pi[y])) / scale


def windows(shape, window, stride):
    """Every window of Occlusion over an example's shape, as tuples of slices, cut at the border."""
    spans = []
    for size, w, s in zip(shape, window, stride, strict=True):
        count = math.ceil((size - w) / s) + 1
        spans.append([slice(i * s, min(i * s + w, size)) for i in range(count)])
    found = [()]
    for options in spans:
        found = [(*done, option) for done in found for option in options]
    return found


def shown(x, spot, view, fill, crop_size=None):
    """The picture (1, ...) that a view of one region shows; `fill` is the all-imputed picture."""
    where = (slice(None), *spot)
    if view == "crop":
        patch = x[where]
        size = {None: x.shape[2:], "native": patch.shape[2:]}.get(crop_size, crop_size)
        return F.interpolate(patch, size=tuple(size), mode="bilinear", antialias=True)
    base, patch = (fill, x) if view == "keep" else (x, fill)
    picture = base.clone()
    picture[where] = patch[where]
    return picture


def region_information(model, x, y, spot, view, fill, *, reference=None, crop_size=None, **score):
    """Information of one region of one image (1, ...)."""

    def i(picture):
        with torch.no_grad():
            return information(model(picture)[0].tolist(), y, **score)

    value = i(shown(x, spot, view, fill, crop_size))
    if view == "drop":
        return i(x) - value
    if reference == "blank":
        if view == "crop":
            size = x[(slice(None), *spot)].shape[2:] if crop_size == "native" else crop_size
            size = x.shape[2:] if size is None else size
            fill = F.interpolate(fill, size=tuple(size), mode="bilinear", antialias=True)
        return value - i(fill)
    return value


def spread(scores, spots, shape, overlap="mean", sign=1.0):
    """Region scores of one image over its elements, element by element."""
    out = np.zeros(shape)
    nats_per_bit = math.log(2)
    for element in np.ndindex(*shape):
        covering = [
            score
            for score, spot in zip(scores, spots, strict=True)
            if all(s.start <= e < s.stop for s, e in zip(spot, element, strict=True))
        ]
        if overlap == "mean":
            out[element] = sum(covering) / len(covering)
        elif overlap == "max":
            out[element] = max(covering)
        else:
            mean = sum(math.exp(sign * v * nats_per_bit) for v in covering) / len(covering)
            out[element] = sign * math.log(mean) / nats_per_bit
    return out


def averaged_over_superpixels(plane, scales):
    """The mean over scales of a map's mean over each pixel's superpixel, pixel by pixel."""
    out = np.zeros(plane.shape)
    for pixel in np.ndindex(*plane.shape):
        for labels in scales:
            own = [
                float(plane[other])
                for other in np.ndindex(*plane.shape)
                if labels[other] == labels[pixel]
            ]
            out[pixel] += math.fsum(own) / len(own) / len(scales)
    return out
