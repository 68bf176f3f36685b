# The options of an attribute call: for its readers, for type checkers, and with their defaults.
from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from captum_infomask import InfoMask
from captum_infomask.attribution.options import Options, ScoreOptions

KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
WRONG = """
import torch
from captum_infomask import InfoMask

infomask, x = InfoMask(torch.nn.Flatten()), torch.rand(1, 3, 8, 8)
right: torch.Tensor = infomask.attribute(x, target=1, view="drop")
both: tuple[torch.Tensor, ...] = infomask.mask((x, x), seed=3)
infomask.attribute(x, view="dropp")
infomask.score_regions(x, view="dropp")
infomask.mask(x, view="dropp")
infomask.score_classes(x, viw="drop")
"""


def options_of(method: object) -> dict[str, object]:
    """The keyword-only arguments of a method, with their defaults."""
    found = inspect.signature(method).parameters.values()  # type: ignore[arg-type]
    return {one.name: one.default for one in found if one.kind is KEYWORD_ONLY}


def test_the_three_lists_are_one() -> None:
    usual = {field.name: field.default for field in dataclasses.fields(Options)}
    assert options_of(InfoMask.attribute) == usual
    assert set(ScoreOptions.__annotations__) == set(usual)
    types = {field.name: field.type for field in dataclasses.fields(Options)}
    hints = ScoreOptions.__annotations__
    assert {name: hint.__forward_arg__ for name, hint in hints.items()} == types


@pytest.mark.parametrize("name", ["score_regions", "mask", "score_classes"])
def test_the_other_methods_show_the_options_of_attribute(name: str) -> None:
    shown = options_of(getattr(InfoMask, name))
    assert {key: shown[key] for key in options_of(InfoMask.attribute)} == options_of(
        InfoMask.attribute
    )


@pytest.mark.slow
def test_a_type_checker_refuses_options_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--no-incremental", "wrong.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if line.startswith("wrong.py")]
    lines = [line.split(":")[1] for line in told if ": error:" in line]
    assert lines == ["8", "9", "10", "11"], done.stdout
