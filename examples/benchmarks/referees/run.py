# One command: every referee, every method, the page.
from __future__ import annotations

import argparse
import importlib.util
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from machine import machine

from . import in_clutter, pasted
from .cases import Method, Subject
from .examine import examine
from .measures import localisation
from .methods import check_names, methods_for
from .report import Section, chosen_on, page
from .rows import Rows
from .tables import table

SECTIONS = (
    Section(
        "pasted",
        "Pasted photographs",
        "Three of scikit-image's five photographs whose class the network knows, 70 to 125 pixels "
        "wide, at random places on a texture of 224 pixels; the target is one of them with p > "
        "0.02. *mass*: share of the positive attribution on the photograph; *pointing*: whether "
        "the largest value lies on it; *best IoU*: of the mask at its best threshold.",
    ),
    Section(
        "clutter",
        "Objects in clutter",
        "A handwritten digit, tinted, among other shapes over a photograph, 64 pixels; its ink is "
        "what is right. The networks are trained by this command; cases are pictures that they "
        "get right.",
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parsed(arguments)
    torch.set_num_threads(1)
    rows = Rows(options.rows)
    if options.part in ("measure", "choose"):
        _measure(options, rows, half=int(options.part == "measure"))
    if options.part == "choose":
        _choose(rows, options.reference)
    else:
        text = page(rows, SECTIONS, options.reference, machine(), options.out)
        (options.out / "referees.md").write_text(text, encoding="utf-8")
        print(f"Written: {options.out / 'referees.md'}")


def subjects(options: Namespace) -> dict[tuple[str, str], Callable[[], Subject]]:
    """What makes each referee's subjects."""
    made = {
        "pasted": pasted.subjects(options.cases),
        "clutter": in_clutter.subjects(options.cases, options.cache, options.mnist),
    }
    return {
        (referee, name): build
        for referee, builds in made.items()
        for name, build in builds.items()
        if referee in options.referees and (not options.subjects or name in options.subjects)
    }


def _measure(options: Namespace, rows: Rows, half: int) -> None:
    for build in subjects(options).values():
        subject = build()
        methods = [*methods_for(subject), *_plugged(options.plug, subject)]
        check_names(methods)
        if options.methods:
            methods = [one for one in methods if any(part in one.name for part in options.methods)]
        examine(
            subject,
            methods,
            lambda plane, case, network: localisation(plane, case.truth),
            rows,
            dear_cases=options.dear,
            half=half,
        )


def _choose(rows: Rows, reference: str) -> None:
    for section in SECTIONS:
        for name in rows.subjects(section.referee):
            own = chosen_on(rows.of(section.referee, name))
            if own:
                made = table(own, section.measures, reference=reference, lower=section.lower)
                print(f"{section.title}, {name}\n\n{made}\n")


def _plugged(file: Path | None, subject: Subject) -> list[Method]:
    """The methods of a user's file, whose function ``methods(subject)`` lists them."""
    if file is None:
        return []
    spec = importlib.util.spec_from_file_location("plugged", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"Expected `--plug` to be a Python file; got {file}.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.methods(subject))


def _parsed(arguments: Sequence[str] | None) -> Namespace:
    parser = argparse.ArgumentParser(description="Let referees judge attribution methods.")
    parser.add_argument(
        "part",
        nargs="?",
        default="measure",
        choices=("measure", "choose", "page"),
        help="measure what is missing and write the page; the same on the cases that settings are "
        "chosen on, and print; or write the page of what was measured so far",
    )
    every = tuple(section.referee for section in SECTIONS)
    parser.add_argument("--referees", nargs="+", choices=every, default=every)
    parser.add_argument("--subjects", nargs="+", help="networks (default: all)")
    parser.add_argument("--methods", nargs="+", help="only methods whose names hold one of these")
    parser.add_argument("--cases", type=int, default=400, help="per network, both halves")
    parser.add_argument("--dear", type=int, default=60, help="cases that dear methods see")
    parser.add_argument("--quick", action="store_true", help="a few cases, for a look")
    parser.add_argument("--reference", default="InfoMask default", help="row of the differences")
    parser.add_argument("--mnist", type=Path, help="MNIST's folder, not scikit-learn's digits")
    parser.add_argument("--plug", type=Path, help="Python file: methods(subject) -> [Method, ...]")
    default = Path(tempfile.gettempdir()) / "captum_infomask_referees"
    parser.add_argument("--cache", type=Path, default=default, help="folder of trained networks")
    parser.add_argument("--rows", type=Path, help="file of what was measured (in --cache if None)")
    parser.add_argument("--out", type=Path, default=Path("build/referees"), help="page, figures")
    options = parser.parse_args(arguments)
    if options.quick:
        options.cases, options.dear = 6, 1
    name = "quick.jsonl" if options.quick else "rows.jsonl"
    options.rows = options.rows or options.cache / name
    options.out.mkdir(parents=True, exist_ok=True)
    return options
