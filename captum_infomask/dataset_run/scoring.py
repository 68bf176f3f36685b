# Scores a batch of pictures, and computes a network's answers on our own test pictures.
from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_infomask._batches import placed
from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError, RunStopped
from captum_infomask._outputs import read_logits
from captum_infomask._process import quiet
from captum_infomask._random import LibraryDraws, OwnGenerators
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.attribution.likely import score_with_likely
from captum_infomask.dataset_run.data.own_input import PictureForm
from captum_infomask.dataset_run.data.reading import in_one_line
from captum_infomask.dataset_run.result_rows import Row, one_picture
from captum_infomask.dataset_run.run_settings import RunSettings
from captum_infomask.engines.memory import is_out_of_memory
from captum_infomask.engines.untouched import buffers_kept
from captum_infomask.engines.verified_copy import Copies, copies_kept
from captum_infomask.masks import bounding_boxes
from captum_infomask.masks.outlines import masks_to_run_length
from captum_infomask.models.classifier import Classifier
from captum_infomask.results import InfoMap
from captum_infomask.scores.class_scores import ClassScore, choose_classes
from captum_infomask.scores.heads import rows_of
from captum_infomask.scores.likely_classes import LikelyClasses

_HEIGHT, _WIDTH = 480, 640
_BLOCKS = (160, 32, 8, 1)  # sides of blocks of noise; some of them survive any preprocessing

# The allowed difference of answers, as a share of the largest. Processors and numbers of threads
# differ by 1e-6 in float32, and by much more with TF32 or half precision.
_ROUNDING, _COARSE = 1e-4, 1e-2


def some_noise(number: int = 0, contrast: float = 1.0) -> Image.Image:
    """A picture of noise, RGB, the same on all machines."""
    draw = np.random.RandomState(number)  # the same numbers in all versions of numpy
    noise = np.mean([_blocks(draw, side) for side in _BLOCKS], axis=0)
    pixels = (128 + contrast * (noise - 128)).clip(0, 250).astype(np.uint8)
    return Image.fromarray(pixels)


def probe_inputs(
    preprocess: Callable[[Image.Image], Tensor], device: str, form: PictureForm
) -> list[Tensor]:
    """Three pictures of noise, the same on all machines, for the network: (1, C, H, W) each.

    They differ in contrast, so they reach both sides of the bends of activations.
    """
    inputs = []
    for number, contrast in enumerate((1.0, 0.5, 2.0)):
        made = preprocess(form.of(some_noise(number, contrast)))
        if not isinstance(made, Tensor) or made.dim() != 4 or len(made) != 1:
            raise ArgumentError(
                f"Expected the preprocessing of `model` to give a tensor (1, C, H, W); got "
                f"{describe(made)}."
            )
        inputs.append(made.to(device, torch.float32))
    return inputs


def _blocks(draw: np.random.RandomState, side: int) -> Any:
    """Squares of random colours, (H, W, 3)."""
    colours = draw.randint(0, 256, (_HEIGHT // side, _WIDTH // side, 3))
    return colours.repeat(side, 0).repeat(side, 1)


@dataclass(frozen=True)
class Probe:
    """Answers to compare, rounded to the digits that other machines can repeat.

    Attributes:
        answers: For each picture the network's outputs.
        scores: i(y; x) of the first picture, and its regions' scores. Empty if only the network was
            asked; then they are not compared.
        tolerance: The allowed difference of answers, as a share of the largest.
    """

    answers: Sequence[Sequence[float]]
    scores: Sequence[float]
    tolerance: float

    @classmethod
    def made(cls, outputs: Sequence[Tensor], scored: InfoMap | None = None) -> Probe:
        """A probe from the network's outputs, (1, M) each, and the first picture's InfoMap."""
        answers = [_rounded(output[0]) for output in outputs]
        scores = [] if scored is None else _rounded(torch.cat([scored.total, scored.scores[0]]))
        is_coarse = outputs[0].device.type != "cpu" or outputs[0].element_size() < 4
        return cls(answers, scores, _COARSE if is_coarse else _ROUNDING)

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Probe:
        """A probe from its ``words``."""
        answers = [[float(number) for number in line.split()] for line in words["answers"]]
        scores = [float(number) for number in words["scores"].split()]
        return cls(answers, scores, words["tolerance"])

    def words(self) -> dict[str, Any]:
        """The probe as a manifest holds it."""
        return {
            "answers": [" ".join(map(str, line)) for line in self.answers],
            "scores": " ".join(map(str, self.scores)),
            "tolerance": self.tolerance,
        }

    def differences(self, now: Probe) -> dict[str, str]:
        """The differences beyond rounding, by name: the network's answers, or else scores."""
        tolerance = max(self.tolerance, now.tolerance)
        # A score is a difference of logarithms, so it loses digits.
        for name, share in (("answers", tolerance), ("scores", 10 * tolerance)):
            before, after = (np.ravel(getattr(probe, name)) for probe in (self, now))
            if not after.size:
                continue
            largest = np.abs(before[np.isfinite(before)]).max(initial=float(name == "scores"))
            same = np.isclose(before, after, rtol=0, atol=share * largest, equal_nan=True)
            if not same.all():
                k = int(np.argmin(same))
                whose = "the network's answers" if name == "answers" else "the view's scores"
                words = f"{before[k]:.4g} before, {after[k]:.4g} now"
                return {f"{whose} on a picture of our own": words}
        return {}


def _rounded(numbers: Tensor) -> list[float]:
    """Seven digits of each number, as many as float32 has."""
    return [float(f"{number:.7g}") for number in numbers.double().tolist()]


class Scorer:
    """A network and the settings of a run.

    Args:
        classifier: The classifier, on the device of the settings.
        settings: The run's settings.
    """

    def __init__(self, classifier: Classifier, settings: RunSettings) -> None:
        self._network = classifier.network
        self._settings = settings
        self._copies: Copies = {}
        self._infomask = InfoMask(classifier.network, score=settings.score)

    def check_groups(self, outputs: Tensor) -> None:
        """Refuse groups of classes that the network does not have."""
        self._infomask.score.check(outputs, torch.zeros(1, 1, dtype=torch.long))

    def some_target(self) -> int:
        """A valid target for the settings: the class with the largest prior."""
        prior, groups = self._infomask.score.target_prior, self._infomask.score.groups
        order = list(range(2 if groups is None else len(groups)))
        if prior is not None and prior.dim() == 1:
            order = prior.argsort(descending=True, stable=True).tolist()
        contrast = self._settings.options.get("contrast")
        return next((target for target in order if target != contrast), 0)

    def infomap(self, pictures: Tensor, targets: Tensor) -> InfoMap:
        """Score pictures, (N, C, H, W), which take the type of the network's parameters."""
        shown = placed(self._network, pictures)
        return self._infomask.score_regions(shown, target=targets, **self._settings.options)

    def outputs(self, pictures: Tensor) -> Tensor:
        """The network's outputs for pictures, (N, M), M = 1 for one number; draws use the seed."""
        seed, shown = self._settings.options["seed"], placed(self._network, pictures)
        with buffers_kept(self._network), OwnGenerators(seed) as generators:
            made = LibraryDraws(seed, generators).run(lambda: self._network(shown.clone()))
        output = read_logits(made, "model")
        if output.dim() not in (1, 2):
            raise ArgumentError(
                f"Expected `model` to return outputs (N, M); got {tuple(output.shape)}."
            )
        return rows_of(output)

    def rows(
        self,
        pictures: Tensor,
        targets: Sequence[int] | None,
        names: Sequence[tuple[str, str | None]],
        slots: Sequence[int],
    ) -> list[Row]:
        """Score good pictures, at most a batch of them.

        Every call shows the network a whole batch, with each picture in its own place. The first
        picture fills the other places. So no picture's numbers depend on which others are good. If
        the memory is also too small for black pictures, no picture is the cause.

        Args:
            pictures: (N, C, H, W), N ≥ 1.
            targets: The classes of the pictures; None for the predictions.
            names: Key and hash of each picture.
            slots: The place of each picture in the batch.
        """
        try:
            return self._score(pictures, targets, names, slots)
        except Exception as error:
            if is_out_of_memory(error) and not self._has_room(pictures, targets):
                stop_without_memory(error)
            if len(pictures) == 1:
                return [Row(*names[0], in_one_line(error))]
        # One of them is the cause. Each is scored alone, and the others keep their numbers.
        return [
            self.rows(pictures[one], targets and targets[one], names[one], slots[one])[0]
            for one in (slice(k, k + 1) for k in range(len(pictures)))
        ]

    def _has_room(self, pictures: Tensor, targets: Sequence[int] | None) -> bool:
        """Whether there is memory for a batch of black pictures."""
        count, device = self._settings.batch_size, self._settings.device
        black = torch.zeros(count, *pictures.shape[1:], device=device)
        try:
            self._read(black, None if targets is None else torch.full((count,), targets[0]))
        except Exception as error:
            return not is_out_of_memory(error)
        return True

    def _score(
        self,
        pictures: Tensor,
        targets: Sequence[int] | None,
        names: Sequence[tuple[str, str | None]],
        slots: Sequence[int],
    ) -> list[Row]:
        start = time.perf_counter()
        count = len(pictures)
        filled = torch.zeros(self._settings.batch_size, dtype=torch.long)
        filled[slots] = torch.arange(count)
        shown = pictures[filled].to(self._settings.device)
        with copies_kept(self._copies):
            predicted, infomap, likely = self._read(
                shown, None if targets is None else torch.tensor(targets)[filled]
            )
        made = self._masks(infomap, slots)
        seconds = (time.perf_counter() - start) / count
        return [
            Row(
                key,
                sha256,
                target=int(infomap.targets[slot]),  # type: ignore[index]
                predicted=int(predicted[slot]),
                infomap=one_picture(infomap, slot),
                likely=None if likely is None else likely.of_picture(slot),
                seconds=seconds,
                **found,
            )
            for slot, (key, sha256), found in zip(slots, names, made, strict=True)
        ]

    def _read(
        self, shown: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, InfoMap, LikelyClasses | None]:
        """The likeliest classes, the InfoMap of the targets, and what bets may be placed on."""
        options = self._settings.options
        shown = placed(self._network, shown)
        infomap: InfoMap
        likely: LikelyClasses | None = None
        if self._settings.are_bets:
            infomap, likely = score_with_likely(self._infomask, shown, targets, options)
        elif targets is None:
            infomap = self._infomask.score_classes(shown, top_k=1, **options).rank(0)
        else:
            infomap = self.infomap(shown, targets)
        if targets is None:
            assert infomap.targets is not None, "the likeliest classes"
            return infomap.targets, infomap, likely
        score = self._infomask.score
        totals = ClassScore(score)(self.outputs(shown), None)
        return choose_classes(1, totals, score)[:, 0], infomap, likely

    def _masks(self, infomap: InfoMap, slots: Sequence[int]) -> list[dict[str, Any]]:
        """Mask and boxes of the pictures in these places."""
        with quiet("The mask of example", "No region of image"):
            # An empty mask is a result: nothing speaks for the target.
            masks = infomap.mask(self._settings.rule)[slots]
        boxes = bounding_boxes(masks, keep="all")
        return [
            {"mask": run_length, "boxes": box.tolist()}
            for run_length, box in zip(masks_to_run_length(masks), boxes, strict=True)
        ]


def stop_without_memory(error: Exception) -> None:
    """Raise RunStopped if there was too little memory, which no picture caused."""
    if is_out_of_memory(error):
        raise RunStopped(
            f"The run stopped ({in_one_line(error)}). A smaller `batch_size` or "
            f"`perturbations_per_eval` takes less memory, and begins a new run."
        ) from error
