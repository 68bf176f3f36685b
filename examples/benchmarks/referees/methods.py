# The table of what is compared: a row per method, made for a subject.
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from captum.attr import KernelShap, Lime
from torch import Tensor, nn

from captum_infomask import InfoMask

from . import others
from .cases import Attribute, Method, Subject

# InfoMask's rows: arguments of `attribute` by what tables call them. `sizes` becomes the subject's
# input sizes; rows of a view that this version does not have are left out.
VIEWS: dict[str, dict[str, Any]] = {
    "crop": {"view": "crop"},
    "keep": {"view": "keep"},
    "drop": {"view": "drop"},
    "features": {"view": "features"},
    "chain": {"view": "chain"},
    "evidence": {"view": "evidence"},
    "evidence, several sizes": {"view": "evidence", "input_sizes": "sizes"},
    "evidence, superpixels": {"view": "evidence", "sharpen": "superpixels"},
    "evidence, several sizes, superpixels": {
        "view": "evidence",
        "input_sizes": "sizes",
        "sharpen": "superpixels",
    },
    "relay": {"view": "relay"},
    "relay, superpixels (the default)": {"view": "relay", "sharpen": "superpixels"},
}
_DEAR = ("chain",)


def info_mask(settings: dict[str, Any], network: nn.Module, picture: Tensor, target: int) -> Tensor:
    """InfoMask's bits, the mean over channels."""
    bits: Tensor = InfoMask(network).attribute(picture, target=target, **settings)
    return bits.mean(1)[0]


def methods_for(subject: Subject, *, masks: int = 496, samples: int = 256) -> list[Method]:
    """All rows of the table.

    Args:
        subject: Its layers and sizes decide what there is of Grad-CAM.
        masks: Of RISE.
        samples: Of KernelShap and Lime.
    """
    return [*_ours(subject), *_cams(subject), *_rest(subject, masks, samples), *controls()]


def _ours(subject: Subject) -> list[Method]:
    made = []
    for name, settings in VIEWS.items():
        if "input_sizes" in settings and len(subject.sizes) < 2:
            continue
        given = {k: list(subject.sizes) if v == "sizes" else v for k, v in settings.items()}
        made.append(Method(f"InfoMask {name}", partial(info_mask, given), name in _DEAR))
    if subject.window:
        windows = (3, subject.window, subject.window)
        given = {"view": "drop", "sliding_window_shapes": windows, "strides": windows}
        made.append(Method("InfoMask drop, windows side by side", partial(info_mask, given)))
    return made


def _cams(subject: Subject) -> list[Method]:
    if not subject.layers:
        return []
    made: dict[str, Attribute] = {
        f"Grad-CAM, {words}": partial(others.grad_cam, layer)
        for words, layer in subject.layers.items()
    }
    best = partial(others.grad_cam, subject.layers[subject.best])
    made["Grad-CAM, our superpixels"] = partial(others.snapped, best)
    if len(subject.sizes) > 1:
        several = partial(others.several_sizes, best, subject.sizes)
        made["Grad-CAM, several sizes"] = several
        made["Grad-CAM, several sizes, our superpixels"] = partial(others.snapped, several)
    made["guided Grad-CAM"] = partial(others.guided_grad_cam, subject.layers[subject.best])
    return [Method(name, attribute) for name, attribute in made.items()]


def _rest(subject: Subject, masks: int, samples: int) -> list[Method]:
    shap, lime = (partial(others.on_superpixels, kind, samples) for kind in (KernelShap, Lime))
    cheap: dict[str, Attribute] = {
        "Occlusion": others.occlusion,
        "gradient × input": others.gradient_times_input,
        "gradient × input, magnitude": partial(others.magnitude, others.gradient_times_input),
        "integrated gradients": others.integrated_gradients,
        "integrated gradients, magnitude": partial(others.magnitude, others.integrated_gradients),
        "SmoothGrad": others.smooth_grad,
    }
    dear: dict[str, Attribute] = {
        f"RISE, {masks} masks": partial(others.rise, masks),
        f"KernelShap, 50 superpixels, {samples} samples": shap,
        f"Lime, 50 superpixels, {samples} samples": lime,
    }
    return [
        *(Method(name, attribute) for name, attribute in cheap.items()),
        *(Method(name, attribute, dear=True) for name, attribute in dear.items()),
    ]


def controls() -> list[Method]:
    """What sees no network, and must lose."""
    made = {"edges": others.edges, "centred blob": others.blob, "noise": others.noise}
    return [Method(f"{name} (control)", each, control=True) for name, each in made.items()]


def check_names(methods: Sequence[Method]) -> None:
    """Refuse two methods of one name."""
    names = [method.name for method in methods]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Expected methods of different names; got two of {', '.join(twice)}.")
