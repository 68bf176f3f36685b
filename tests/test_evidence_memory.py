# Memory of the views of features: chunk by chunk, smaller where there is little, and never another
# view in silence.
from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from tiny import Net, images, randomise
from torch import Tensor, nn
from torch.nn import functional as F

from captum_infomask import InfoMask
from captum_infomask.engines import batched, evidence_engine as evidence, relay
from captum_infomask.engines.watched import UnfitError

X = images(7, height=16, width=16)
VIEWS = ("relay", "evidence")
ERRORS = {
    "cuda": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory"),
}


class Little(Net):
    """A network that takes so many pictures at a time while gradients are recorded."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self.most, self.error = most, error

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise self.error
        return super().forward(x)


def little_for(name: str, most: int, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let what shares out a chunk have memory for so many pictures."""
    share = getattr(evidence, name)

    def scarce(replay: Any, start: Tensor, end: Tensor, *given: Any) -> Any:
        if len(end) > most:
            raise error
        return share(replay, start, end, *given)

    monkeypatch.setattr(evidence, name, scarce)


def scored(view: str | None, net: nn.Module, **options: Any) -> Any:
    return InfoMask(net).score_regions(X, target=torch.arange(7) % 5, view=view, **options)


@pytest.fixture
def net() -> nn.Module:
    return Net().eval()


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("view", VIEWS)
def test_smaller_chunks_give_the_same(
    net: nn.Module, view: str, most: int, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = scored(view, net)
    share = {"relay": "relayed", "evidence": "shares_along"}[view]
    little_for(share, most, monkeypatch, error)
    for found in (scored(view, net), scored(view, Little(most, error).eval())):
        assert found.view == view
        for name in ("scores", "total", "explained", "residual"):
            torch.testing.assert_close(getattr(found, name), getattr(wanted, name))
    classes = InfoMask(net).score_classes(X, view=view, top_k=2)
    contrast = scored(view, net, contrast="runner_up")
    monkeypatch.undo()
    torch.testing.assert_close(
        classes.scores, InfoMask(net).score_classes(X, view=view, top_k=2).scores
    )
    torch.testing.assert_close(contrast.scores, scored(view, net, contrast="runner_up").scores)


@pytest.mark.parametrize("view", [None, *VIEWS])
def test_where_no_picture_fits_it_is_the_memory_that_is_named(
    net: nn.Module, view: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("relayed", "shares_along"):
        little_for(name, 0, monkeypatch, ERRORS["cpu"])
    with pytest.raises(RuntimeError, match="Out of memory with a single view"):
        scored(view, net)


@pytest.mark.parametrize("view", VIEWS)
def test_memory_that_ends_in_the_steps_is_no_unfit_network(
    net: nn.Module, view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scarce(*given: Any) -> Any:
        raise ERRORS["cpu"]

    if view == "relay":
        monkeypatch.setattr(relay, "_run", scarce)
    else:
        monkeypatch.setattr("captum_infomask.engines.paths.Path._at", scarce)
    with pytest.raises(RuntimeError, match="Out of memory with a single view"):
        scored(view, net)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("options", [{}, {"contrast": "runner_up"}, {"input_sizes": [12, None]}])
def test_no_chunk_outlives_the_next(
    net: nn.Module, view: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk holds all that the network made of its pictures."""
    made: list[weakref.ref[Any]] = []
    alive: list[int] = []
    whole = evidence.RunningEvidence._chunk

    def watched(self: Any, *given: Any) -> Any:
        alive.append(sum(each() is not None for each in made))
        made.append(weakref.ref(chunk := whole(self, *given)))
        return chunk

    if view == "relay":
        options = {name: value for name, value in options.items() if name != "input_sizes"}
    monkeypatch.setattr(evidence.RunningEvidence, "_chunk", watched)
    monkeypatch.setattr(batched, "default_views", lambda elements, device: 2)
    gc.collect()
    gc.disable()
    try:
        scored(view, net, **options)
    finally:
        gc.enable()
    assert alive == [0] * len(alive)
    assert len(alive) >= (8 if options else 4)


@pytest.mark.parametrize("view", VIEWS)
def test_a_pass_that_failed_is_let_go(net: nn.Module, view: str) -> None:
    """Smaller ones must not run beside what larger ones left."""
    alive: list[weakref.ref[Tensor]] = []

    class Scarce(Net):
        def forward(self, x: Tensor) -> Tensor:
            held = sum(len(each) for each in (one() for one in alive) if each is not None)
            made = torch.relu(self.conv(x))
            alive.append(weakref.ref(made))
            if held + len(x) > 3:
                raise RuntimeError(str(ERRORS["cpu"]))
            return self.head(F.adaptive_avg_pool2d(self.norm(made), 2).flatten(1))

    gc.disable()
    try:
        found = scored(view, Scarce().eval())
    finally:
        gc.enable()
    assert found.view == view
    assert len(alive) > 3


@pytest.mark.parametrize("view", VIEWS)
def test_classes_are_shared_out_some_at_a_time(
    net: nn.Module, view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = randomise(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), 0.1)
    for network in (net, flat):
        wanted = InfoMask(network).score_classes(X, view=view)
        told = InfoMask(network).score_classes(X, view=view, contrast=2)
        for most in (1, 2 * X.numel()):
            monkeypatch.setattr(evidence, "_MOST_NUMBERS", most)
            found = InfoMask(network).score_classes(X, view=view)
            torch.testing.assert_close(found.scores, wanted.scores)
            torch.testing.assert_close(found.stacked.residual, wanted.stacked.residual)
            again = InfoMask(network).score_classes(X, view=view, contrast=2)
            torch.testing.assert_close(again.scores, told.scores)
            monkeypatch.undo()


@pytest.mark.parametrize("view", VIEWS)
def test_more_pictures_than_are_painted_at_a_time(net: nn.Module, view: str) -> None:
    x = images(10, height=16, width=16)
    labels = torch.stack(
        [torch.arange(256).reshape(1, 16, 16) // (16 * (2 + k)) for k in range(10)]
    )
    infomask = InfoMask(net)
    found = infomask.score_regions(x, target=1, view=view, feature_mask=labels)
    for k in range(10):
        own = infomask.score_regions(
            x[k : k + 1], target=1, view=view, feature_mask=labels[k : k + 1]
        )
        has = ~found.scores[k].isnan()
        assert int(has.sum()) == len(own.regions)
        torch.testing.assert_close(found.scores[k, has], own.scores[0], rtol=1e-4, atol=1e-4)


def test_what_cannot_be_had_is_told_alike_in_another_process() -> None:
    error = UnfitError("it draws")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is UnfitError
    assert str(again) == str(error)
