# The command attribute: one method's map of every picture and target, drawn over the picture.
from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from captum_infomask._batches import placed
from captum_infomask._checks import available_device, named_like, random_seed
from captum_infomask._errors import ArgumentError
from captum_infomask._files import check_folder
from captum_infomask._messages import progress_bar
from captum_infomask.cli.commands import check_picture, classifier_of, read_picture
from captum_infomask.cli.one_map import Asked, AskedPicture, files_of, make_map, mask_rule
from captum_infomask.cli.option_values import score_of, view_of
from captum_infomask.cli.terminal import check_outputs, in_name, make_folder, say
from captum_infomask.comparison.compare_arguments import network_answers
from captum_infomask.comparison.methods import (
    GRAD_CAM,
    INFO_MASK,
    METHOD_NAMES,
    OCCLUSION,
    VIEWS,
    score_in_bits,
)
from captum_infomask.models.classifier import resolve_target
from captum_infomask.models.preprocessing import Preprocess
from captum_infomask.scores.targets import group_names
from captum_infomask.views.choose_view import ViewName

FIGURES = (".pdf", ".png", ".svg")
_SHARPEST = 3  # times the side of what the network sees
_LONGEST = 8  # times the shorter side; longer pictures are drawn as the network sees them

# The options that only some methods have.
_OF_INFOMASK = ("view", "input_sizes", "sharpen", "contrast")
_OF_SOME: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_OF_INFOMASK, (INFO_MASK,)),
    "layer": (INFO_MASK, GRAD_CAM),
    **dict.fromkeys(("window", "stride"), (INFO_MASK, OCCLUSION)),
}


def run_attribute(options: argparse.Namespace) -> bool:
    """Draw one method's map of every picture and target; return whether a map failed."""
    method = _method_of(options)
    score = score_in_bits(score_of(options), {})
    device = available_device("--device", options.device)
    random_seed(options.seed)
    mask_rule(options, None)
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
    asked = Asked(method, network, classifier.preprocess, names, score, settings, options)

    pictures = []
    for given, stem in zip(options.pictures, _stems(options.pictures), strict=True):
        image = read_picture(given)
        x = placed(network, classifier.preprocess(image).to(device))
        frame = classifier.preprocess.frame(image)
        sharp = _sharper(classifier.preprocess, image.size).frame(image)
        answers = network_answers(network, x, 0, score)
        pictures.append(AskedPicture(given, stem, x, image.size, frame, sharp, answers))
    maps = [
        (picture, target, _path(asked, picture, target, folder))
        for picture in pictures
        for target in dict.fromkeys(given_targets or (_predicted(picture),))
    ]
    if folder is not None:
        make_folder(folder)
    check_outputs(
        [("--out", file) for _, _, path in maps for file in files_of(path, options)], inputs
    )
    failed = 0
    with progress_bar(total=len(maps), desc="Maps", unit="map", show=not options.quiet) as bar:
        for picture, target, path in maps:
            words = make_map(asked, picture, target, path)
            failed += words is None
            with bar.external_write_mode(file=sys.stdout):
                if words is not None:
                    say(words)
            bar.update()
    options.failure = f"{failed} of {len(maps)} maps failed" if len(maps) > 1 else "the map failed"
    return failed > 0


def _method_of(options: argparse.Namespace) -> str:
    """The method; a view in its name becomes the option, and other methods' options are refused."""
    method = named_like("--method", options.method, METHOD_NAMES)
    if options.view is not None:
        options.view = named_like("--view", options.view, ("auto", *get_args(ViewName)))
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
    check_outputs([("--out", file) for file in files_of(out, options)], inputs)
    return None


def _stems(pictures: Sequence[str]) -> list[str]:
    """The pictures' names without suffixes; those that come twice get their number."""
    stems = [Path(picture).stem for picture in pictures]
    counts = Counter(stem.casefold() for stem in stems)
    return [
        stem if counts[stem.casefold()] == 1 else f"{stem}-{number}"
        for number, stem in enumerate(stems, start=1)
    ]


def _sharper(preprocess: Preprocess, size: tuple[int, int]) -> Preprocess:
    """A preprocessing that cuts out the same part, in up to three times the pixels a side."""
    short, long = sorted(size)
    times = min(_SHARPEST, -(-short // preprocess.shorter_side))
    if times < 2 or long > _LONGEST * short:  # a panorama's frames would be too large
        return preprocess
    return preprocess.enlarged(times)


def _predicted(picture: AskedPicture) -> int:
    return int(picture.answers.log_probabilities[0].argmax())


def _path(asked: Asked, picture: AskedPicture, target: int, folder: Path | None) -> Path:
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
