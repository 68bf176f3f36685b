# Networks that draw in their own ways: the numbers are those they give by themselves, by the seed.
from __future__ import annotations

import cProfile
import gc
import multiprocessing
import random
import sys
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from run_samples import run_tiny, save_pictures, tiny
from state import unchanged
from tiny import VIEWS, Net, images
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchvision.models import VisionTransformer

from captum_infomask import ArgumentError, InfoMask, compare, grid
from captum_infomask._process import numbers_of_libraries
from captum_infomask._random import LibraryDraws, OwnGenerators
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.traced_network import StandsAside

# PyTorch 2.4's checkpoints.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.cpu.amp.autocast")


def by_seed() -> Tensor:
    torch.manual_seed(7)
    return torch.cat([torch.rand(3), torch.randn(4)])


def in_a_fork() -> Tensor:
    before = torch.rand(2)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        inside = torch.rand(2)
    return torch.cat([before, inside, torch.rand(2)])


def twice_the_same_state() -> Tensor:
    state = torch.get_rng_state()
    first = torch.rand(2)
    torch.set_rng_state(state)
    return torch.cat([first, torch.rand(2)])


def of_the_global_generator() -> Tensor:
    torch.default_generator.manual_seed(torch.initial_seed() + 1)
    return torch.rand(2, generator=torch.default_generator)


def after_a_refused_state() -> Tensor:
    with pytest.raises(RuntimeError):
        torch.set_rng_state(torch.zeros(3, dtype=torch.uint8))
    return torch.rand(2)


def checkpointed() -> Tensor:
    x = torch.ones(64, requires_grad=True)
    y = checkpoint(lambda x: F.dropout(x * x, 0.5, True), x, use_reentrant=False)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    return torch.stack([y.detach(), gradient])


SEEDING = [
    by_seed, in_a_fork, twice_the_same_state, of_the_global_generator, after_a_refused_state,
    checkpointed,
]  # fmt: skip


@pytest.mark.parametrize("users", [5, 7])  # the seed of the call, of the network
@pytest.mark.parametrize("draw", SEEDING)
def test_seeds_that_a_network_sets_are_followed(draw: Callable[[], Tensor], users: int) -> None:
    torch.manual_seed(5)
    want = [draw() for _ in range(3)]
    torch.manual_seed(users)
    before = torch.get_rng_state()
    with torch.enable_grad(), OwnGenerators(5):
        found = [draw() for _ in range(3)]
    assert torch.equal(torch.stack(found), torch.stack(want))
    assert torch.equal(torch.get_rng_state(), before)


class Seeding(Net):
    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(11)
        return super().forward(x + torch.randn_like(x))


@pytest.mark.parametrize("engine", ["batched", "auto"])
@pytest.mark.parametrize("users", [0, 11])
def test_a_network_that_seeds_by_itself_gives_its_own_bits(users: int, engine: str) -> None:
    net, x = Seeding().eval(), images(1)
    want = net(x).log_softmax(1)[0, 1] / np.log(2) + np.log2(5)
    torch.manual_seed(users)
    with unchanged(net, x):
        found = InfoMask(net).score_regions(
            x, target=1, view="drop", regions=grid(x, 2, 2), engine=engine, seed=3
        )
    torch.testing.assert_close(found.total[0], want.detach())


class Checkpointed(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(
            checkpoint(lambda x: F.dropout(x, 0.5, True), x, use_reentrant=False)
        )


def test_gradients_through_checkpoints_are_those_of_the_draws_that_were_made() -> None:
    net, x = Checkpointed().eval(), images(1)
    torch.manual_seed(0)
    want = Saliency(net).attribute(x.clone().requires_grad_(), target=1)
    torch.manual_seed(1)
    with unchanged(net, x):
        found = compare(net, x, 1, methods={"Saliency": Saliency(net)}, metrics=[])
    np.testing.assert_allclose(found.outcomes[0].planes[0], want.mean(1)[0].float(), rtol=1e-5)


def test_another_thread_draws_its_own_numbers_after_a_network_seeded() -> None:
    torch.manual_seed(3)
    want = [torch.rand(2) for _ in range(4)]
    torch.manual_seed(3)
    with ThreadPoolExecutor(1) as pool, OwnGenerators(0):
        found = []
        for draw in SEEDING[:4]:
            draw()
            found.append(pool.submit(torch.rand, 2).result())
    assert torch.equal(torch.stack(found), torch.stack(want))


def test_a_profiler_of_the_users_goes_on() -> None:
    seen = []

    def profile(frame: Any, event: str, argument: Any) -> None:
        seen.append(event)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        with OwnGenerators(0), OwnGenerators(1):
            inside = sys.getprofile()
            torch.rand(1)
        after = sys.getprofile()
    finally:
        sys.setprofile(before)
    assert inside is after is profile
    assert "c_call" in seen
    sys.setprofile(profile)
    with OwnGenerators(0):
        sys.setprofile(before)  # it ends inside
    assert sys.getprofile() is before
    with OwnGenerators(0), OwnGenerators(1):
        assert sys.getprofile() is not before
    assert sys.getprofile() is before
    with cProfile.Profile() as profiler:
        InfoMask(Net()).attribute(images(1), target=1, view="drop")
    assert any(entry.callcount for entry in profiler.getstats())


def test_forked_workers_are_not_watched() -> None:
    def work() -> None:
        torch.manual_seed(3)
        assert sys.getprofile() is None
        assert torch.initial_seed() == 3

    with OwnGenerators(0):
        worker = multiprocessing.get_context("fork").Process(target=work)
        worker.start()
        worker.join(60)
    assert worker.exitcode == 0


q = torch.rand(3, 2, 8)
_attention = nn.MultiheadAttention(8, 2, dropout=0.5)
_lstm = nn.LSTM(8, 8, 2, dropout=0.5)


@cache
def scripted() -> Callable[[Tensor], Tensor]:
    def draw(x: Tensor) -> Tensor:
        return torch.nn.functional.dropout(x, 0.5, True) + torch.rand_like(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(draw)


def nested() -> Tensor:
    made = torch.nested.nested_tensor([torch.ones(4, 3), torch.ones(2, 3)])
    return F.dropout(made, 0.5, True).to_padded_tensor(0)


WITHOUT_A_GENERATOR: dict[str, Callable[[], Tensor]] = {
    "rand out=": lambda: torch.rand(3, 4, out=torch.empty(0)),
    "randn out=": lambda: torch.randn(3, 4, out=torch.empty(0)),
    "randint out=": lambda: torch.randint(9, (5,), out=torch.empty(0, dtype=torch.long)),
    "randint low out=": lambda: torch.randint(3, 9, (5,), out=torch.empty(0, dtype=torch.long)),
    "randperm out=": lambda: torch.randperm(9, out=torch.empty(0, dtype=torch.long)),
    "normal out=": lambda: torch.normal(0.0, 1.0, (3,), out=torch.empty(0)),
    "rand_like": lambda: torch.rand_like(q.transpose(0, 1)),
    "randn_like": lambda: torch.randn_like(q, dtype=torch.float64),
    "randint_like": lambda: torch.randint_like(q, 9),
    "randint_like low": lambda: torch.randint_like(q, 3, 9),
    "native_dropout": lambda: torch.native_dropout(q, 0.3, True)[0],
    "dropout": lambda: F.dropout(q, 0.3, True),
    "dropout inplace": lambda: F.dropout(q.clone(), 0.3, True, inplace=True),
    "dropout2d": lambda: F.dropout2d(q[None], 0.3, True),
    "alpha_dropout": lambda: F.alpha_dropout(q, 0.3, True),
    "feature_alpha_dropout": lambda: F.feature_alpha_dropout(q[None], 0.3, True),
    "rrelu": lambda: F.rrelu(-q, 0.1, 0.3, True),
    "nested dropout": nested,
    "attention": lambda: _attention(q, q, q)[0],
    "scaled_dot_product_attention": lambda: F.scaled_dot_product_attention(q, q, q, dropout_p=0.5),
    "lstm": lambda: _lstm(q)[0],
    "scripted": lambda: scripted()(q),
    "linear": lambda: F.linear(torch.rand(2, 3), torch.ones(4, 3)),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("name", WITHOUT_A_GENERATOR)
def test_operations_without_a_generator_borrow_none(
    name: str, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = WITHOUT_A_GENERATOR[name]
    borrowed: list[Any] = []
    monkeypatch.setattr(OwnGenerators, "_borrowed", lambda self, device: borrowed.append(device))
    with mode():
        torch.manual_seed(5)
        want = [draw() for _ in range(3)]
        torch.manual_seed(6)
        before = torch.get_rng_state()
        with OwnGenerators(5) as generators:
            found = [draw() for _ in range(3)]
    for a, b in zip(found, want, strict=True):
        assert torch.equal(a, b)
        assert (a.dtype, a.stride()) == (b.dtype, b.stride())
    assert not torch.equal(want[0], want[1])
    assert generators.drew
    assert borrowed == []
    assert torch.equal(torch.get_rng_state(), before)


def test_of_blocks_in_blocks_the_inner_one_lends_its_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("captum_infomask._random._made_of_others", lambda func, args: None)
    ones, dropout = torch.ones(64), torch.ops.aten.native_dropout
    with OwnGenerators(6):
        want = dropout(ones, 0.5, True)[0]
    with OwnGenerators(5):
        then = torch.rand(3)
    before = torch.get_rng_state()
    with OwnGenerators(5) as outer:
        with OwnGenerators(6) as inner:
            found = dropout(ones, 0.5, True)[0]
        assert torch.equal(torch.rand(3), then)
    assert torch.equal(found, want)
    assert 0 < float(found.sum()) < 128
    assert outer.drew
    assert inner.drew
    assert torch.equal(torch.get_rng_state(), before)


def test_attention_in_blocks_in_blocks_draws_nothing() -> None:
    q = torch.rand(1, 2, 4, 8)
    with OwnGenerators(1) as outer, OwnGenerators(2) as inner:
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)
    assert not outer.drew
    assert not inner.drew


@pytest.mark.parametrize("method", ["InfoMask", "InfoMask evidence", "InfoMask crop"])
def test_a_comparison_of_a_vision_transformer_ends(method: str) -> None:
    torch.manual_seed(0)
    net = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5).eval()
    nn.init.normal_(net.heads.head.weight)
    found = compare(net, torch.rand(1, 3, 32, 32), 1, methods=[method], metrics=[])
    assert found[method].error == ""


def test_a_network_with_a_generator_of_its_own_is_not_traced() -> None:
    own = torch.Generator()
    with pytest.raises(StandsAside, match="random numbers"), Call(Net()).drawing_nothing():
        torch.rand(2, generator=own)


class Drawing(Net):
    """Draws by a library's global generator."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(1 + self.draw()))  # also writes to what it is given


LIBRARIES: dict[str, Callable[[], float]] = {
    "numpy": lambda: np.random.normal(0, 1),
    "python": lambda: random.uniform(0, 1),
    "python gauss": lambda: random.gauss(0, 1),
    "both": lambda: np.random.rand() * random.random(),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("library", ["numpy", "python gauss", "both"])
def test_draws_by_numpy_and_python_are_by_the_seed_and_put_back(library: str, view: str) -> None:
    net, x = Drawing(LIBRARIES[library]).eval(), images(1)

    def bits(seed: int, engine: str = "auto") -> Tensor:
        return InfoMask(net).attribute(
            x, target=1, view=view, regions=grid(x, 1, 3), seed=seed, engine=engine,
            perturbations_per_eval=1,
        )  # fmt: skip

    with unchanged(net, x):
        want = bits(3)
    random.seed(1), np.random.seed(1)
    with unchanged(net, x):
        assert torch.equal(bits(3), want)
        assert torch.equal(bits(3, "batched"), want)
        assert not torch.equal(bits(4), want)


def test_the_first_pass_draws_from_the_beginning_of_the_seed() -> None:
    net, x = Drawing(LIBRARIES["numpy"]).eval(), images(1)
    with numbers_of_libraries(3):
        want = net(x.clone()).log_softmax(1)[0, 1].detach() / np.log(2) + np.log2(5)
    found = InfoMask(net).score_regions(x, target=1, regions=grid(x, 2, 2), seed=3)
    torch.testing.assert_close(found.total[0], want)


@pytest.mark.parametrize("library", ["numpy", "python"])
def test_a_network_that_draws_by_a_library_is_not_traced(library: str) -> None:
    net, x = Drawing(LIBRARIES[library]).eval(), images(1)
    options = {"target": 1, "view": "drop", "regions": grid(x, 2, 2), "engine": "incremental"}
    found = InfoMask(net).score_regions(x, **options)
    assert "draws random numbers" in found.engine


@pytest.mark.parametrize("library", ["numpy", "python"])
def test_classes_and_comparisons_put_the_libraries_generators_back(library: str) -> None:
    net, x = Drawing(LIBRARIES[library]).eval(), images(1)

    def outcome() -> list[Any]:
        maps = InfoMask(net).score_classes(x, regions=grid(x, 2, 2))
        methods = {"Saliency": Saliency(net), "bits": InfoMask(net)}
        made = compare(net, x, 1, methods=methods, metrics=["deletion"])
        return [maps.scores.numpy(), *(one.planes for one in made.outcomes)]

    with unchanged(net, x):
        first = outcome()
    random.seed(2), np.random.seed(2)
    with unchanged(net, x):
        for own, other in zip(outcome(), first, strict=True):
            np.testing.assert_array_equal(own, other)


def test_what_another_thread_draws_by_a_library_is_let_be() -> None:
    states = []

    def others() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: np.random.rand(len(states) + 1)).result()
            states.append(np.random.get_state()[1:3])

    draws = LibraryDraws(0, OwnGenerators(0))
    np.random.seed(1)
    assert draws.run(lambda: others() or 5) == 5
    assert not draws.found
    assert np.random.get_state()[2] == 2
    count = len(states)
    assert draws.run(lambda: others() or 6) == 6
    assert len(states) == count + 1


@pytest.mark.filterwarnings("ignore:The network's answers change")
@pytest.mark.parametrize("passes", [1, 2, 5])
def test_numbers_are_the_same_where_another_thread_draws_by_a_library(passes: int) -> None:
    """It draws during the first passes, so that the network was thought to draw."""
    x, told = images(1), []

    def other() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(np.random.rand).result()

    class Watched(Net):
        def forward(self, x: Tensor) -> Tensor:
            told.append(1)
            if len(told) <= passes:
                other()
            return super().forward(x)

    def bits(net: nn.Module) -> Tensor:
        return InfoMask(net).attribute(x, target=1, view="drop", regions=grid(x, 3, 3), seed=2)

    assert torch.equal(bits(Watched().train()), bits(Net().train()))
    told.clear()
    assert torch.equal(bits(Watched().eval()), bits(Net().eval()))


@pytest.mark.parametrize("view", [None, *VIEWS, "features", "evidence", "relay"])
def test_a_first_pass_that_raises_leaves_the_libraries_generators(view: str | None) -> None:
    class Raising(Net):
        def forward(self, x: Tensor) -> Tensor:
            np.random.rand(), random.random()
            raise ValueError("no such picture")

    net, x = Raising().eval(), images(1)
    with unchanged(net, x), pytest.raises((ValueError, RuntimeError)):
        InfoMask(net).attribute(x, target=1, view=view)


def test_a_network_without_pooled_features_leaves_the_libraries_generators() -> None:
    net, x = Drawing(LIBRARIES["both"]).eval(), images(1)
    with unchanged(net, x), pytest.raises(ArgumentError, match="global average pooling"):
        InfoMask(net).attribute(x, target=1, view="features")


def test_an_error_of_a_pass_is_let_go() -> None:
    class KnownError(ValueError):
        def __init__(self) -> None:
            known.append(weakref.ref(self))

    draws, known = LibraryDraws(0, OwnGenerators(0)), []

    def failing() -> None:
        raise KnownError

    gc.disable()
    try:
        with suppress(KnownError):
            draws.run(failing)
        assert known[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("target", ["prediction", "label"])
def test_runs_over_data_sets_put_the_libraries_generators_back(tmp_path: Path, target: str) -> None:
    save_pictures(tmp_path / "in", 2, folders=("bee",))
    net = Drawing(LIBRARIES["numpy"]).eval()
    runs = []
    for number in range(2):
        np.random.seed(number)
        with unchanged(net):
            made = run_tiny(tmp_path / "in", tmp_path / str(number), tiny(net), target=target)
        runs.append(made)
    assert torch.equal(runs[0]["bee/000.png"].scores, runs[1]["bee/000.png"].scores)
