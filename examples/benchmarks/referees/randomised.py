# Adebayo et al.'s check: a map of a network that has forgotten must be another one.
from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor, nn

from captum_infomask import ArgumentError, randomisation_check

from .cases import Case, Method, Subject
from .examine import row_of
from .methods import methods_for
from .rows import Rows

RANDOMISED = {"forgotten": "all layers re-drawn", "last": "last layers re-drawn"}


def check_all(subject: Subject, methods: Sequence[Method], rows: Rows, *, half: int) -> None:
    """Write down how alike every method's maps are before and after, by |Spearman's ρ|.

    Args:
        subject: The network and its cases.
        methods: What is compared, each remade for the network's copy by its name.
        rows: Where the numbers go.
        half: 0 for the cases that settings are chosen on, 1 for those that are reported.
    """
    for number, case in list(enumerate(subject.cases))[half::2]:
        for method in methods:
            row = row_of(subject, case, method.name)
            if tuple(row.values()) in rows:
                continue
            try:
                explain = {method.name: partial(_again, subject, method)}
                found = randomisation_check(subject.network, case.picture, case.target, explain)
            except ArgumentError as error:
                print(f"{method.name}: {error}", file=sys.stderr)
                continue
            stages = np.nan_to_num(np.abs(found.spearman[0]))
            row |= {"number": number, "control": method.control}
            rows.add(row | {"forgotten": float(stages[-1]), "last": float(stages[0])})


def _again(
    subject: Subject, method: Method, network: nn.Module, picture: Tensor, target: int
) -> Tensor:
    """A method's map by a copy of the subject's network, whose layers are others."""
    names = {module: name for name, module in subject.network.named_modules()}
    layers = {words: network.get_submodule(names[one]) for words, one in subject.layers.items()}
    own = methods_for(replace(subject, network=network, layers=layers))
    same = next((one for one in own if one.name == method.name), method)
    return same.attribute(network, picture, target)[None, None]


def first_cases(subject: Subject, count: int) -> Subject:
    """The subject with its first cases."""
    kept: list[Case] = list(subject.cases[:count])
    return replace(subject, cases=kept)
