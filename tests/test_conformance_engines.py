"""What every engine promises, however it gets there: one row an engine.

To add an engine is to add a row to ``ENGINES``; ``test_every_engine_has_a_row`` fails until it is
there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch
from batched_networks import Block
from incremental_views import passes_of, through
from refused import refused
from state import unchanged
from tiny_vits import torchvision_network
from torch import Tensor, nn

import captum_infomask
from captum_infomask import (
    Batched,
    Constant,
    Incremental,
    InfoMask,
    RemoveTokens,
    Tokens,
    from_feature_mask,
    sliding_windows,
)
from captum_infomask.engines.choose_engine import EngineName
from captum_infomask.engines.engine_protocol import Engine


@dataclass(frozen=True)
class Row:
    """What is special about an engine.

    Attributes:
        engine: Its settings, for those that are classes.
        network: A network that it can run without standing aside.
        imputer: What hides.
        ran: The beginning of what an InfoMap says of it.
        layer: One that may fail, which the engine asks itself.
    """

    engine: Engine | None
    network: Callable[[], nn.Module]
    imputer: Any
    ran: str
    layer: str = "head"


def convolutions() -> nn.Module:
    return Block().double()


BLOCK = "encoder.layers.encoder_layer_1"
ENGINES: dict[str, Row] = {
    "auto": Row(None, convolutions, Constant(0.3), ""),
    "batched": Row(Batched(), convolutions, Constant(0.3), "batched"),
    "incremental": Row(Incremental(), convolutions, Constant(0.3), "incremental"),
    "tokens": Row(
        Tokens(),
        torchvision_network,
        RemoveTokens(),
        "tokens",
        BLOCK + ".mlp",
    ),
}
VIEWS = ("keep", "drop", "chain")
EXACT = {"rtol": 0, "atol": 1e-10}
each = pytest.mark.parametrize("name", ENGINES)
each_view = pytest.mark.parametrize("view", VIEWS)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 32, 32, dtype=torch.float64)


def options(name: str, x: Tensor, view: str, **more: Any) -> dict[str, Any]:
    regions = sliding_windows(x, (3, 16, 8), (3, 8, 8))
    given = {"view": view, "regions": regions, "imputer": ENGINES[name].imputer, "engine": name}
    return given | {"n_samples": 4 if view == "chain" else None} | more


def test_every_engine_has_a_row() -> None:
    assert list(ENGINES) == list(get_args(EngineName))
    kinds = {
        kind
        for kind in map(captum_infomask.__dict__.get, captum_infomask.__all__)
        if isinstance(kind, type) and issubclass(kind, Engine)
    }
    assert {type(row.engine) for row in ENGINES.values() if row.engine} == kinds


@each_view
@each
def test_every_view_comes_once_and_is_what_the_network_says_of_it_alone(
    name: str, view: str, x: Tensor
) -> None:
    """Whatever the chunk; tests/test_engine.py, test_incremental.py, test_tokens.py: literally."""
    net, found = ENGINES[name].network(), {}
    for size in (1, 3, 1000, None):
        given = options(name, x, view, perturbations_per_eval=size)
        passes = passes_of(net, x, **{**given, "engine": ENGINES[name].engine or name})
        found[size] = through(passes.engine, passes.plan)
    assert found[1].std(0).min() > 1e-3
    for size, outputs in found.items():
        torch.testing.assert_close(outputs, found[1], **EXACT, msg=str(size))


@each_view
@each
def test_a_batch_gives_what_its_images_give_alone(name: str, view: str, x: Tensor) -> None:
    infomask = InfoMask(ENGINES[name].network())
    given = options(name, x, view)
    together = infomask.score_regions(x, target=[1, 3], **given)
    assert together.engine.startswith(ENGINES[name].ran)
    assert together.scores.std() > 1e-3
    for i, target in enumerate((1, 3)):
        alone = infomask.score_regions(x[i : i + 1], target=target, **given)
        torch.testing.assert_close(together.scores[i : i + 1], alone.scores, **EXACT)


@each
def test_a_name_is_its_settings(name: str, x: Tensor) -> None:
    row = ENGINES[name]
    if row.engine is None:
        return
    assert isinstance(row.engine, Engine)
    assert eval(repr(row.engine), vars(captum_infomask)) == row.engine
    infomask, given = InfoMask(row.network()), options(name, x, "drop")
    wanted = infomask.score_regions(x, target=1, **given)
    found = infomask.score_regions(x, target=1, **given | {"engine": row.engine})
    assert torch.equal(found.scores, wanted.scores)
    assert found.engine == wanted.engine


@each
def test_drop_of_a_region_is_keep_of_the_rest(name: str, x: Tensor) -> None:
    """i(y; x_R | rest) = i(y; x) − i(y; x_rest): drop(R) + keep(rest) = i(y; x) − i(y; blank)."""
    labels = torch.zeros(1, 1, 32, 32, dtype=torch.long)
    labels[..., 8:24, 8:16] = 1
    infomask, given = InfoMask(ENGINES[name].network()), options(name, x, "drop")
    given["regions"] = from_feature_mask(x, labels)
    drop = infomask.score_regions(x, target=2, **given)
    keep = infomask.score_regions(x, target=2, **given | {"view": "keep"})
    whole = drop.total - keep.blank[:, 0]
    torch.testing.assert_close(drop.scores + keep.scores.flip(1), whole[:, None].expand(-1, 2))
    assert float(drop.scores.abs().min()) > 1e-4


class Interrupted(nn.Module):
    """A layer that fails when it has been asked so often."""

    def __init__(self, layer: nn.Module, error: BaseException, after: int) -> None:
        super().__init__()
        self.layer, self.error, self.left = layer, error, after
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.layer(x)


@each_view
@each
def test_nothing_of_the_network_is_touched(name: str, view: str, x: Tensor) -> None:
    net = ENGINES[name].network()
    next(net.parameters()).requires_grad_(False)
    given = options(name, x, view, perturbations_per_eval=2)
    with unchanged(net, x):
        InfoMask(net).attribute(x, target=1, **given)
        refused(("`target`",), lambda: InfoMask(net).attribute(x, target=99, **given))


@each
@pytest.mark.parametrize("error", [RuntimeError("in the middle"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [0, 1])
def test_nothing_of_the_network_is_touched_when_it_fails(
    name: str, error: BaseException, after: int, x: Tensor
) -> None:
    net = ENGINES[name].network()
    holder, _, layer = ENGINES[name].layer.rpartition(".")
    part = net.get_submodule(holder)
    setattr(part, layer, Interrupted(getattr(part, layer), error, after))
    given = options(name, x, "drop", perturbations_per_eval=1)
    with unchanged(net, x), pytest.raises(type(error)):
        InfoMask(net).attribute(x, target=1, **given)


@pytest.mark.parametrize("given", ["batchd", 3, None, Batched])
def test_what_is_no_engine_is_refused(given: Any, x: Tensor) -> None:
    names = ("`engine`", *get_args(EngineName))
    refused(names, lambda: InfoMask(convolutions()).attribute(x, target=1, engine=given))
