# One map of the command attribute: made by its method, drawn, written, and told in words.
from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from captum_infomask._errors import ArgumentError
from captum_infomask._files import output_file
from captum_infomask._messages import printable
from captum_infomask._process import quiet
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.cli.commands import save_figure
from captum_infomask.cli.option_values import windows_of
from captum_infomask.cli.terminal import complain
from captum_infomask.comparison.compare import likeliest
from captum_infomask.comparison.compare_arguments import Answers
from captum_infomask.comparison.costs import as_it_is
from captum_infomask.comparison.method_adapters import as_method
from captum_infomask.comparison.method_protocol import Answer, Method, Question
from captum_infomask.comparison.methods import INFO_MASK, checked_setting, make_methods
from captum_infomask.comparison.run_methods import run_one
from captum_infomask.masks import MaxFraction, bounding_boxes, threshold_mask
from captum_infomask.models.preprocessing import Preprocess
from captum_infomask.results import InfoMap
from captum_infomask.results.map_pictures import attributions_unit, suited_rule
from captum_infomask.results.show import show
from captum_infomask.scores.score import Score

_EMPTY = "The mask of example"  # the words of attribute tell that a mask is empty


@dataclass(frozen=True, eq=False)
class AskedPicture:
    """A picture as the network sees it, and what the network says about it.

    Attributes:
        name: As the user gave it.
        stem: The beginning of its files' names, unlike that of the other pictures.
        inputs: (1, C, H, W).
        size: Width and height.
        frame: The pixels that the network sees.
        sharp: The same part with more of the picture's own pixels, to draw on.
        answers: The network's answers about one picture.
    """

    name: str
    stem: str
    inputs: Tensor
    size: tuple[int, int]
    frame: Image.Image
    sharp: Image.Image
    answers: Answers


@dataclass(frozen=True, eq=False)
class Asked:
    """What the user asks of every picture.

    Attributes:
        method: The name of the method; ``InfoMask`` without a view.
        network: On its device.
        preprocess: How pictures are prepared for it.
        names: The names of the classes, or of the groups.
        score: How the network's outputs are read.
        settings: InfoMask's keyword arguments, without windows.
        options: The options of the command line.
    """

    method: str
    network: nn.Module
    preprocess: Preprocess
    names: tuple[str, ...]
    score: Score
    settings: dict[str, Any]
    options: argparse.Namespace


def make_map(asked: Asked, picture: AskedPicture, target: int, path: Path) -> str | None:
    """Make, draw and write one map; return the words about it, or None if it failed."""
    score = asked.score
    question = Question(
        asked.network,
        asked.network,
        picture.inputs,
        target if picture.answers.has_classes else None,
        seed=asked.options.seed,
        show_progress=not asked.options.quiet,
        read=as_it_is if score.groups is None else score.merged,
    )
    try:
        method = _method_for(asked, picture.inputs)
        answer = run_one(method, question)
    except ArgumentError:
        raise
    except Exception as error:  # one picture's failure must not lose the other pictures' maps
        words = " ".join(str(error).split())
        complain(f"{asked.method} of {picture.name} failed: {type(error).__name__}: {words}")
        return None
    return _written(asked, picture, target, method, answer, path)


def _method_for(asked: Asked, x: Tensor) -> Method:
    """The method, made for pictures of this size."""
    windows = windows_of(asked.options, x)
    if asked.method == INFO_MASK:
        infomask = InfoMask(asked.network, score=asked.score)
        return as_method(INFO_MASK, (infomask, {**asked.settings, **windows}))
    shapes, strides = windows.get("sliding_window_shapes"), windows.get("strides")
    setting = checked_setting(
        asked.network, x, asked.options.layer, shapes, strides, None, asked.score
    )
    return as_method(asked.method, make_methods(setting, [asked.method])[asked.method])


def _written(
    asked: Asked, picture: AskedPicture, target: int, method: Method, answer: Answer, path: Path
) -> str:
    """Draw and write a map; return the words about it."""
    infomap = answer.infomap
    unit = method.unit if infomap is None else attributions_unit(infomap.regions, infomap.unit)
    plane = answer.attributions.mean(1, keepdim=True).float().cpu()
    rule = mask_rule(asked.options, infomap)
    with quiet(_EMPTY):
        mask = threshold_mask(plane, rule)
    told = _told(asked, picture, target, infomap)
    lines = [
        f"{picture.name}: {told.class_words}",
        f"  {told.method}: {told.information}",
        f"  mask: {float(mask.float().mean()):.1%} of the {mask.shape[3]} x {mask.shape[2]} pixels "
        f"that the network sees",
        f"  box: {_box_words(asked.preprocess, mask, picture.size)}",
    ]
    if infomap is not None and unit != infomap.unit:
        lines[1] += f"; the map sums to {float(plane.sum()):.2f} {infomap.unit}"

    figure, *arrays = files_of(path, asked.options)
    lines.append(f"  figure: {figure}{' (replaced)' * figure.exists()}")
    shown = plane if infomap is None else infomap
    with quiet(_EMPTY):
        drawn, _ = show(shown, picture.sharp, unit=unit, contour=rule, title=printable(told.title))
    save_figure(drawn, figure)
    for file in arrays:
        lines.append(f"  arrays: {file}{' (replaced)' * file.exists()}")
        with output_file("--out", file) as beside, beside.open("wb") as stream:
            np.savez_compressed(
                stream,
                picture=np.asarray(picture.frame),
                map=plane[0, 0].numpy(),
                mask=mask[0, 0].numpy(),
                unit=np.array(unit),
                target=np.array(target),
                label=np.array(asked.names[target]),
                information_bits=np.array(told.bits),
            )
    return "\n".join(map(printable, lines))


@dataclass(frozen=True)
class _Told:
    """The numbers of a picture and a class, in words.

    Attributes:
        class_words: The class and its probability.
        method: The method's name, with InfoMask's view and contrast.
        information: The whole picture's bits.
        bits: i(y; x).
        title: The figure's title.
    """

    class_words: str
    method: str
    information: str
    bits: float
    title: str


def _told(asked: Asked, picture: AskedPicture, target: int, infomap: InfoMap | None) -> _Told:
    answers, score, label = picture.answers, asked.score, asked.names[target]
    log_p = answers.log_probabilities[0, target]
    log_prior = score.log_priors(torch.tensor([target]), answers.outputs)[0]
    p, bits = float(log_p.exp()), float(log_p - log_prior) / math.log(2)
    is_likeliest = likeliest(answers.log_probabilities, [target], score)[0] == target
    method = by = asked.method if infomap is None else f"{INFO_MASK} {infomap.view}"
    information = f"i(y; x) = {bits:.2f} bits of at most {-float(log_prior) / math.log(2):.2f}"
    if infomap is not None and infomap.contrast is not None:
        method += f", not {asked.names[int(infomap.contrast[0, 1])]}"
        information = f"i(y; x) - i(y'; x) = {float(infomap.total):.2f} bits"
        by = f"{method}: {float(infomap.total):.2f} bits"
    which = "the prediction" if is_likeliest else "not the prediction"
    return _Told(
        class_words=f"{label} (class {target}, {which}), p(y | x) = {p:.3f}",
        method=method,
        information=information,
        bits=bits,
        title=f"{label}: p = {p:.3f}, {bits:.2f} bits ({by})",
    )


def mask_rule(options: argparse.Namespace, infomap: InfoMap | None) -> MaxFraction:
    """The rule that cuts the mask."""
    if options.fraction is not None:
        return MaxFraction(options.fraction)
    return MaxFraction(0.2) if infomap is None else suited_rule(infomap.regions)


def _box_words(preprocess: Preprocess, mask: Tensor, size: tuple[int, int]) -> str:
    """The box of the mask's largest part, and that box in the picture."""
    (boxes,) = bounding_boxes(mask)
    if not len(boxes):
        return "none"
    box = boxes[0].tolist()
    own = preprocess.in_picture(box, size)
    return (
        f"{', '.join(map(str, box))} (x0, y0, x1, y1); in the picture's {size[0]} x {size[1]} "
        f"pixels {', '.join(map(str, own))}"
    )


def files_of(figure: Path, options: argparse.Namespace) -> list[Path]:
    """The files of one map, by that of its figure."""
    return [figure, figure.with_suffix(".npz")] if options.npz else [figure]
