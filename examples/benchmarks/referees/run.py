# One command: every referee, every method, the page.
from __future__ import annotations

import argparse
import importlib.util
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from machine import machine
from torch import Tensor, nn

from . import faithfulness, grids, in_clutter, ink, pasted, tetrominoes
from .cases import Case, Method, Subject
from .examine import Measure, examine
from .measures import localisation
from .methods import check_names, methods_for
from .randomised import check_all, first_cases
from .report import chosen_on, page
from .rows import Rows
from .sections import GRIDS, SECTIONS
from .small_networks import Lab
from .tables import table

Builds = dict[str, partial[Subject]]


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


def builds(options: Namespace) -> dict[str, Builds]:
    """What makes each referee's subjects, by name."""
    count, lab = options.cases, Lab(options.cache, options.mnist, options.quick)
    few = min(count, 80)
    return {
        "pasted": pasted.subjects(count),
        "clutter": in_clutter.subjects(count, lab),
        **{kind: grids.subjects(kind, few, lab) for kind in GRIDS},
        "idsds": faithfulness.subjects(few, lab),
        "faithfulness": faithfulness.subjects(few, lab),
        "randomised": faithfulness.subjects(few, lab),
        "tetrominoes": tetrominoes.subjects(min(count, 200), lab),
        "ink": ink.subjects(min(count, 100), lab),
    }


def measure_of(referee: str) -> Measure:
    """What a referee measures of a map."""
    of_network = {"faithfulness": faithfulness.faithfulness, "idsds": faithfulness.idsds}
    if referee in of_network:
        return of_network[referee]
    of_map = {"tetrominoes": tetrominoes.measure, "ink": ink.measure}.get(referee)

    def measure(plane: Tensor, case: Case, network: nn.Module, method: Method) -> dict[str, float]:
        return localisation(plane, case.truth) if of_map is None else of_map(plane, case)

    return measure


def _measure(options: Namespace, rows: Rows, half: int) -> None:
    for referee in options.referees:
        for name, build in builds(options)[referee].items():
            if options.subjects and name not in options.subjects:
                continue
            subject = replace(build(), referee=referee)
            methods = [*methods_for(subject), *_plugged(options.plug, subject)]
            check_names(methods)
            if options.methods:
                methods = [m for m in methods if any(part in m.name for part in options.methods)]
            if referee == "randomised":
                subject = first_cases(subject, options.randomised)
                check_all(subject, [m for m in methods if not m.dear], rows, half=half)
            else:
                measure = measure_of(referee)
                examine(subject, methods, measure, rows, dear_cases=options.dear, half=half)


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
    parser.add_argument("--randomised", type=int, default=20, help="cases of the randomisation")
    parser.add_argument("--quick", action="store_true", help="a few cases, for a look")
    own = "InfoMask relay, superpixels (the default)"
    parser.add_argument("--reference", default=own, help="row of the differences")
    parser.add_argument("--mnist", type=Path, help="MNIST's folder, not scikit-learn's digits")
    parser.add_argument("--plug", type=Path, help="Python file: methods(subject) -> [Method, ...]")
    default = Path(tempfile.gettempdir()) / "captum_infomask_referees"
    parser.add_argument("--cache", type=Path, default=default, help="folder of trained networks")
    parser.add_argument("--rows", type=Path, help="file of what was measured (in --cache if None)")
    parser.add_argument("--out", type=Path, default=Path("build/referees"), help="page, figures")
    options = parser.parse_args(arguments)
    if options.quick:
        options.cases, options.dear, options.randomised = 6, 1, 2
    name = "quick.jsonl" if options.quick else "rows.jsonl"
    options.rows = options.rows or options.cache / name
    options.out.mkdir(parents=True, exist_ok=True)
    return options
