# Whole maps of one picture: pytorch-grad-cam's methods beside Captum's and InfoMask's.
from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from captum.attr import LayerGradCam, Occlusion
from interleave import Call, Clock, by_clock, interleaved
from pytorch_grad_cam import AblationCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from subjects import TARGET, Subject
from torch import nn

from captum_infomask import InfoMask

LAYER = "layer4"


def cam_table(
    subject: Subject, settings: Sequence[int], rounds: int, clock: Clock
) -> dict[str, dict[str, Any]]:
    """Seconds of a whole map per round, by method, each at the fastest of its batch sizes."""
    tried = {
        "Occlusion": partial(_occlusion, subject),
        "ScoreCAM": partial(_score_cam, subject),
        "AblationCAM": partial(_ablation_cam, subject),
    }
    questions = [(name, size) for name in tried for size in settings]
    trial = by_clock(interleaved([tried[name](size) for name, size in questions], 1), clock)
    seconds = {question: column[0] for question, column in zip(questions, trial, strict=True)}
    best = {name: min(settings, key=lambda size: seconds[name, size]) for name in tried}
    calls: dict[str, Call] = {
        "Grad-CAM": _grad_cam(subject),
        **{name: make(best[name]) for name, make in tried.items()},
        "InfoMask crop, default windows": _info_mask(subject, "crop"),
        "InfoMask drop": _info_mask(subject, "drop", **_sliding(subject)),
        "InfoMask features": _info_mask(subject, "features", **_sliding(subject)),
    }
    columns = by_clock(interleaved(list(calls.values()), rounds), clock)
    return {
        name: {"views": best.get(name), "seconds": column}
        for name, column in zip(calls, columns, strict=True)
    }


def _grad_cam(subject: Subject) -> Call:
    method = LayerGradCam(subject.network, subject.network.get_submodule(LAYER))
    return lambda: method.attribute(subject.picture, target=TARGET)


def _score_cam(subject: Subject, size: int) -> Call:
    def make(network: nn.Module) -> ScoreCAM:
        cam = ScoreCAM(network, [network.get_submodule(LAYER)])
        cam.batch_size = size
        return cam

    return _cam(subject, make)


def _ablation_cam(subject: Subject, size: int) -> Call:
    return _cam(
        subject,
        lambda network: AblationCAM(network, [network.get_submodule(LAYER)], batch_size=size),
    )


def _cam(subject: Subject, make: Callable[[nn.Module], Any]) -> Call:
    """A map of pytorch-grad-cam's, which leaves hooks on its network: a copy, for that."""
    cam = make(copy.deepcopy(subject.network))

    def call() -> None:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars that cannot be turned off
            cam(subject.picture, targets=[ClassifierOutputTarget(TARGET)])

    return call


def _sliding(subject: Subject) -> dict[str, Any]:
    return {
        "sliding_window_shapes": (3, subject.window, subject.window),
        "strides": (3, subject.stride, subject.stride),
    }


def _occlusion(subject: Subject, size: int) -> Call:
    method = Occlusion(subject.network)
    return lambda: method.attribute(
        subject.picture, target=TARGET, perturbations_per_eval=size, **_sliding(subject)
    )


def _info_mask(subject: Subject, view: str, **windows: Any) -> Call:
    method = InfoMask(subject.network)
    return lambda: method.attribute(subject.picture, target=TARGET, view=view, **windows)
