"""Slow, literal equations: the oracles. Nothing here calls the package.

One view at a time, one Python float at a time.
"""

import itertools
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


def value_information(prediction, value, *, head, scale, mean, std, unit="bits"):
    """log p(y | v) / p(y) of one value y: the ratio of two densities, number by number."""
    error = float(value) - float(prediction)
    if head == "gaussian":
        density = math.exp(-(error**2) / (2 * scale**2)) / math.sqrt(2 * math.pi * scale**2)
    else:
        density = math.exp(-abs(error) / scale) / (2 * scale)
    away = float(value) - mean
    prior = math.exp(-(away**2) / (2 * std**2)) / math.sqrt(2 * math.pi * std**2)
    return math.log(density / prior) / (math.log(2) if unit == "bits" else 1.0)


def contrast(output, y, other, **settings):
    """i(y; v) - i(y'; v): log p(y | v) / p(y' | v) - log pi_y / pi_y', class by class."""
    return information(output, y, **settings) - information(output, other, **settings)


def group_information(
    output,
    group,
    *,
    head="logits",
    prior=None,
    trained_with="cross_entropy",
    temperature=1.0,
    unit="bits",
):
    """i(G; v): the probabilities of a group's classes added, against their priors added."""
    classes = len(output)
    pi = [1 / classes] * classes if prior is None else [float(p) for p in prior]
    if trained_with == "pc_softmax":
        top = max(float(f) / temperature for f in output)
        joint = [
            p * math.exp(float(f) / temperature - top) for p, f in zip(pi, output, strict=True)
        ]
        posterior = [p / math.fsum(joint) for p in joint]
    else:
        posterior = [
            math.exp(log_probability(output, y, head, temperature)) for y in range(classes)
        ]
    of_group = math.fsum(posterior[y] for y in group)
    prior_of_group = math.fsum(pi[y] for y in group)
    return math.log(of_group / prior_of_group) / (math.log(2) if unit == "bits" else 1.0)


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


def differentiable_information(output, y, *, unit="bits", **score):
    """i(y; v) of outputs (B, M), in float64, with gradients: the same formulas."""
    head, temperature = score.get("head", "logits"), score.get("temperature", 1.0)
    classes = output.shape[1]
    prior = score.get("prior") or (
        [0.5] * classes if head == "sigmoid" else [1 / classes] * classes
    )
    log_prior = torch.tensor(prior).double().log()
    if head == "raw":
        nats = output[:, y] / temperature
    elif head == "sigmoid":
        nats = -torch.log1p(torch.exp(-output[:, y] / temperature)) - log_prior[y]
    elif score.get("trained_with") == "pc_softmax":
        critic = output / temperature
        nats = critic[:, y] - torch.log((log_prior.exp() * critic.exp()).sum(1))
    else:
        logits = (output.log() if head == "probs" else output) / temperature
        nats = logits[:, y] - torch.log(logits.exp().sum(1)) - log_prior[y]
    return nats / (math.log(2) if unit == "bits" else 1.0)


def evidence(tail, f, start, y, **score):
    """What each cell of a map (1, C, h, w) adds on the way from ``start``: 200 pieces, 8 points."""
    points, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(8))
    pieces = torch.arange(200).double()[:, None]
    times, weights = ((pieces + (points + 1) / 2) / 200).flatten(), weights.repeat(200) / 400
    total = torch.zeros_like(f)
    for some, heavy in zip(times.split(100), weights.split(100), strict=True):
        at = (start + some[:, None, None, None] * (f - start)).detach().requires_grad_()
        value = differentiable_information(tail(at), y, **score)
        (slope,) = torch.autograd.grad((value * heavy).sum(), at)
        total += slope.sum(0, keepdim=True)
    return (total * (f - start)).sum(1)


def density(cells, height, width):
    """Cells (h, w) as pixels (height, width): linear between the cells' centres, flat outside."""

    def shares(size, count):
        centres = [(i + 0.5) * size / count for i in range(count)]
        hats = np.eye(count)
        table = np.zeros((size, count))
        for pixel in range(size):
            corners = sorted({pixel, pixel + 1, *(c for c in centres if pixel < c < pixel + 1)})
            for left, right in itertools.pairwise(corners):
                for i in range(count):
                    ends = np.interp([left, right], centres, hats[i])
                    table[pixel, i] += (right - left) * ends.mean()
        return torch.from_numpy(table * count / size)

    h, w = cells.shape
    return shares(height, h) @ cells.double() @ shares(width, w).T


def shapley(logits, y):
    """Exact Shapley values in bits of the parts (R, M) of a sum of logits, the prior uniform."""
    parts = len(logits)
    values = {}
    for chosen in itertools.product((0, 1), repeat=parts):
        total = torch.tensor(chosen).double() @ logits
        values[chosen] = float(total[y] - torch.logsumexp(total, 0)) / math.log(2)
    found = torch.zeros(parts).double()
    for part in range(parts):
        for chosen, value in values.items():
            if not chosen[part]:
                size = sum(chosen)
                weight = math.factorial(size) * math.factorial(parts - size - 1)
                more = tuple(1 if k == part else c for k, c in enumerate(chosen))
                found[part] += weight / math.factorial(parts) * (values[more] - value)
    return found


def shapley_bound(logits):
    """How far the diagonal may lie from that, in bits: a quarter of a range times a mean range."""
    parts = len(logits)
    points, weights = np.polynomial.legendre.leggauss(6)
    found = torch.zeros(parts).double()
    for part in range(parts):
        others = [k for k in range(parts) if k != part]
        for chosen in itertools.product((0, 1), repeat=parts - 1):
            for t, weight in zip((points + 1) / 2, weights / 2, strict=True):
                chance = math.prod(t if c else 1 - t for c in chosen)
                for s, own in zip((points + 1) / 2, weights / 2, strict=True):
                    gap = (s - t) * logits[part]
                    for c, k in zip(chosen, others, strict=True):
                        gap = gap + (c - t) * logits[k]
                    found[part] += weight * own * chance * float(gap.max() - gap.min())
        found[part] *= float(logits[part].max() - logits[part].min()) / 4
    return found / math.log(2)


def _means(plane, labels):
    """For each pixel the mean over those of its label."""
    out = np.zeros(plane.shape)
    for pixel in np.ndindex(*plane.shape):
        own = [float(value) for value in plane[labels == labels[pixel]]]
        out[pixel] = math.fsum(own) / len(own)
    return out


def averaged_over_superpixels(plane, scales):
    """The mean over scales of a map's mean over each pixel's superpixel, pixel by pixel.

    A hundredth of what the pixel has more than its piece, which lies in one superpixel of each
    scale, is added.
    """

    pieces = np.unique(np.reshape(scales, (len(scales), -1)), axis=1, return_inverse=True)[1]
    out = 0.01 * (plane - _means(plane, pieces.reshape(plane.shape)))
    for labels in scales:
        out += _means(plane, labels) / len(scales)
    return out


def relay(steps, x, start, y, mark, midpoints=4000, value=differentiable_information, **score):
    """What each cell adds of the value named ``mark``, (1, h, w), by multipliers step by step.

    ``steps`` are (what is read, what is made, the function), all by name; "x" is the picture and
    the last step makes the output. Every integral is a sum over midpoints of a step's own path.
    Where the head says that the last step is a softmax, what it reads goes straight to the value.
    """
    if score.get("head") in ("probs", "log_probs"):
        *steps, (_, _, end) = steps
        information = value

        def value(at, *given, **read):
            return information(end(at), *given, **read)

    ends, starts = {"x": x}, {"x": start}
    for reads, makes, function in steps:
        for values in (ends, starts):
            values[makes] = function(*[values[name] for name in reads]).detach()
    times = (torch.arange(midpoints).double() + 0.5) / midpoints

    def mean_gradients(function, names, weigh):
        points = [
            starts[name]
            + times.reshape(-1, *[1] * (ends[name].dim() - 1)) * (ends[name] - starts[name])
            for name in names
        ]
        points = [each.detach().requires_grad_() for each in points]
        slopes = torch.autograd.grad(weigh(function(*points)).sum(), points)
        return [each.mean(0, keepdim=True) for each in slopes]

    last = steps[-1][1]
    (slope,) = mean_gradients(lambda at: value(at, y, **score), [last], lambda made: made)
    multipliers = {last: slope}
    for reads, makes, function in reversed(steps):
        given = multipliers.pop(makes) if makes != mark else None
        if given is None:
            break
        names = sorted(set(reads))

        def by_names(*values, names=names, reads=reads, function=function):
            named = dict(zip(names, values, strict=True))
            return function(*[named[name] for name in reads])

        slopes = mean_gradients(by_names, names, lambda made, given=given: made * given)
        for name, each in zip(names, slopes, strict=True):
            multipliers[name] = multipliers.get(name, 0) + each
    return (multipliers[mark] * (ends[mark] - starts[mark])).sum(1)
