# What must hold on a GPU: the CPU's numbers, where results lie, memory, and the generator's state.
# `TEST_DEVICE=cpu` runs these tests where there is none, which tests the tests.
from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from batched_networks import Block
from digit_pictures import save_two_digits
from features_networks import Pooling
from gpu_contenders import tf32_is
from small_net import SmallNet
from state import unchanged
from tiny import Net, images, randomise
from tiny_vits import timm_network, torchvision_network
from torch import Tensor, nn

from captum_infomask import (
    AtLeast,
    Batched,
    Blur,
    ConditionalPatches,
    Constant,
    Incremental,
    InfoMap,
    InfoMask,
    Inpaint,
    LocalMean,
    MarginalPatches,
    NoisyLinear,
    NormalNoise,
    RemoveTokens,
    TopFraction,
    UniformNoise,
    compare,
    estimate_prior,
    fit_critic,
    fit_temperature,
    from_feature_mask,
    from_masks,
    grid,
    keep_dropout,
    load_run,
    measure_bounds,
    run_dataset,
    sliding_windows,
    superpixels,
)
from captum_infomask.engines import batched, verified_copy as copies
from captum_infomask.engines.verified_copy import roundings

DEVICE = torch.device(os.environ.get("TEST_DEVICE", "cuda"))
ON_GPU = DEVICE.type == "cuda"
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="no CUDA device"),
]
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="only a GPU has this")

VIEWS = ["crop", "keep", "drop", "chain", "features", "evidence", "relay"]
DONORS = torch.randn(9, 3, 12, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
CLOSE = 1e-9  # of float64 numbers


@pytest.fixture
def x() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 12, 10, generator=generator, dtype=torch.float64)


@pytest.fixture
def untouched_generator():
    """The GPU's generator is as it was; a test asks for this last, after it has seeded."""
    if not ON_GPU:
        yield
        return
    torch.cuda.manual_seed(5)
    before = torch.cuda.get_rng_state(DEVICE)
    yield
    assert torch.equal(torch.cuda.get_rng_state(DEVICE), before)


def moved(value: Any) -> Any:
    """A copy on the device; modules are copied, as moving them writes to them."""
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).to(DEVICE)
    return value.to(DEVICE) if isinstance(value, Tensor) else value


def lies_there(value: Tensor) -> bool:
    return value.device.type == DEVICE.type


def assert_close(found: Tensor, wanted: Tensor, atol: float = CLOSE) -> None:
    assert lies_there(found)
    assert wanted.nan_to_num().abs().max() > 1e4 * atol
    torch.testing.assert_close(found.cpu(), wanted, atol=atol, rtol=0, equal_nan=True)


def network_for(view: str) -> nn.Module:
    return Pooling().eval() if view == "features" else SmallNet().eval()


# --- the CPU's numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_gives_the_numbers_of_the_cpu(view, x, untouched_generator):
    net = network_for(view)
    options: dict[str, Any] = {"target": [1, 3], "view": view, "seed": 4}
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 3)}
    wanted = InfoMask(net).score_regions(x, **options, **windows)
    there = moved(net)
    with unchanged(there):
        found = InfoMask(there).score_regions(moved(x), **options, **windows)
        attributions = InfoMask(there).attribute(moved(x), **options, **windows)
    assert_close(found.scores, wanted.scores)
    assert_close(found.total, wanted.total)
    assert_close(attributions, wanted.attributions())
    assert_close(found.attributions(), wanted.attributions())


@pytest.mark.parametrize("view", ["evidence", "relay"])
@pytest.mark.parametrize("make", [SmallNet, Pooling, torchvision_network])
def test_maps_from_features_give_the_numbers_of_the_cpu(view, make, untouched_generator):
    net = make().double().eval()
    side = 32 if make is torchvision_network else 12
    generator = torch.Generator().manual_seed(3)
    pictures = torch.randn(2, 3, side, side, generator=generator, dtype=torch.float64)
    options: dict[str, Any] = {"target": [1, 0], "view": view, "sharpen": "superpixels"}
    wanted = InfoMask(net).score_regions(pictures, **options)
    there = moved(net)
    with unchanged(there):
        found = InfoMask(there).score_regions(moved(pictures), **options)
        every = InfoMask(there).score_classes(moved(pictures), classes=[0, 1], view=view)
    assert_close(found.attributions(), wanted.attributions())
    assert_close(found.explained, wanted.explained)
    first = InfoMask(net).score_regions(pictures, target=0, view=view)
    assert_close(every.total[:, 0], first.total)
    assert_close(every.scores[..., 0], first.scores)


@pytest.mark.parametrize("view", ["evidence", "relay"])
@pytest.mark.parametrize("tf32", [True, False])
def test_maps_from_features_are_complete_in_float32(view, tf32):
    net = moved(SmallNet().float().eval())
    pictures = moved(torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(3)))
    with tf32_is(tf32):
        found = InfoMask(net).score_regions(pictures, target=1, view=view)
    off = found.attributions()[:, 0].sum((1, 2)) - found.explained
    assert found.explained.abs().min() > 0.1
    assert off.abs().max() <= (0.01 if tf32 else 1e-3)


@pytest.mark.parametrize("view", ["keep", "drop"])
@pytest.mark.parametrize(
    "imputer",
    [
        Constant(0.3),
        Constant(DONORS[:1]),
        Blur(1.0),
        LocalMean(),
        NormalNoise(),
        UniformNoise(),
        MarginalPatches(DONORS),
        ConditionalPatches(DONORS),
        Inpaint(),
        NoisyLinear(),
    ],
    ids=lambda imputer: type(imputer).__name__,
)
def test_every_imputer_draws_what_it_draws_on_the_cpu(view, imputer, x, untouched_generator):
    net = SmallNet().eval()
    options = {"target": 1, "view": view, "imputer": imputer, "seed": 7}
    options |= {"n_samples": 2} if hasattr(imputer, "draw") else {}
    wanted = InfoMask(net).score_regions(x, regions=grid(x, 3, 2), **options)
    here = moved(x)
    found = InfoMask(moved(net)).score_regions(here, regions=grid(here, 3, 2), **options)
    assert_close(found.scores, wanted.scores, 1e-6)
    if wanted.spread is not None:
        assert_close(found.spread, wanted.spread, 1e-6)


REGIONS: dict[str, Callable[[Tensor], Any]] = {
    "grid": lambda x: grid(x, 3, 2),
    "windows": lambda x: sliding_windows(x, (3, 4, 4), (3, 3, 3)),
    "superpixels": lambda x: superpixels(x.float(), 5),
    "labels": lambda x: from_feature_mask(
        x, torch.arange(120, device=x.device).reshape(12, 10) // 30
    ),
    "masks": lambda x: from_masks(x, torch.stack([x[0, 0] > 0, x[0, 0] <= 0.2, x[0, 1] > 0.5])),
    "two scales": lambda x: [grid(x, 2, 2), grid(x, 3, 2)],
}


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("view", ["drop", "keep"])
def test_every_kind_of_region(name, view, x, untouched_generator):
    net, here = SmallNet().eval(), moved(x)
    options = {"target": 1, "view": view}
    wanted = InfoMask(net).score_regions(x, regions=REGIONS[name](x), **options)
    found = InfoMask(moved(net)).score_regions(here, regions=REGIONS[name](here), **options)
    assert_close(found.scores, wanted.scores)
    assert_close(found.attributions(), wanted.attributions())
    # Regions that were made of pictures elsewhere serve too.
    elsewhere = InfoMask(moved(net)).score_regions(here, regions=REGIONS[name](x), **options)
    assert_close(elsewhere.scores, wanted.scores)


@pytest.mark.parametrize("engine", ["auto", "batched", "incremental", Batched(folded=True)])
@pytest.mark.parametrize("view", ["drop", "keep", "chain"])
def test_every_engine(engine, view, untouched_generator):
    net = Block().double()
    x = images(2, height=32, width=32).double()
    options = {"target": 1, "view": view, "perturbations_per_eval": 16, "n_samples": None}
    options |= {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8)}
    if view == "chain":
        options["n_samples"] = 4
    wanted = InfoMask(net).score_regions(x, engine=Batched(folded=False), **options)
    there, here = moved(net), moved(x)
    with unchanged(there, here):
        found = InfoMask(there).score_regions(here, engine=engine, **options)
    if engine == "incremental":
        assert found.engine == "incremental"
    if ON_GPU and engine == "auto":
        assert found.engine.startswith("batched (operation counts")
    assert_close(found.scores, wanted.scores)


@pytest.mark.parametrize("make", [torchvision_network, timm_network])
@pytest.mark.parametrize("view", ["keep", "drop", "chain"])
def test_tokens_are_removed_as_on_the_cpu(make, view, untouched_generator):
    net = make()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    options = {"target": 1, "view": view, "imputer": RemoveTokens()}
    options |= {"n_samples": 4} if view == "chain" else {}
    wanted = InfoMask(net).score_regions(x, regions=grid(x, 4, 4), **options)
    here = moved(x)
    found = InfoMask(moved(net)).score_regions(here, regions=grid(here, 4, 4), **options)
    assert found.engine == wanted.engine == "tokens"
    assert_close(found.scores, wanted.scores)


@pytest.mark.parametrize(
    "settings",
    [
        {"head": "sigmoid"},
        {"head": "raw", "unit": "nats"},
        {"prior": torch.tensor([0.1, 0.2, 0.3, 0.4])},
        {"prior": torch.tensor([0.1, 0.2, 0.3, 0.4]), "trained_with": "pc_softmax"},
        {"temperature": 2.5},
        {"groups": [[3, 0], [1]]},
        {"groups": [[3, 0], [1]], "prior": torch.tensor([0.1, 0.2, 0.3, 0.4])},
    ],
    ids=str,
)
def test_every_head_and_prior(settings, x, untouched_generator):
    net = SmallNet().eval()
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 3)}
    options = {"target": 1, "view": "drop", **windows}
    wanted = InfoMask(net, **settings).attribute(x, **options)
    assert_close(InfoMask(moved(net), **settings).attribute(moved(x), **options), wanted)


@pytest.mark.parametrize("contrast", [[3, 0], torch.tensor([3, 0]), "runner_up"], ids=str)
def test_a_target_told_from_another_class(contrast, x, untouched_generator):
    net = SmallNet().eval()
    options = {"target": 1, "contrast": contrast, "view": "keep"}
    given = (
        options if not isinstance(contrast, Tensor) else {**options, "contrast": moved(contrast)}
    )
    wanted = InfoMask(net).score_regions(x, regions=grid(x, 2, 2), **options)
    here = moved(x)
    found = InfoMask(moved(net)).score_regions(here, regions=grid(here, 2, 2), **given)
    assert_close(found.scores, wanted.scores)
    assert_close(found.total, wanted.total)
    assert torch.equal(found.contrast, wanted.contrast)


def test_every_class_at_once(x, untouched_generator):
    net, here = SmallNet().eval(), moved(x)
    wanted = InfoMask(net).score_classes(x, view="drop", regions=grid(x, 2, 2))
    found = InfoMask(moved(net)).score_classes(here, view="drop", regions=grid(here, 2, 2))
    assert_close(found.scores, wanted.scores)


# --- what is given, and where results lie ------------------------------------------------------


def test_targets_arguments_and_fills_may_lie_on_either_device(x, untouched_generator):
    net = SmallNet().eval()

    def scaled(pictures: Tensor, scale: Tensor) -> Tensor:
        return network(pictures) * scale

    network, scale = net, torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    options = {"view": "drop", "regions": grid(x, 2, 2)}
    targets, fill = torch.tensor([1, 3]), DONORS[:1]
    wanted = InfoMask(scaled).attribute(x, fill, targets, scale, **options)
    network, here = moved(net), moved(x)
    for place in (torch.device("cpu"), DEVICE):
        found = InfoMask(scaled).attribute(
            here, moved(fill), targets.to(place), moved(scale), **options
        )
        assert_close(found, wanted)


def test_results_lie_where_the_inputs_do_and_files_on_the_cpu(x, tmp_path):
    net, here = moved(SmallNet().eval()), moved(x)
    infomask, regions = InfoMask(net), grid(here, 3, 2)
    infomap = infomask.score_regions(
        here, target=1, view="drop", regions=regions, imputer=UniformNoise(), n_samples=2
    )
    numbers = (infomap.scores, infomap.total, infomap.spread, infomap.attributions())
    assert all(map(lies_there, numbers))
    mask = infomask.mask(here, target=1, view="drop", regions=regions, rule=TopFraction(0.3))
    assert lies_there(mask)
    assert mask.dtype == torch.bool
    assert 0 < int(mask.sum()) < mask.numel()
    assert len(infomap.boxes(TopFraction(0.3))) == len(x)
    moved_back = infomap.cpu()
    assert moved_back.scores.device.type == "cpu"
    torch.testing.assert_close(moved_back.attributions(), infomap.attributions().cpu())
    infomap.save(tmp_path / "map.safetensors")
    again = InfoMap.load(tmp_path / "map.safetensors")
    assert torch.equal(again.scores, infomap.scores.cpu())
    assert torch.equal(again.attributions(), moved_back.attributions())
    figure, _ = infomap.figure()
    assert figure.axes
    assert infomap.content().pictures[0].maps[0].plane.shape == (12, 10)


def test_nothing_is_left_on_the_device(x):
    if not ON_GPU:
        pytest.skip("only a GPU counts its own memory")
    net, here = moved(SmallNet().eval()), moved(x)
    held = []
    for _ in range(4):
        InfoMask(net).attribute(here, target=1, view="drop", regions=grid(here, 3, 2))
        torch.cuda.synchronize()
        held.append(torch.cuda.memory_allocated(DEVICE))
    assert held[-1] == held[1]


# --- seeds and state ---------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["crop", "keep", "drop", "chain"])
def test_a_network_that_draws_is_drawn_by_the_seed(view, untouched_generator):
    net, x = moved(Net()), moved(images())
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4)}

    def scores(seed: int) -> Tensor:
        with keep_dropout(net), told():
            return (
                InfoMask(net)
                .score_regions(x, target=1, view=view, n_samples=4, seed=seed, **windows)
                .scores
            )

    def told() -> AbstractContextManager[Any]:
        """The samples of `chain` are orders: dropout is not meant there."""
        if view != "chain":
            return nullcontext()
        return pytest.warns(UserWarning, match="answers change with the size of chunks")

    first = scores(0)
    torch.rand(3)
    torch.testing.assert_close(scores(0), first, rtol=0, atol=1e-5)
    assert (scores(1) - first).abs().max() > 1e-3


class Interrupted(Net):
    """Raises at its third pass."""

    passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        if self.passes == 3:
            raise RuntimeError("enough")
        return super().forward(x) + 1e-3 * torch.rand_like(x[:, :1, 0, 0])


@pytest.mark.parametrize("view", ["crop", "drop", "chain"])
def test_an_error_leaves_model_pictures_and_generators_as_they_were(view, untouched_generator):
    net, x = moved(Interrupted()), moved(images())
    with unchanged(net, x), pytest.raises(RuntimeError, match="enough"):
        InfoMask(net).attribute(
            x, target=1, view=view, perturbations_per_eval=1, regions=grid(x, 4, 4)
        )


def test_settings_of_precision_are_as_they_were(x):
    def settings() -> tuple[Any, ...]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before, net = settings(), moved(Block())
    InfoMask(net).attribute(
        moved(images()), target=1, view="drop", perturbations_per_eval=2,
        sliding_window_shapes=(3, 2, 2), engine=Batched(autocast=torch.bfloat16),
    )  # fmt: skip
    assert settings() == before
    assert not torch.is_autocast_enabled(DEVICE.type)


# --- reduced precision -------------------------------------------------------------------------


def wide_network() -> nn.Module:
    """Convolutions wide enough for tensor cores and for Winograd's algorithm."""
    torch.manual_seed(2)
    layers: list[nn.Module] = []
    for inside, outside in ((3, 64), (64, 64), (64, 128), (128, 128)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]
    made = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    with torch.no_grad():
        made[-1].weight.normal_()
        made.train()(torch.randn(8, 3, 32, 32))  # batch norms see some pictures
    return made.eval()


@pytest.mark.parametrize("tf32", [True, False])
def test_the_folded_copy_runs_with_and_without_tf32(tf32, monkeypatch, caplog):
    net, x = moved(wide_network()), moved(images(1, height=32, width=32) + 1)
    runs: list[int] = []
    original = copies.FastCopy.__call__

    def counted(self: copies.FastCopy, *inputs: Any) -> Any:
        runs.append(len(inputs[0]))
        return original(self, *inputs)

    monkeypatch.setattr(copies.FastCopy, "__call__", counted)
    monkeypatch.setattr(batched, "WORTH_A_COPY", 0)
    options = {"target": 1, "view": "drop", "perturbations_per_eval": 16}
    windows = {"sliding_window_shapes": (3, 16, 16), "strides": (3, 2, 2)}
    engine = Batched(folded=True)
    with tf32_is(tf32), caplog.at_level(logging.DEBUG, logger="captum_infomask"):
        found = InfoMask(net).attribute(x, engine=engine, **options, **windows)
        allowed = roundings(torch.float32, DEVICE)
    assert "no folded copy" not in caplog.text
    assert sum(runs) > 50  # of 82 views
    runs.clear()
    InfoMask(net).attribute(x, engine="batched", **options, **windows)
    assert bool(runs) != ON_GPU  # where none is made unless it is asked for
    exact = InfoMask(moved(wide_network().double())).attribute(
        x.double(), engine=Batched(folded=False), **options, **windows
    )
    scale = exact.abs().max()
    assert scale > 0.02
    assert (found - exact).abs().max() < (0.2 if tf32 and ON_GPU else 1e-3) * scale
    if ON_GPU:
        assert allowed == (8 * 2**-11 if tf32 else 64 * 2**-24)


def test_bfloat16_autocast_is_near(x):
    net, here = moved(SmallNet(dtype=torch.float32).eval()), moved(x).float()
    options = {"target": 1, "view": "drop", "regions": grid(here, 3, 2)}
    wanted = InfoMask(net).attribute(here, engine=Batched(folded=False), **options)
    found = InfoMask(net).attribute(here, engine=Batched(autocast=torch.bfloat16), **options)
    off, scale = float((found - wanted).abs().max()), float(wanted.abs().max())
    assert found.dtype == torch.float32
    assert 0 < off < 0.05 * scale


# --- memory ------------------------------------------------------------------------------------


class Hungry(nn.Module):
    """Holds so many numbers for each picture while it runs, and notes how many pictures came."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers, self.sizes = numbers, []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        held = x.new_ones(len(x), self.numbers)
        return x.flatten(2).mean(2) - held[:, :1]


@needs_gpu
def test_a_chunk_that_does_not_fit_is_halved_until_it_does():
    torch.cuda.empty_cache()
    x = moved(images(1))
    free = torch.cuda.mem_get_info(DEVICE)[0]
    net = Hungry(numbers=free // 4 // 5)  # a fifth of what is free, for every picture
    options = {"target": 1, "view": "drop", "regions": grid(x, 4, 4)}
    found = InfoMask(net).attribute(x, perturbations_per_eval=16, **options)
    assert net.sizes[:3] == [1, 16, 8]
    assert max(net.sizes[3:]) <= 4
    assert sum(net.sizes[3:]) >= 16
    wanted = InfoMask(Hungry(1)).attribute(x, perturbations_per_eval=1, **options)
    torch.testing.assert_close(found, wanted)
    torch.cuda.empty_cache()


@needs_gpu
def test_where_not_a_single_view_fits_the_error_is_cudas_and_says_so():
    x = moved(images(1))
    net = Hungry(numbers=2 * torch.cuda.mem_get_info(DEVICE)[1] // 4)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        InfoMask(net).attribute(x, target=1, view="drop", regions=grid(x, 4, 4))
    torch.cuda.empty_cache()


# --- the rest of the package -------------------------------------------------------------------


@torch.no_grad()
def loader(net: nn.Module, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Pictures with labels that the network mostly agrees with."""
    pictures = images(24)
    labels = net(pictures).argmax(1)
    labels[::6] = (labels[::6] + 1) % 5
    return [(pictures[k : k + 8].to(device), labels[k : k + 8].to(device)) for k in (0, 8, 16)]


@pytest.mark.parametrize("place", ["cpu", str(DEVICE)])
def test_temperatures_bounds_and_priors_of_batches_on_either_device(place, untouched_generator):
    net = Net()
    batches, here = loader(net, torch.device(place)), loader(net, torch.device("cpu"))
    wanted, found = (fit_temperature(n, b) for n, b in ((net, here), (moved(net), batches)))
    assert float(found) == pytest.approx(float(wanted), rel=1e-3)
    bounds = [measure_bounds(n, b) for n, b in ((net, here), (moved(net), batches))]
    torch.testing.assert_close(
        bounds[1].per_example.cpu(), bounds[0].per_example, rtol=2e-2, atol=2e-2
    )
    assert torch.equal(estimate_prior(batches).cpu(), estimate_prior(here))


def test_a_critic_is_fitted_where_the_network_is(untouched_generator):
    net = moved(Net())
    pictures = [moved(images(16, seed=k)) for k in range(4)]
    with unchanged(net):
        critic = fit_critic(net, pictures, window_shapes=[4], steps=10)
    assert all(map(lies_there, critic.network.parameters()))
    scores = InfoMask(critic).attribute(
        pictures[0], target=1, view="keep", regions=grid(pictures[0], 2, 2)
    )
    assert lies_there(scores)
    assert scores.isfinite().all()


def test_a_comparison_has_every_method_and_its_memory(untouched_generator):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    )  # fmt: skip
    randomise(net)
    x = images(2, height=24, width=24)
    windows = {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8)}
    options: dict[str, Any] = {"target": 1, **windows}
    wanted = compare(net, x, **options)
    there = moved(net)
    with unchanged(there):
        found = compare(there, moved(x), **options)
    assert found.names == wanted.names
    for outcome in found.outcomes:
        assert outcome.errors == ("", "")
        scale = np.abs(wanted[outcome.name].planes).max()
        assert np.abs(outcome.planes - wanted[outcome.name].planes).max() < 0.05 * scale
        assert (outcome.peak_bytes > 0).all() or not ON_GPU


def test_a_run_over_files(tmp_path, untouched_generator):
    save_two_digits(tmp_path / "data", 12)
    settings: dict[str, Any] = {"batch_size": 4, "shard_size": 4, "rule": AtLeast(0.5)}
    settings |= {"sliding_window_shapes": (1, 20, 20), "strides": (1, 8, 8)}
    totals = {}
    for device in ("cpu", str(DEVICE)):
        out = tmp_path / f"on {device.replace(':', ' ')}"
        run_dataset(tmp_path / "data", "two_digits", out, device=device, engine="local", **settings)
        totals[device] = load_run(out).table
    here, there = totals["cpu"], totals[str(DEVICE)]
    assert there.column("error").null_count == 12
    assert there.column("predicted").equals(here.column("predicted"))
    off = np.abs(np.array(there.column("total")) - np.array(here.column("total")))
    assert off.max() < 0.05
    assert np.std(np.array(here.column("total"))) > 0.1 or np.ptp(here.column("total")) > 0


def test_the_incremental_engine_with_and_without_winograd():
    net, x = wide_network().double(), images(1, height=32, width=32).double()
    windows = {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8)}
    wanted = InfoMask(net).attribute(x, target=1, view="drop", engine="batched", **windows)
    for engine in (Incremental(winograd=False), Incremental()):
        found = InfoMask(moved(net)).attribute(
            moved(x), target=1, view="drop", engine=engine, **windows
        )
        assert_close(found, wanted)
