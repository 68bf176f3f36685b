"""What every view promises, whatever it shows: one row a view.

To add a view is to add a row to ``VIEWS``; ``test_every_view_has_a_row`` fails until it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pytest
import torch
from features_networks import Pooling
from refused import refused
from state import unchanged
from tiny import WINDOWS, Counting, Net, images
from torch import Tensor, nn

from captum_infomask import ArgumentError, InfoMask, grid
from captum_infomask.views.choose_view import ViewName

pytestmark = pytest.mark.filterwarnings(
    "ignore:The mask of example:UserWarning", "ignore:The network's answers change"
)


@dataclass(frozen=True)
class Row:
    """What is special about a view.

    Attributes:
        options: Of the call.
        passes: How many of a picture with the four windows, the whole and the blank included.
        traced: It reads a network's own map, and so takes a module and nothing besides pictures.
        hooks: It takes a network that has hooks.
    """

    options: dict[str, Any] = field(default_factory=dict)
    passes: int | None = None
    traced: bool = False
    hooks: bool = True


# One row per view. Orders of a chain: 16 × 3 steps and the one last step that they share.
VIEWS: dict[str, Row] = {
    "crop": Row(passes=4 + 1),
    "keep": Row(passes=4 + 2),
    "drop": Row(passes=4 + 1),
    "chain": Row(passes=16 * 3 + 1 + 2),
    "features": Row(traced=True, hooks=False),
    "evidence": Row(traced=True),
    "relay": Row(traced=True),
}
SHOWN = [name for name, row in VIEWS.items() if not row.traced]
EFFECT = 0.01


def test_every_view_has_a_row() -> None:
    assert list(VIEWS) == list(get_args(ViewName))


def call(view: str, **more: Any) -> dict[str, Any]:
    return {"target": 1, "view": view, **WINDOWS, **VIEWS[view].options, **more}


@pytest.fixture
def net() -> Pooling:
    """A network that every view can read: it ends in a global pooling."""
    return Pooling()


def pictures(n: int = 2) -> Tensor:
    return images(n).double()


# --- forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensor_in_tensor_out(net: Pooling, view: str, dtype: torch.dtype) -> None:
    x = pictures().to(dtype).transpose(2, 3)  # not contiguous
    result = InfoMask(net.to(dtype)).attribute(x, **call(view))
    assert isinstance(result, Tensor)
    assert result.shape == x.shape
    assert result.is_contiguous()
    assert result.dtype == dtype
    assert result.device == x.device
    assert not result.requires_grad
    assert float(result.abs().max()) > EFFECT


@pytest.mark.parametrize("view", VIEWS)
def test_one_tuple_in_one_tuple_out(net: Pooling, view: str) -> None:
    infomask, x = InfoMask(net), pictures()
    likely = net(x).argmax(1)
    (result,) = infomask.attribute((x,), **call(view, target=likely))
    assert torch.equal(result, infomask.attribute(x, **call(view, target=likely)))
    (mask,) = infomask.mask((x,), **call(view, target=likely))
    assert torch.equal(mask, infomask.mask(x, **call(view, target=likely)))
    assert mask.dtype == torch.bool


@pytest.mark.parametrize("view", VIEWS)
def test_region_scores_are_what_is_painted(net: Pooling, view: str) -> None:
    x = pictures()
    options = call(view, regions=grid(x, 2, 2), sliding_window_shapes=None, strides=None)
    infomap = InfoMask(net).score_regions(x, **options)
    painted = infomap.scores.reshape(2, 1, 2, 2).expand(2, 3, 2, 2)
    expected = painted.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(infomap.attributions(), InfoMask(net).attribute(x, **options))
    assert torch.equal(infomap.attributions(), expected)


# --- examples ------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [None, 1, 2, 3])
def test_a_batch_gives_what_its_images_give_alone(net: Pooling, view: str, size: Any) -> None:
    """With a target each, in chunks of any size."""
    infomask, x = InfoMask(net), pictures(5)
    options = call(view, perturbations_per_eval=size)
    together = infomask.attribute(x, **options | {"target": torch.arange(5)})
    alone = [infomask.attribute(x[i : i + 1], **options | {"target": i}) for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-10, rtol=0)
    assert float((together[0] - together[1]).abs().max()) > EFFECT


@pytest.mark.parametrize("view", VIEWS)
def test_any_perturbations_per_eval_gives_the_same(net: Pooling, view: str) -> None:
    x, batches = pictures(), []

    def forward(x: Tensor) -> Tensor:
        batches.append(len(x))
        return net(x)

    results = {}
    for size in (None, 1, np.int64(2), 3, 7, 1000):
        batches.clear()
        infomask = InfoMask(net if VIEWS[view].traced else forward)
        results[size] = infomask.attribute(x, **call(view, perturbations_per_eval=size))
        assert size is None or max(batches, default=0) <= size * len(x)
        assert size != 1 or VIEWS[view].passes in (None, batches.count(2))
    for size, result in results.items():
        torch.testing.assert_close(result, results[None], atol=1e-10, rtol=0, msg=str(size))


@pytest.mark.parametrize("view", SHOWN)
@pytest.mark.parametrize("size", [None, 2, 3])
def test_additional_forward_args_follow_their_example(view: str, size: int | None) -> None:
    net, x = Net(), images(3)
    scale = torch.tensor([[0.5], [1.0], [3.0]])
    constants = (torch.full((4,), 2.0), "a name", None, 7)

    def forward(x: Tensor, scale: Tensor, vector: Tensor, name: str, none: None, k: int) -> Tensor:
        assert (tuple(vector.shape), name, none, k) == ((4,), "a name", None, 7)
        return net(x) * scale * vector[0]

    options = call(view, perturbations_per_eval=size)
    got = InfoMask(forward).attribute(x, additional_forward_args=(scale, *constants), **options)
    for i in range(3):
        factor = 2 * float(scale[i])
        alone = InfoMask(lambda x, f=factor: net(x) * f).attribute(x[i : i + 1], **options)
        torch.testing.assert_close(got[i : i + 1], alone, atol=1e-4, rtol=1e-5)


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_a_shift_of_all_logits_changes_nothing_and_nats_are_bits(net: Pooling, view: str) -> None:
    x = pictures()
    bits = InfoMask(net).score_regions(x, **call(view)).scores
    nats = InfoMask(net, unit="nats").score_regions(x, **call(view)).scores
    torch.testing.assert_close(nats, bits * np.log(2), atol=1e-12, rtol=0)
    with torch.no_grad():
        net.last.bias += 3
    torch.testing.assert_close(
        InfoMask(net).score_regions(x, **call(view)).scores, bits, atol=1e-10, rtol=0
    )
    with torch.no_grad():
        net.last.weight[1] += 0.1
    other = InfoMask(net).score_regions(x, **call(view)).scores
    assert float((other - bits).abs().max()) > 1e-4


@pytest.mark.parametrize("view", VIEWS)
def test_a_call_repeats_to_the_bit_and_classes_are_the_same_call(net: Pooling, view: str) -> None:
    infomask, x = InfoMask(net), pictures()
    first = infomask.score_regions(x, **call(view, seed=5))
    torch.manual_seed(99)
    assert torch.equal(infomask.score_regions(x, **call(view, seed=5)).scores, first.scores)
    options = {name: value for name, value in call(view, seed=5).items() if name != "target"}
    classes = infomask.score_classes(x, classes=[0, 1], **options)
    torch.testing.assert_close(classes.scores[..., 1], first.scores, atol=1e-12, rtol=0)


# --- nothing of the user's is touched ------------------------------------------------------------


class Restless(Pooling):
    """Moves and replaces buffers in training and in evaluation, and caches what it made."""

    error: type[BaseException] = RuntimeError

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("latest", torch.zeros(5, dtype=torch.float64))
        self.cache: Tensor | None = None
        self.until = 10**6

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        if self.cache is None:
            self.cache = torch.ones(5, dtype=torch.float64)
        out = super().forward(x) * self.cache
        self.latest = 0.9 * self.latest + out.detach().mean(0)
        if self.count >= self.until:
            raise self.error("interrupted")
        return out


def prepared(make: Callable[[], Pooling], hooks: bool = True) -> Pooling:
    """A model in the middle of training: frozen parts, gradients, a user's hook, mixed modes."""
    net = make()
    net.train()
    net.body[0].weight.requires_grad_(False)
    net(pictures()).sum().backward()
    if hooks:
        net.last.register_forward_hook(lambda module, inputs, output: None)
    net.body.eval()
    net.body[1].train()  # batch normalisation, whose statistics move
    net.drop.eval()
    return net


def prepared_for(view: str) -> nn.Module:
    """What is traced may not move its buffers, and is read in evaluation."""
    if VIEWS[view].traced:
        return prepared(Pooling, VIEWS[view].hooks).eval()
    return prepared(Restless)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("method", ["attribute", "mask", "score_regions"])
def test_nothing_is_touched(view: str, method: str) -> None:
    net, x = prepared_for(view), pictures()
    with unchanged(net, x):
        getattr(InfoMask(net), method)(x, **call(view))


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_touched_by_what_is_refused(view: str) -> None:
    net, x = prepared_for(view), pictures()
    with unchanged(net, x):
        with pytest.raises(ArgumentError, match="`target`"):
            InfoMask(net).attribute(x, **call(view, target=99))
        with pytest.raises(ArgumentError, match="`perturbations_per_eval`"):
            InfoMask(net).attribute(x, **call(view, perturbations_per_eval=0))


@pytest.mark.parametrize("view", SHOWN)
def test_a_methods_model_is_found(view: str) -> None:
    net, x = prepared(Restless), pictures()
    with unchanged(net, x):
        InfoMask(net.forward).attribute(x, **call(view))


@pytest.mark.parametrize(
    ("view", "error", "at", "show_progress"),
    [
        *((view, RuntimeError, at, at == 4) for view in SHOWN for at in (2, 4)),
        *((view, KeyboardInterrupt, 4, False) for view in SHOWN),
        ("drop", SystemExit, 2, True),
    ],
)
def test_nothing_is_touched_by_an_exception_in_the_middle(
    view: str, error: type[BaseException], at: int, show_progress: bool
) -> None:
    """Views that are traced: tests of features, evidence and relay."""
    net, x = prepared(Restless), pictures()
    net.error = error
    net.until = int(net.count) + at
    options = call(view, perturbations_per_eval=1, show_progress=show_progress)
    with unchanged(net, x), pytest.raises(error, match="interrupted"):
        InfoMask(net).attribute(x, **options)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "inference_mode": torch.inference_mode,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("mode", MODES)
def test_under_a_mode_of_the_users(mode: str, view: str) -> None:
    net, x = prepared_for(view), pictures()
    outside = InfoMask(net).attribute(x, **call(view))
    with MODES[mode](), unchanged(net, x):
        inside = InfoMask(net).attribute(x, **call(view))
    torch.testing.assert_close(inside.clone(), outside, atol=1e-10, rtol=0)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("view", VIEWS)
def test_inputs_that_require_grad(net: Pooling, view: str) -> None:
    x = pictures().requires_grad_()
    result = InfoMask(net).attribute(x, **call(view))
    assert not result.requires_grad
    assert x.grad is None
    assert x.requires_grad
    assert torch.equal(result, InfoMask(net).attribute(x.detach(), **call(view)))


@pytest.mark.parametrize("view", VIEWS)
def test_the_model_can_be_trained_afterwards(view: str) -> None:
    """What the model cached meanwhile must be no inference tensor, which autograd refuses."""
    net, x = (Pooling() if VIEWS[view].traced else Restless()).eval(), pictures()
    result = InfoMask(net).attribute(x, **call(view))
    assert not result.is_inference()
    cache = getattr(net, "cache", None)
    assert VIEWS[view].traced == (cache is None)
    if cache is not None:
        assert not cache.is_inference()
        cache.requires_grad_()
    net.train()(x).logsumexp(1).sum().backward()
    assert net.last.weight.grad.abs().max() > 0
    assert cache is None or cache.grad is not None


# --- what is refused, and what is told -----------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("method", ["attribute", "mask", "score_regions"])
def test_inputs_are_looked_at_before_any_pass(view: str, method: str) -> None:
    net = Pooling().train()  # where one forward pass would already move the running statistics
    forward = net if VIEWS[view].traced else Counting(net)
    ask, x = getattr(InfoMask(forward), method), pictures()
    with unchanged(net, x):
        refused(("`inputs`", "uint8"), lambda: ask(x.byte(), **call(view)))
        refused(("`sliding_window_shapes`", "2 entries"), lambda: ask(x[0], **call(view)))


@pytest.mark.parametrize("view", SHOWN)
@pytest.mark.usefixtures("terminal")
def test_the_progress_bar_counts_pictures(view: str, capsys: pytest.CaptureFixture[str]) -> None:
    net, shown = Pooling(), []

    def forward(x: Tensor) -> Tensor:
        shown.append(len(x))
        return net(x)

    options = call(view, perturbations_per_eval=2, show_progress=True)
    InfoMask(forward).attribute(pictures(), **options)
    printed = capsys.readouterr()
    assert printed.out == ""
    last = printed.err.strip().split("\r")[-1]
    assert last.startswith("Info Mask attribution: 100%")
    assert f" {sum(shown)}/{sum(shown)} " in last


@pytest.mark.parametrize("view", [name for name in VIEWS if name not in SHOWN])
@pytest.mark.usefixtures("terminal")
def test_the_progress_bar_gets_to_its_end(
    net: Pooling, view: str, capsys: pytest.CaptureFixture[str]
) -> None:
    InfoMask(net).attribute(pictures(), **call(view, show_progress=True))
    last = capsys.readouterr().err.strip().split("\r")[-1]
    assert last.startswith("Info Mask attribution: 100%")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("view", VIEWS)
def test_on_an_accelerator(net: Pooling, view: str) -> None:
    expected = InfoMask(net).attribute(pictures(), **call(view, target=[1, 2]))
    random_state = torch.cuda.get_rng_state()
    got = InfoMask(net.cuda()).attribute(pictures().cuda(), **call(view, target=[1, 2]))
    assert got.is_cuda
    torch.testing.assert_close(got.cpu(), expected, atol=1e-2, rtol=1e-2)
    assert torch.equal(torch.cuda.get_rng_state(), random_state)


# --- signals and volumes -------------------------------------------------------------------------


class OtherPlaces(nn.Module):
    """A network of signals or volumes that every view can read."""

    def __init__(self, places: int) -> None:
        super().__init__()
        torch.manual_seed(places)
        convolution, pooling = {
            1: (nn.Conv1d, nn.AdaptiveAvgPool1d),
            3: (nn.Conv3d, nn.AdaptiveAvgPool3d),
        }[places]
        self.layers = nn.Sequential(
            convolution(3, 8, 3, padding=1), nn.ReLU(), pooling(1), nn.Flatten(), nn.Linear(8, 4)
        )
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return 9 * self.layers(x)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("places", [1, 3])
def test_signals_and_volumes_keep_the_promises(view: str, places: int) -> None:
    x = torch.randn(2, 3, *[8] * places, dtype=torch.float64)
    net = OtherPlaces(places)
    options = VIEWS[view].options | {"target": 1, "view": view, "regions": grid(x, *[2] * places)}
    infomask = InfoMask(net)
    infomap = infomask.score_regions(x, **options)
    result = infomask.attribute(x, **options)
    assert result.shape == x.shape
    assert result.is_contiguous()
    assert torch.equal(result, infomap.attributions())
    assert infomap.scores.shape == (2, 2**places)
    for image in range(2):
        alone = infomask.attribute(x[image : image + 1], **options)
        torch.testing.assert_close(result[image : image + 1], alone, atol=1e-10, rtol=0)
    corner = result[(slice(None), 0, *[0] * places)]
    torch.testing.assert_close(corner, infomap.scores[:, 0])
    assert float(result.abs().max()) > EFFECT
    assert len(infomap.boxes()) == 2
    assert infomap.boxes()[0].shape[1] == 2 * places
    by_class = infomask.score_classes(
        x, classes=[0, 1], **{k: v for k, v in options.items() if k != "target"}
    )
    torch.testing.assert_close(by_class.scores[..., 1], infomap.scores)
