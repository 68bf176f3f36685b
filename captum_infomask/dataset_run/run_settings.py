# The settings of a run, and their form in a manifest.
from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from captum_infomask._categories import resolve_target
from captum_infomask._checks import describe, one_of, plain, random_seed
from captum_infomask._errors import ArgumentError
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.engines.choose_engine import EngineName
from captum_infomask.engines.engine_protocol import Engine
from captum_infomask.imputers.choose_imputer import as_imputer
from captum_infomask.masks import FalseDiscoveries, Rule
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.results.e_values import check_bets, why_no_bets
from captum_infomask.scores.contrast import is_runner_up
from captum_infomask.scores.likely_classes import MOST
from captum_infomask.scores.score import Score
from captum_infomask.views.choose_view import OF_FEATURES

# The columns of each view's likeliest classes and their probabilities, (R, K) row by row.
LIKELY = ("likely_classes", "likely_probabilities")


@dataclass(frozen=True, eq=False)
class RunSettings:
    """Everything that the numbers of a run depend on, except the pictures and the network.

    Attributes:
        target: ``prediction``, ``label``, or the Parquet column of the labels.
        score: How the network's outputs are read.
        rule: The rule for masks; None leaves the choice to the maps.
        options: The keyword arguments of ``score_regions``, with ``perturbations_per_eval``.
        batch_size: Pictures of a call; 0 until the size is chosen.
        shard_size: Pictures of a file; 0 until the size is chosen.
        device: The device of the network.
    """

    target: str
    score: Score
    rule: Rule | None
    options: Mapping[str, Any]
    batch_size: int
    shard_size: int
    device: str

    @property
    def further(self) -> list[str]:
        """The columns of rows that not every run has."""
        of_view = ["explained", "residual"] if self.options["view"] in OF_FEATURES else []
        told = [name for name in ("contrast", "sharpen") if self.options.get(name) is not None]
        likely = list(LIKELY) if self.are_bets else []
        return [*of_view, *[{"sharpen": "superpixels"}.get(name, name) for name in told], *likely]

    @property
    def are_bets(self) -> bool:
        """Whether scores are bets on the target at the odds of the prior, so 2^bits are e-values.

        The rows then hold each view's likeliest classes, for the evidence about all classes.
        """
        return not why_no_bets(self.options["view"], self.score, self.options.get("contrast"))

    def check_rule(self) -> None:
        """Refuse a rule that needs e-values if there are none, or those of other pictures.

        Raises:
            ArgumentError: The rule does not suit the view, the score or a run.
        """
        if not isinstance(self.rule, FalseDiscoveries):
            return
        if self.rule.family != "image":
            raise ArgumentError(
                f"Expected `rule` to cut each picture's mask by its own e-values, with "
                f"family='image', for a run, whose batches are no family; got {self.rule}."
            )
        if self.options["view"] is not None:
            check_bets(self.options["view"], self.score, self.options.get("contrast"))

    def numbered(self, categories: Sequence[str]) -> RunSettings:
        """The settings with the number of the class that ``contrast`` names."""
        contrast = self.options.get("contrast")
        if not isinstance(contrast, str) or is_runner_up(contrast):
            return self
        number = resolve_target(contrast, categories, "contrast")
        return dataclasses.replace(self, options={**self.options, "contrast": number})

    def words(self) -> dict[str, Any]:
        """The settings as JSON values; equal settings give equal values."""
        named = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        score, options = named.pop("score"), named.pop("options")
        bets = {"likely_classes": MOST} if self.are_bets else {}
        words = {**named, **score.named(), **options, **bets}
        return {name: in_words(name, value) for name, value in words.items()}


# The arguments of score_regions that a run sets itself, or cannot set for every picture.
_TAKEN = (
    *("self", "inputs", "target", "value", "additional_forward_args", "args_per_example"),
    *("engine", "show_progress"),
)


def score_options(options: Mapping[str, Any], view_engine: object) -> dict[str, Any]:
    """All keyword arguments of ``score_regions``; refuse unknown ones."""
    known = inspect.signature(InfoMask.attribute).parameters.items()
    usual = {name: parameter.default for name, parameter in known if name not in _TAKEN}
    for name in options:
        one_of("options", name, usual)
    contrast = plain(options.get("contrast"))
    is_class = isinstance(contrast, int | str) and not isinstance(contrast, bool)
    if contrast is not None and not is_class:
        raise ArgumentError(
            f"Expected `contrast` to be a class for all pictures of a run, or 'runner_up'; got "
            f"{describe(options['contrast'])}."
        )
    layers = options.get("layer") or ()
    for layer in layers if isinstance(layers, list | tuple) else [layers]:
        if not isinstance(layer, str):
            raise ArgumentError(
                f"Expected `layer` to be a layer's name, or a list of names, for a run, which "
                f"loads networks of its own; got {describe(layer)}."
            )
    if not isinstance(view_engine, Engine):
        one_of("view_engine", view_engine, get_args(EngineName))
    if isinstance(options.get("regions"), str):
        raise ArgumentError(
            f"Expected `regions` to be the same for all pictures of a run; got "
            f"{options['regions']!r}, which follow each picture."
        )
    options = {**options, "imputer": as_imputer(options.get("imputer"))}
    return {**usual, **options, "seed": random_seed(options.get("seed", 0)), "engine": view_engine}


def in_words(name: str, value: Any) -> Any:  # noqa: PLR0911 - a case for each kind of value
    """A setting as a JSON value; a large one becomes a hash of its content."""
    value = plain(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [in_words(name, entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): in_words(name, entry) for key, entry in value.items()}
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)  # its hash covers all digits, unlike its repr
    if isinstance(value, Tensor):
        return f"{kind}{tuple(value.shape)} {tensors_hash({'': value})[:16]}"
    if isinstance(value, Regions):
        return f"{len(value)} {kind} {tensors_hash(value.state())[:16]}"
    if isinstance(value, torch.dtype):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        inside = ", ".join(f"{key}={in_words(name, entry)}" for key, entry in held.items())
        return f"{kind}({inside})"
    if inspect.isroutine(value) or isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    words = repr(value)
    if " at 0x" in words:
        raise ArgumentError(
            f"Expected `{name}` to be something that a manifest can tell from others: a number, "
            f"words, a tensor, regions or a dataclass; got {kind}, whose repr is an address."
        )
    return words


def tensors_hash(tensors: Mapping[str, Any]) -> str:
    """SHA-256 of the names, types, shapes and bytes of tensors, and of other values in words."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if not isinstance(tensors[name], Tensor):
            digest.update(f"{name} {in_words('model', tensors[name])}\n".encode())
            continue
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
