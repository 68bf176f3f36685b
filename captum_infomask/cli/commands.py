# The commands demo and compare, and what all commands read: pictures and networks.
from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode

from captum_infomask._batches import placed
from captum_infomask._checks import available_device
from captum_infomask._errors import ArgumentError
from captum_infomask._files import check_folder, output_file
from captum_infomask._messages import printable
from captum_infomask._process import quiet
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.cli.option_values import names_in, score_of, windows_of
from captum_infomask.cli.terminal import (
    check_outputs,
    complain,
    make_folder,
    report_of,
    say,
)
from captum_infomask.comparison.compare import compare
from captum_infomask.datasets import sample_photo
from captum_infomask.evaluation.fill_disagreement import fill_disagreement
from captum_infomask.models.classifier import Classifier, read_categories, resolve_target
from captum_infomask.models.huggingface_models import to_be_read_by
from captum_infomask.models.imagenet import efficientnet_lite0
from captum_infomask.models.loading import load_classifier
from captum_infomask.models.preprocessing import (
    Preprocess,
    decode_image,
    image_file,
    read_image,
)
from captum_infomask.results import Comparison
from captum_infomask.scores.heads import SOFTMAX_HEADS
from captum_infomask.scores.targets import group_names


def run_demo(options: argparse.Namespace) -> bool:
    """Show the main job on a photograph; return whether all methods failed."""
    folder = check_folder("--out", options.out)
    device = available_device("--device", options.device)
    _check_fills(options)
    photo = Image.fromarray(sample_photo(options.photo))
    classifier = efficientnet_lite0()
    classifier.network.to(device)
    found = _compare(
        classifier, [photo], options, sources=[options.photo], metrics=_metrics(options.metrics)
    )
    report = make_folder(folder) / f"{options.photo}.html"
    found.to_html(report)
    words = [found.text(), *_fills(found, classifier, [photo], options), ""]
    try:  # what was computed is not lost where a file cannot be written after all
        for what, suffix in (("figure", ".png"), ("arrays", ".npz")):
            path = options.out / f"{options.photo}{suffix}"
            check_outputs([("--out", path)], [])
            if what == "figure":
                save_figure(found.figure()[0], path)
            else:
                found.save_arrays(path)
            words.append(f"{what}: {printable(str(path))}")
        words.append(f"report: {printable(str(options.out / report.name))}")
    finally:
        say("\n".join(words))
    open_page(report, options.open)
    return _all_failed(found)


def run_compare(options: argparse.Namespace) -> bool:
    """Compare methods on pictures and write the report; return whether all methods failed."""
    if options.out is None:
        options.out = report_of(options.pictures, options.target)
    outputs = [("--out", options.out), ("--json", options.json), ("--csv", options.csv)]
    inputs = [*options.pictures, *(options.truth or []), options.weights, options.categories]
    check_outputs([(option, path) for option, path in outputs if path is not None], inputs)
    device = available_device("--device", options.device)
    _check_fills(options)
    images = [read_picture(path) for path in options.pictures]
    _check_count("--target", options.target, len(images), or_one=True)
    _check_count("--truth", options.truth, len(images))
    _check_count("--label", options.label, len(images))
    masks = None if options.truth is None else [read_picture(path) for path in options.truth]
    classifier = classifier_of(options)
    classifier.network.to(device)
    found = _compare(
        classifier,
        images,
        options,
        sources=options.pictures,
        target=options.target,
        label=options.label,
        methods=None if options.methods is None else names_in(options.methods),
        metrics=_metrics(options.metrics),
        ground_truth=None if masks is None else _truth(masks, images, classifier.preprocess),
    )
    words = [found.text(), *_fills(found, classifier, images, options), ""]
    try:  # what was computed is not lost where a file cannot be written after all
        for what, write, path in (
            ("report", found.to_html, options.out),
            ("numbers", found.to_json, options.json),
            ("table", found.to_csv, options.csv),
        ):
            if path is not None:
                write(path)
                words.append(f"{what}: {printable(str(path))}")
    finally:
        say("\n".join(words))
    open_page(options.out, options.open)
    return _all_failed(found)


def _compare(
    classifier: Classifier,
    images: Sequence[Image.Image],
    options: argparse.Namespace,
    *,
    sources: Sequence[str],
    target: list[str] | None = None,
    label: list[str] | None = None,
    **settings: Any,
) -> Comparison:
    """Compare methods on pictures of one network."""
    score = score_of(options)
    names = group_names(classifier.categories, score.groups)
    targets, labels = (
        None if given is None else [resolve_target(one, names) for one in given]
        for given in (target, label)
    )
    inputs = _inputs(classifier, images)
    found = compare(
        classifier.network,
        inputs,
        targets if targets is None or len(targets) > 1 else targets[0],
        layer=options.layer,
        pictures=[classifier.preprocess.frame(image) for image in images],
        categories=names,
        show_progress=not options.quiet,
        **windows_of(options, inputs),
        score=score,
        labels=labels,
        **settings,
    )
    named = [
        ("Model", classifier.name) if name == "Model" else (name, value)
        for name, value in found.settings
    ]
    if len(images) > 1:
        files = (f"{k} {path}" for k, path in enumerate(options.pictures))
        named.append(("Pictures", ", ".join(files)))
    return replace(
        found, settings=tuple(named), call=shlex.join(options.words), sources=tuple(sources)
    )


def read_picture(given: str) -> Image.Image:
    """Read a picture from a file, or from an address."""
    if "://" not in given:
        return read_image(given)
    try:
        with fsspec.open(given, "rb") as file:
            content = file.read()
    except Exception as error:  # each kind of storage has its own errors
        raise ArgumentError(
            f"Expected the image to be a file, or an address that fsspec reads; {given} is not: "
            f"{type(error).__name__}: {error}."
        ) from error
    return decode_image(content, given)


def check_picture(given: str) -> None:
    """Refuse a picture that is no file; addresses are left to be read."""
    if "://" not in given:
        image_file(given)


def _inputs(classifier: Classifier, images: Sequence[Image.Image]) -> Tensor:
    """The pictures for the network, (N, C, H, W), on its device and of its type."""
    inputs = torch.cat([classifier.preprocess(image) for image in images])
    return placed(classifier.network, inputs)


def _fills(
    found: Comparison,
    classifier: Classifier,
    images: Sequence[Image.Image],
    options: argparse.Namespace,
) -> list[str]:
    """The tables of other fills, one per picture, if the user asks for them."""
    if not options.fills:
        return []
    infomask = InfoMask(classifier.network, score=score_of(options))
    words = ["\nInfoMask drop with other fills (windows of a quarter, an eighth apart):"]
    for image, target, label in zip(images, found.targets, found.labels, strict=True):
        words += [printable(label)] * (len(images) > 1)
        words.append(str(fill_disagreement(infomask, _inputs(classifier, [image]), int(target))))
    return words


def _check_fills(options: argparse.Namespace) -> None:
    """Refuse the tables of other fills where outputs are no softmax's."""
    if options.fills and options.head not in SOFTMAX_HEADS:
        raise ArgumentError(
            f"Expected `--fills` with `--head` {' or '.join(SOFTMAX_HEADS)}; got {options.head}."
        )


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure, in the format of its suffix; characters that its font lacks are boxes."""
    with output_file("--out", path) as beside, quiet("Glyph"):
        figure.savefig(beside, dpi=150, format=path.suffix[1:].lower())


def classifier_of(options: argparse.Namespace) -> Classifier:
    """The network that the options name."""
    categories = None if options.categories is None else read_categories(options.categories)
    with _importable_from_here(), to_be_read_by(options.head):
        return load_classifier(options.model, options.weights, categories)


def _metrics(given: str | None) -> str | list[str] | None:
    """Names of metrics; ``all`` and ``none`` are words."""
    if given is None or given == "all":
        return given
    return [] if given == "none" else names_in(given)


def _truth(
    masks: Sequence[Image.Image], images: Sequence[Image.Image], preprocess: Preprocess
) -> Tensor:
    """Masks in the network's view of the pictures, bool (N, H, W): pixels brighter than half."""
    framing = replace(preprocess, interpolation=InterpolationMode.NEAREST)
    made = []
    for mask, image in zip(masks, images, strict=True):
        if mask.size != image.size:
            raise ArgumentError(
                f"Expected `--truth` of the picture's {image.size[0]} x {image.size[1]} pixels; "
                f"got {mask.size[0]} x {mask.size[1]}."
            )
        made.append(torch.from_numpy(np.asarray(framing.frame(mask).convert("L")) > 127))
    return torch.stack(made)


def _check_count(option: str, given: list[str] | None, n: int, *, or_one: bool = False) -> None:
    """Refuse an option that was not given once per picture."""
    if given is not None and len(given) != n and not (or_one and len(given) == 1):
        raise ArgumentError(
            f"Expected `{option}` once per picture, {n} times{' or once' * or_one}; got it "
            f"{len(given)} times."
        )


def _all_failed(found: Comparison) -> bool:
    return all(outcome.failed for outcome in found.outcomes)


def open_page(path: Path, wanted: bool) -> None:
    """Open a page in the user's browser."""
    if wanted and not webbrowser.open(path.resolve().as_uri()):
        complain(f"no browser could be opened; the report is {path}")


@contextlib.contextmanager
def _importable_from_here() -> Iterator[None]:
    """Let ``module:function`` name a module in the working folder, as ``python -m`` does.

    Relative paths keep their meaning, even if the function changes the folder.
    """
    folder = os.getcwd()
    sys.path.insert(0, "")
    try:
        yield
    finally:
        if "" in sys.path:
            sys.path.remove("")
        os.chdir(folder)
