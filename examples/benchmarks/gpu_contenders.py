# What is timed on a GPU: Captum's methods and InfoMask's, in every precision and layout.
from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from captum.attr import IntegratedGradients
from contenders import PLAIN, Contender, contenders, info_mask
from subjects import TARGET, Subject
from torch import Tensor, nn

from captum_infomask import InfoMask
from captum_infomask._errors import ArgumentError
from captum_infomask.comparison.gradcam_layers import layer_map
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.engine_protocol import Engine
from captum_infomask.evaluation.method_calls import Attribute, grad_cam

BFLOAT16 = Batched(autocast=torch.bfloat16)


@contextmanager
def tf32_is(allowed: bool) -> Iterator[None]:
    """Whether float32 products of matrices and convolutions may run in TF32 on a GPU."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class Autocast(nn.Module):
    """A network under autocast in bfloat16, read in float32: what a user of Occlusion writes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.network(x).float()


def channels_last(network: nn.Module) -> nn.Module:
    """A copy with its weights in channels-last order."""
    return copy.deepcopy(network).to(memory_format=torch.channels_last)


def half(network: nn.Module) -> nn.Module:
    """A copy in channels-last order that runs under autocast."""
    return Autocast(channels_last(network))


@dataclass(frozen=True)
class Row:
    """A line of a table: what scores the windows, of which network, in which precision.

    Attributes:
        contender: What scores the windows.
        tf32: Whether float32 products may run in TF32.
        network: What stands for the subject's network; that network itself if None.
    """

    contender: Contender
    tf32: bool = True
    network: nn.Module | None = None

    @property
    def settings(self) -> Sequence[int | None]:
        """Views in a forward pass that are tried."""
        return self.contender.settings

    def call(self, subject: Subject, views: int | None) -> Callable[[], str]:
        """A function that scores all the subject's windows."""
        network = subject.network if self.network is None else self.network
        score = self.contender.call(replace(subject, network=network), views)

        def call() -> str:
            with tf32_is(self.tf32):
                return score()

        return call


def eager_rows(sizes: Sequence[int], subject: Subject) -> dict[str, Row]:
    """The lines of the table of speed; the others are held against the first.

    Args:
        sizes: Views in a forward pass that are tried where a method cannot choose.
        subject: What is scored.
    """
    known = contenders(sizes)
    occlusion, batched = known["Occlusion"], known["batched"]
    wide, narrow = channels_last(subject.network), half(subject.network)
    found = {
        "Occlusion, float32": Row(occlusion, tf32=False),
        "Occlusion, TF32": Row(occlusion),
        "Occlusion, TF32, channels last": Row(occlusion, network=wide),
        "Occlusion, bfloat16, channels last": Row(occlusion, network=narrow),
        "plain, TF32, channels last": Row(_engine(PLAIN, sizes), network=wide),
        "batched, float32": Row(batched, tf32=False),
        "batched, TF32": Row(batched),
        "batched, TF32, at its best chunk": Row(_engine("batched", sizes)),
        "batched, bfloat16, channels last": Row(_engine(BFLOAT16), network=wide),
        "folded copy, TF32": Row(_engine(Batched(folded=True))),
        "incremental, float32": Row(known["incremental"], tf32=False),
        "incremental, TF32": Row(known["incremental"]),
        "no Winograd, TF32": Row(known["no Winograd"]),
        "auto, TF32": Row(known["auto"]),
        "tokens, TF32": Row(known["tokens"]),
        "tokens removed, TF32": Row(known["tokens removed"]),
    }
    return {name: row for name, row in found.items() if row.contender.suits(subject)}


def compiled_rows(sizes: Sequence[int], subject: Subject, backend: str) -> dict[str, Row]:
    """The lines of the table with `torch.compile`; the others are held against the first."""
    occlusion = contenders(sizes)["Occlusion"]
    network, narrow = (
        torch.compile(copy.deepcopy(made), backend=backend)
        for made in (subject.network, half(subject.network))
    )
    one = sizes[-1:]
    found = {
        "Occlusion, TF32": Row(replace(occlusion, settings=one)),
        "Occlusion, TF32, compiled": Row(replace(occlusion, settings=one), network=network),
        "Occlusion, bfloat16, compiled": Row(replace(occlusion, settings=one), network=narrow),
        "plain, TF32, compiled": Row(_engine(PLAIN, one), network=network),
        "batched, TF32": Row(_engine("batched")),
        "batched, bfloat16": Row(_engine(BFLOAT16), network=channels_last(subject.network)),
        "incremental, TF32": Row(_engine("incremental")),
    }
    return {name: row for name, row in found.items() if row.contender.suits(subject)}


def map_rows(subject: Subject) -> dict[str, Row]:
    """The lines of the table of maps from features and gradients, all but one in float32."""
    found = {
        "forward pass": _map(_forward),
        "integrated gradients, 32 points": _map(_integrated_gradients),
        "evidence": _map(partial(_info_mask, view="evidence")),
        "relay": _map(partial(_info_mask, view="relay")),
        "relay, TF32": _map(partial(_info_mask, view="relay"), tf32=True),
        "relay, superpixels": _map(partial(_info_mask, view="relay", sharpen="superpixels")),
    }
    try:
        layer = layer_map(subject.network, subject.picture)
    except ArgumentError:  # tokens have no map that Captum's method could read
        return found
    method = grad_cam(layer.module, channels_last=layer.channels_last)
    return {"Grad-CAM": _map(partial(_grad_cam, method)), **found}


def _map(method: Callable[[Subject], None], *, tf32: bool = False) -> Row:
    def make(subject: Subject, views: int | None) -> Callable[[], str]:
        def call() -> str:
            method(subject)
            return ""

        return call

    return Row(Contender(make), tf32=tf32)


def _forward(subject: Subject) -> None:
    with torch.no_grad():
        subject.network(subject.picture)


def _grad_cam(method: Attribute, subject: Subject) -> None:
    method(subject.network, subject.picture, TARGET, False)


def _integrated_gradients(subject: Subject) -> None:
    IntegratedGradients(subject.network).attribute(subject.picture, target=TARGET, n_steps=32)


def _info_mask(subject: Subject, **settings: Any) -> None:
    InfoMask(subject.network).attribute(subject.picture, target=TARGET, **settings)


def _engine(engine: str | Engine, sizes: Sequence[int | None] = (None,)) -> Contender:
    return Contender(partial(info_mask, engine=engine), sizes)
