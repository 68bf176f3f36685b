# What is timed: Captum's methods and InfoMask's engines, each at scoring a subject's windows.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from captum.attr import FeatureAblation, Occlusion
from subjects import TARGET, Subject
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from captum_infomask import InfoMask
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.engine_protocol import Engine
from captum_infomask.engines.incremental.incremental_engine import Incremental
from captum_infomask.imputers.remove_tokens import RemoveTokens

PLAIN = Batched(folded=False)
ENGINES: dict[str, str | Engine] = {
    "batched": "batched",
    "incremental": "incremental",
    "no Winograd": Incremental(winograd=False),
    "auto": "auto",
    "tokens": "tokens",
}


def _any(subject: Subject) -> bool:
    return True


@dataclass(frozen=True)
class Contender:
    """What can score a subject's windows.

    Attributes:
        call: From a subject and one of the settings, a function that scores all its windows and
            returns the name of the engine that did.
        settings: Values of ``perturbations_per_eval`` that are tried; None is its own choice.
        per_pass: Whether its cost is that of its forward passes, one per window and one for the
            picture; others may pay for a call what they save on its windows.
        suits: Whether it can score a subject's windows.
    """

    call: Callable[[Subject, int | None], Callable[[], str]]
    settings: Sequence[int | None] = (None,)
    per_pass: bool = False
    suits: Callable[[Subject], bool] = _any


def _occlusion(subject: Subject, views: int | None) -> Callable[[], str]:
    method = Occlusion(_log_probabilities(subject.network))

    def call() -> str:
        method.attribute(
            subject.picture,
            target=TARGET,
            sliding_window_shapes=(3, subject.window, subject.window),
            strides=(3, subject.stride, subject.stride),
            perturbations_per_eval=views or 1,
        )
        return ""

    return call


def _feature_ablation(subject: Subject, views: int | None) -> Callable[[], str]:
    if subject.stride != subject.window:
        raise ValueError("Expected windows that tile the picture; a feature mask has no others.")
    rows = torch.arange(len(subject.windows))
    inside = subject.windows.masks(torch.zeros_like(rows), rows, subject.picture.device)[0]
    feature_mask = inside.long().argmax(0, keepdim=True)
    method = FeatureAblation(_log_probabilities(subject.network))

    def call() -> str:
        method.attribute(
            subject.picture,
            target=TARGET,
            feature_mask=feature_mask,
            perturbations_per_eval=views or 1,
        )
        return ""

    return call


def info_mask(
    subject: Subject,
    views: int | None,
    *,
    engine: str | Engine,
    view: str = "drop",
    **options: Any,
) -> Callable[[], str]:
    method = InfoMask(subject.network)

    def call() -> str:
        infomap = method.score_regions(
            subject.picture,
            target=TARGET,
            view=view,
            regions=subject.windows,
            engine=engine,
            perturbations_per_eval=views,
            **options,
        )
        infomap.attributions()
        return infomap.engine

    return call


def _log_probabilities(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda pictures: torch.log_softmax(network(pictures), dim=1)


def _has_wide_convolutions(subject: Subject) -> bool:
    """Whether Winograd's algorithm has anything to do."""
    return any(
        isinstance(module, nn.Conv2d)
        and (module.kernel_size, module.stride, module.groups) == ((3, 3), (1, 1), 1)
        and module.in_channels >= 128
        for module in subject.network.modules()
    )


def _patch(subject: Subject) -> int | None:
    """A patch's side in pixels, where the network cuts pictures into some."""
    if isinstance(subject.network, VisionTransformer):
        return int(subject.network.patch_size)
    embedding = getattr(subject.network, "patch_embed", None)  # timm's
    return None if embedding is None else int(embedding.patch_size[0])


def _has_tokens(subject: Subject) -> bool:
    return _patch(subject) is not None


def _windows_are_tokens(subject: Subject) -> bool:
    patch = _patch(subject)
    return patch is not None and subject.window % patch == 0 == subject.stride % patch


def contenders(settings: Sequence[int]) -> dict[str, Contender]:
    """All contenders by name; those that cannot choose for themselves try these settings."""
    suits = {"no Winograd": _has_wide_convolutions, "tokens": _has_tokens}
    engines = {
        name: Contender(partial(info_mask, engine=engine), suits=suits.get(name, _any))
        for name, engine in ENGINES.items()
    }
    removing = partial(info_mask, engine="tokens", view="keep", imputer=RemoveTokens())
    return {
        "Occlusion": Contender(_occlusion, settings, per_pass=True),
        "FeatureAblation": Contender(_feature_ablation, settings, per_pass=True),
        "plain": Contender(partial(info_mask, engine=PLAIN), settings, per_pass=True),
        **engines,
        "tokens removed": Contender(removing, suits=_windows_are_tokens),
    }
