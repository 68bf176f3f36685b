# The command attribute: one method's map of every picture and target, drawn over the picture.
from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from captum_infomask._checks import available_device, one_of, random_seed
from captum_infomask._errors import ArgumentError
from captum_infomask._files import check_folder, output_file
from captum_infomask._messages import printable, progress_bar
from captum_infomask._process import quiet
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.cli.commands import check_picture, classifier_of, read_picture, save_figure
from captum_infomask.cli.option_values import score_of, view_of, windows_of
from captum_infomask.cli.terminal import check_outputs, complain, in_name, make_folder, say
from captum_infomask.comparison.compare import likeliest
from captum_infomask.comparison.compare_arguments import Answers, network_answers
from captum_infomask.comparison.costs import as_it_is
from captum_infomask.comparison.method_adapters import as_method
from captum_infomask.comparison.method_protocol import Answer, Method, Question
from captum_infomask.comparison.methods import (
    GRAD_CAM,
    INFO_MASK,
    METHOD_NAMES,
    OCCLUSION,
    VIEWS,
    checked_setting,
    make_methods,
    score_in_bits,
)
from captum_infomask.comparison.run_methods import run_one
from captum_infomask.masks import MaxFraction, bounding_boxes, threshold_mask
from captum_infomask.models.classifier import resolve_target
from captum_infomask.models.preprocessing import Preprocess
from captum_infomask.results.map_pictures import attributions_unit, suited_rule
from captum_infomask.results.show import show
from captum_infomask.scores.score import Score
from captum_infomask.scores.targets import group_names
from captum_infomask.views.choose_view import ViewName

FIGURES = (".pdf", ".png", ".svg")

# The options that only some methods have.
_OF_INFOMASK = ("view", "input_sizes", "sharpen", "contrast")
_OF_SOME: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_OF_INFOMASK, (INFO_MASK,)),
    "layer": (INFO_MASK, GRAD_CAM),
    **dict.fromkeys(("window", "stride"), (INFO_MASK, OCCLUSION)),
}


@dataclass(frozen=True, eq=False)
class _Picture:
    """A picture as the network sees it, and what the network says about it.

    Attributes:
        name: As the user gave it.
        stem: The beginning of its files' names, unlike that of the other pictures.
        inputs: (1, C, H, W).
        size: Width and height.
        frame: The pixels that the network sees.
        answers: Of one picture.
    """

    name: str
    stem: str
    inputs: Tensor
    size: tuple[int, int]
    frame: Image.Image
    answers: Answers


@dataclass(frozen=True, eq=False)
class _Asked:
    """What the user asks of every picture.

    Attributes:
        method: The name of the method; ``InfoMask`` without a view.
        network: On its device.
        preprocess: How pictures are prepared for it.
        names: Of the classes, or the groups.
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


def run_attribute(options: argparse.Namespace) -> bool:
    """Draw one method's map of every picture and target; return whether a map failed."""
    method = _method_of(options)
    score = score_in_bits(score_of(options), {})
    device = available_device("--device", options.device)
    random_seed(options.seed)
    settings = view_of(options)
    inputs = [*options.pictures, options.weights, options.categories]
    folder = _checked_place(options, inputs)
    for given in options.pictures:
        check_picture(given)
    classifier = classifier_of(options)
    names = tuple(group_names(classifier.categories, score.groups))
    given_targets = [resolve_target(target, names) for target in options.target or ()]
    if options.contrast is not None:
        is_word = options.contrast == "runner_up"
        settings["contrast"] = "runner_up" if is_word else resolve_target(options.contrast, names)
    network = classifier.network.to(device)
    asked = _Asked(method, network, classifier.preprocess, names, score, settings, options)

    pictures = []
    for given, stem in zip(options.pictures, _stems(options.pictures), strict=True):
        image = read_picture(given)
        x, frame = classifier.preprocess(image).to(device), classifier.preprocess.frame(image)
        answers = network_answers(network, x, 0, score)
        pictures.append(_Picture(given, stem, x, image.size, frame, answers))
    maps = [
        (picture, target, _path(asked, picture, target, folder))
        for picture in pictures
        for target in dict.fromkeys(given_targets or (_predicted(picture),))
    ]
    if folder is not None:
        make_folder(folder)
    check_outputs(
        [("--out", file) for _, _, path in maps for file in _files(path, options)], inputs
    )
    failed = 0
    with progress_bar(total=len(maps), desc="Maps", unit="map", show=not options.quiet) as bar:
        for picture, target, path in maps:
            words = _make(asked, picture, target, path)
            failed += words is None
            with bar.external_write_mode(file=sys.stdout):
                if words is not None:
                    say(words)
            bar.update()
    options.failure = f"{failed} of {len(maps)} maps failed" if len(maps) > 1 else "the map failed"
    return failed > 0


def _method_of(options: argparse.Namespace) -> str:
    """The method; a view in its name becomes the option, and other methods' options are refused."""
    method = one_of("--method", options.method, METHOD_NAMES)
    if options.view is not None:
        options.view = one_of("--view", options.view, ("auto", *get_args(ViewName)))
    if method in VIEWS:
        view = VIEWS[method]
        if view is not None and options.view not in (None, view):
            raise ArgumentError(
                f"Expected `--method` and `--view` to name the same view; got {method} and "
                f"{options.view}."
            )
        options.view = view or options.view
        method = INFO_MASK
    for name, methods in _OF_SOME.items():
        if getattr(options, name) is not None and method not in methods:
            option = f"--{name.replace('_', '-')}"
            raise ArgumentError(
                f"Expected `{option}` with `--method` {' or '.join(methods)}; got {method}."
            )
    return method


def _checked_place(options: argparse.Namespace, inputs: Sequence[str | None]) -> Path | None:
    """The folder of the results; None if they are one file, which is checked."""
    out: Path = options.out
    if out.suffix.lower() not in FIGURES or out.is_dir():
        check_folder("--out", out)
        return out
    count = len(options.pictures) * max(1, len(options.target or ()))
    if count > 1:
        raise ArgumentError(
            f"Expected `--out` to be a folder for {count} maps; got {out}, the name of a file."
        )
    check_outputs([("--out", file) for file in _files(out, options)], inputs)
    return None


def _files(figure: Path, options: argparse.Namespace) -> list[Path]:
    """The files of one map, by that of its figure."""
    return [figure, figure.with_suffix(".npz")] if options.npz else [figure]


def _stems(pictures: Sequence[str]) -> list[str]:
    """The pictures' names without suffixes; those that come twice get their number."""
    stems = [Path(picture).stem for picture in pictures]
    counts = Counter(stem.casefold() for stem in stems)
    return [
        stem if counts[stem.casefold()] == 1 else f"{stem}-{number}"
        for number, stem in enumerate(stems, start=1)
    ]


def _predicted(picture: _Picture) -> int:
    return int(picture.answers.log_probabilities[0].argmax())


def _path(asked: _Asked, picture: _Picture, target: int, folder: Path | None) -> Path:
    """The file of a figure: picture, class, and what is not the default."""
    if folder is None:
        return Path(asked.options.out)
    words = [picture.stem, _class_word(asked.names, target)]
    if asked.method != INFO_MASK:
        words += in_name(asked.method)
    words += in_name(asked.settings.get("view", ""))
    contrast = asked.settings.get("contrast")
    if contrast is not None:
        other = contrast if isinstance(contrast, str) else _class_word(asked.names, contrast)
        words.append(f"not_{other}")
    return folder / f"{'.'.join(words)}.png"


def _class_word(names: Sequence[str], target: int) -> str:
    """A class in a file's name: its own name, with its number if another class has that name."""
    own = in_name(names[target])
    others = sum([word.casefold() for word in own] == _folded(name) for name in names)
    return "-".join([*own, *[str(target)] * (others > 1 or not own)])


def _folded(name: str) -> list[str]:
    return [word.casefold() for word in in_name(name)]


def _make(asked: _Asked, picture: _Picture, target: int, path: Path) -> str | None:
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


def _method_for(asked: _Asked, x: Tensor) -> Method:
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
    asked: _Asked, picture: _Picture, target: int, method: Method, answer: Answer, path: Path
) -> str:
    """Draw and write a map; return the words about it."""
    infomap, label = answer.infomap, asked.names[target]
    unit = method.unit if infomap is None else attributions_unit(infomap.regions, infomap.unit)
    plane = answer.attributions.mean(1, keepdim=True).float().cpu()
    rule = MaxFraction(0.2) if infomap is None else suited_rule(infomap.regions)
    with quiet("The mask of example"):  # the words tell that it is empty
        mask = threshold_mask(plane, rule)

    log_p = picture.answers.log_probabilities[0, target]
    log_prior = asked.score.log_priors(torch.tensor([target]), picture.answers.outputs)[0]
    bits, bound = float(log_p - log_prior) / math.log(2), -float(log_prior) / math.log(2)
    name, whole = asked.method, f"i(y; x) = {bits:.2f} bits of at most {bound:.2f}"
    if infomap is not None:
        name = f"{INFO_MASK} {infomap.view}"
        if infomap.contrast is not None:
            name += f", not {asked.names[int(infomap.contrast[0, 1])]}"
            whole = f"i(y; x) - i(y'; x) = {float(infomap.total):.2f} bits"
        if unit != infomap.unit:
            whole += f"; the map sums to {float(plane.sum()):.2f} {infomap.unit}"
    likely = likeliest(picture.answers.log_probabilities, [target], asked.score)[0] == target
    figure, *arrays = _files(path, asked.options)
    replaced = figure.exists()
    title = f"{printable(label)}, p = {float(log_p.exp()):.3f}\n{printable(name)}: {bits:.2f} bits"
    if infomap is None:
        drawn = show(answer.attributions, picture.frame, title=title)[0]
    else:
        drawn = infomap.figure(picture.frame, title=title)[0]
    save_figure(drawn, figure)
    height, width = mask.shape[2:]
    lines = [
        f"{picture.name}: {label} (class {target}, {'not ' * (not likely)}the prediction), "
        f"p(y | x) = {float(log_p.exp()):.3f}",
        f"  {name}: {whole}",
        f"  mask: {float(mask.float().mean()):.1%} of the {width} x {height} pixels that the "
        f"network sees",
        f"  box: {_box_words(asked.preprocess, mask, picture.size)}",
        f"  figure: {figure}{' (replaced)' * replaced}",
    ]
    for file in arrays:
        replaced = file.exists()
        with output_file("--out", file) as beside, beside.open("wb") as stream:
            np.savez_compressed(
                stream,
                picture=np.asarray(picture.frame),
                map=plane[0, 0].numpy(),
                mask=mask[0, 0].numpy(),
                unit=np.array(unit),
                target=np.array(target),
                label=np.array(label),
                information_bits=np.array(bits),
            )
        lines.append(f"  arrays: {file}{' (replaced)' * replaced}")
    return "\n".join(map(printable, lines))


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
