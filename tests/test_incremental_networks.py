# Random networks, pictures, regions and chunks: every view against the network itself, in float64.
import pytest
import torch
from hypothesis import HealthCheck, assume, given, note, settings, strategies as st
from incremental_layers import networks
from incremental_networks import DTYPE, sizes_are_traced
from incremental_views import literal, passes_of, through

from captum_infomask import Blur, Constant, Inpaint, from_feature_mask, grid, sliding_windows

EXACT = 1e-10


SIDES = {1: st.integers(12, 90), 2: st.integers(7, 24), 3: st.integers(5, 12)}


@st.composite
def inputs(draw, dims):
    n, c = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 3]))
    shape = (n, c, *(draw(SIDES[dims]) for _ in range(dims)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    return torch.randn(shape, generator=generator, dtype=DTYPE) + 0.3


@st.composite
def regions(draw, x):
    kinds = ["windows", "windows", "labels", "labels each", "places"]
    kind = draw(st.sampled_from([*kinds, "grid"] if x.dim() == 4 else kinds))
    sides = x.shape[2:]
    if kind == "windows":
        size = tuple(draw(st.integers(1, 4) | st.integers(1, n)) for n in sides)
        steps = tuple(draw(st.integers(-(-length // 2), length)) for length in size)
        channels = draw(st.sampled_from([x.shape[1], x.shape[1], 1]))
        return sliding_windows(x, (channels, *size), (channels, *steps))
    if kind == "grid":
        return grid(x, draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    shape = (len(x) if kind == "labels each" else 1, 1, *sides)
    seed = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    labels = torch.randint(0, draw(st.integers(2, 6)), shape, generator=seed)
    if kind == "places":
        labels = torch.randperm(sides.numel(), generator=seed).reshape(shape).clamp(max=4)
    return from_feature_mask(x, labels)


def check(data, dims):
    """Draw a call, and compare every view with the network's own answer."""
    x = data.draw(inputs(dims))
    net = data.draw(networks(x.shape))
    made = data.draw(regions(x))
    view = data.draw(st.sampled_from(["drop", "drop", "keep", "chain"]))
    imputers = [Constant(0.0), Constant(-x[:1].flip(2)), Constant(1 - x.flip(-1))]
    if dims == 2:
        imputers += [Blur(1.5), *([Inpaint()] if view == "drop" else [])]
    passes = passes_of(
        net, x, view=view, regions=made, imputer=data.draw(st.sampled_from(imputers)),
        n_samples=2 if view == "chain" else None,
        perturbations_per_eval=data.draw(st.sampled_from([None, 1, 3])),
    )  # fmt: skip
    note(f"{net}\n{made} {len(passes.plan)} views")
    assume(len(passes.plan) <= 60)
    wanted = literal(net, passes.plan)
    assume(bool(wanted.isfinite().all()))
    scale = wanted.abs().max()
    base = literal(net, passes.whole)[passes.plan.images]
    effects = (wanted - base).abs().reshape(len(wanted), -1).amax(1)
    assume(float(effects.median()) > 1000 * EXACT * float(scale))
    found = through(passes.engine, passes.plan)
    if not passes.engine.name.startswith("batched (torch.fx cannot trace it") or sizes_are_traced():
        assert passes.engine.name == "incremental"
    assert (found - wanted).abs().max() <= EXACT * scale


SAME = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
DRAWN = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@SAME
@given(data=st.data())
@DRAWN
def test_every_view_is_what_the_network_says(data):
    check(data, 2)


@SAME
@given(data=st.data(), dims=st.sampled_from([1, 3]))
@DRAWN
def test_every_view_of_signals_and_volumes_is_what_the_network_says(data, dims):
    check(data, dims)
