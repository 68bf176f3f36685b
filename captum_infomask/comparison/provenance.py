# The origin of a comparison: the call that makes it again, and the versions that made it.
from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

import captum
import numpy as np
import torch
from torch import Tensor, nn

from captum_infomask._checks import model_name
from captum_infomask.comparison.compare_arguments import fill_words
from captum_infomask.comparison.methods import Setting
from captum_infomask.scores.score import Score


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a comparison's numbers come from."""
    try:
        own = importlib.metadata.version("captum-infomask")
    except importlib.metadata.PackageNotFoundError:
        own = "not installed as a package"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "captum": captum.__version__,
        "captum-infomask": own,
        "numpy": np.__version__,
    }


def call_words(model: object, arguments: Mapping[str, Any]) -> str:
    """Write a call of compare: simple arguments as they are, others by the argument's name."""
    words = ["model", "inputs"]
    for name, value in arguments.items():
        if value is not None:
            words.append(f"{name}={_words(name, value, model)}")
    return f"compare({', '.join(words)})"


def _words(name: str, value: Any, model: object) -> str:
    if isinstance(value, nn.Module) and isinstance(model, nn.Module):
        # Before mappings: a module may be one.
        names = {id(module): key for key, module in model.named_modules()}
        return repr(names.get(id(value), name))
    if isinstance(value, Tensor | np.ndarray):
        return _short(name, repr(value.tolist())) if value.ndim < 2 else name
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: ..." for key in value) + "}"
    return _short(name, repr(value))


def _short(name: str, words: str) -> str:
    """Return Python that can be typed, or the argument's name."""
    return words if len(words) < 200 and "<" not in words and "\n" not in words else name


def named_settings(score: Score, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a score that were given by name and differ from the defaults."""
    changed = score.changed()
    return {
        name: changed[name] if name == "temperature" else given[name]
        for name in changed
        if name in given
    }


def setting_words(setting: Setting, *, made: bool, given: object) -> tuple[tuple[str, str], ...]:
    """Return the settings in words; windows only if default methods were ``made`` by them.

    The model is named as the ``given`` one is, a network or a ``Classifier`` of it.
    """
    shapes, strides = setting.windows
    height, width = setting.inputs.shape[2:]
    across = strides if isinstance(strides, tuple) else (strides,) * len(shapes)
    windows = f"{shapes[1]} x {shapes[2]} pixels every {across[1]}"
    if across[1] != across[2]:
        windows += f" x {across[2]}"
    return (
        ("Model", model_name(given)),
        *[("Windows", f"{windows}, on {width} x {height} pixels")] * made,
        ("Fill", fill_words(setting.fill)),
        *[("Read as", setting.score.words())] * (not setting.score.is_usual),
    )
