"""What every imputer promises: one row an imputer, and one more for each of its ways.

To add an imputer is to add a row to ``IMPUTERS``; ``test_every_imputer_has_a_row`` fails until it
is there.
"""

import dataclasses

import numpy as np
import pytest
import torch

import captum_infomask
from captum_infomask import (
    Blur,
    ConditionalPatches,
    Constant,
    Inpaint,
    LocalMean,
    MarginalPatches,
    NoisyLinear,
    NormalNoise,
    RemoveTokens,
    UniformNoise,
    imputers,
    sliding_windows,
)
from captum_infomask.engines.pixels import draw
from captum_infomask.imputers import Imputer, RandomImputer, StandIn
from captum_infomask.views.region_views import Drop, Keep
from captum_infomask.views.view_plan import Blank, Scene

# Of few digits, so that half precision does not reorder its neighbours.
OTHERS = torch.rand(9, 3, 12, 10, generator=torch.Generator().manual_seed(11)).bfloat16().float()


@dataclasses.dataclass(frozen=True)
class Row:
    """What is expected of an imputer besides the promises that all make.

    Attributes:
        random: It draws.
        follows: Brightness and contrast of the picture pass on to what stands in, so that also a
            constant picture stays constant.
        level: Where all is hidden, each channel's mean stands in.
    """

    imputer: Imputer
    random: bool = False
    follows: bool = False
    level: bool = False


IMPUTERS = {
    "constant: default": Row(Constant()),
    "constant: number": Row(Constant(0.25)),
    "constant: picture": Row(Constant(torch.linspace(0, 1, 3 * 12 * 10).reshape(1, 3, 12, 10))),
    "blur: default": Row(Blur(), follows=True),
    "blur: 2 pixels": Row(Blur(2.0), follows=True),
    "local mean: default": Row(LocalMean(), follows=True, level=True),
    "local mean: 3 pixels": Row(LocalMean(3.0), follows=True, level=True),
    "inpaint: telea": Row(Inpaint(), follows=True, level=True),
    "inpaint: navier_stokes": Row(Inpaint("navier_stokes", 2), follows=True, level=True),
    "noisy linear: no noise": Row(NoisyLinear(0), follows=True, level=True),
    "noisy linear: noise": Row(NoisyLinear(0.1), random=True, follows=True),
    "marginal patches": Row(MarginalPatches(OTHERS), random=True),
    "conditional patches": Row(ConditionalPatches(OTHERS, neighbours=3, border=2), random=True),
    "uniform noise: own": Row(UniformNoise(), random=True, follows=True),
    "uniform noise: given": Row(UniformNoise(-1, 2), random=True),
    "normal noise: own": Row(NormalNoise(), random=True, follows=True),
    "normal noise: given": Row(NormalNoise(0.3, 2), random=True),
}
RANDOM = [name for name, row in IMPUTERS.items() if row.random]
PROTOCOLS = {Imputer, RandomImputer, StandIn}
FOLLOWS = [name for name, row in IMPUTERS.items() if row.follows]
LEVEL = [name for name, row in IMPUTERS.items() if row.level]
SCALES = {"normalised": (4.0, -2.0), "bytes": (255.0, 0.0)}


def test_every_imputer_has_a_row():
    kinds = {getattr(imputers, name) for name in imputers.__all__} - PROTOCOLS
    # RemoveTokens puts no pixels in the place of others: tests/test_tokens.py.
    assert {type(row.imputer) for row in IMPUTERS.values()} | {RemoveTokens} == kinds
    public = {kind for kind in kinds if kind.__name__ in captum_infomask.__all__}
    assert public == kinds


@pytest.fixture(params=SCALES)
def pictures(request):
    scale, shift = SCALES[request.param]
    return torch.rand(2, 3, 12, 10) * scale + shift


@pytest.fixture
def mixed():
    """Pictures, and what is hidden of them: a hole in all channels, another one in each channel."""
    pictures = torch.rand(2, 3, 12, 10)
    hidden = torch.zeros(2, 3, 12, 10, dtype=torch.bool)
    hidden[0, :, 2:7, 3:6] = True
    for channel in range(3):
        hidden[1, channel, 3 * channel : 3 * channel + 4, :5] = True
    return pictures, hidden


def scene(imputer, pictures):
    regions = sliding_windows(pictures, (3, 5, 4), (3, 4, 3))
    return Scene((pictures,), regions, imputer.prepare((pictures,)))


def filled(imputer, pictures, hidden):
    """Each picture with what is hidden of it replaced."""
    (values,) = imputer.prepare((pictures,))(torch.arange(len(pictures)), (hidden,))
    return torch.where(hidden, values, pictures)


def views(imputer, pictures):
    """All views of one kind after the other: region hidden, rest hidden, everything hidden."""
    made = scene(imputer, pictures)
    blank = Keep().blank(made)
    assert isinstance(blank, Blank)
    plans = Drop().plan(made), Keep().plan(made), blank.plan
    return [draw(plan, torch.arange(len(plan)))[0] for plan in plans]


@pytest.mark.parametrize("name", IMPUTERS)
def test_outside_the_hidden_region_not_one_bit_changes(name, pictures):
    made = scene(IMPUTERS[name].imputer, pictures)
    for view, hidden in ((Drop(), True), (Keep(), False)):
        plan = view.plan(made)
        shown = draw(plan, torch.arange(len(plan)))[0]
        mask = made.regions.masks(plan.images, plan.regions, pictures.device)[0]
        untouched = (~mask if hidden else mask).expand_as(shown)
        originals = pictures[plan.images]
        assert torch.equal(shown[untouched], originals[untouched])
        assert bool((shown != originals)[~untouched].float().mean() > 0.5)


@pytest.mark.parametrize("name", IMPUTERS)
def test_a_batch_is_imputed_as_its_pictures_alone(name, pictures):
    together = views(IMPUTERS[name].imputer, pictures)
    alone = [views(IMPUTERS[name].imputer, picture[None]) for picture in pictures]
    for both, single in zip(together, zip(*alone, strict=True), strict=True):
        # Images run fastest.
        want = torch.stack(single, 1).flatten(0, 1)
        torch.testing.assert_close(both, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", IMPUTERS)
def test_chunks_do_not_matter(name):
    pictures = torch.rand(2, 3, 12, 10)
    plan = Drop().plan(scene(IMPUTERS[name].imputer, pictures))
    whole = draw(plan, torch.arange(len(plan)))[0]
    for size in (1, 5):
        parts = [draw(plan, rows)[0] for rows in torch.arange(len(plan)).split(size)]
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", IMPUTERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_types_are_kept_and_values_with_them(name, dtype):
    pictures = torch.rand(2, 3, 12, 10).to(dtype)
    shown = views(IMPUTERS[name].imputer, pictures)[0]
    assert shown.dtype == dtype
    want = views(IMPUTERS[name].imputer, pictures.double())[0]
    assert want.dtype == torch.float64
    tolerance = {torch.float16: 4e-3, torch.bfloat16: 3e-2}.get(dtype, 1e-5)
    torch.testing.assert_close(shown.double(), want, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", FOLLOWS)
def test_a_constant_picture_stays_constant(name):
    flat = torch.tensor([0.7, -3.0, 100.1]).reshape(1, 3, 1, 1).expand(2, -1, 12, 10).contiguous()
    for shown in views(IMPUTERS[name].imputer, flat):
        noise = 0.5 * flat.std() if name == "noisy linear: noise" else 0
        torch.testing.assert_close(shown, flat[:1].expand_as(shown), atol=1e-4 + noise, rtol=1e-6)


@pytest.mark.parametrize("name", FOLLOWS)
def test_brightness_and_contrast_pass_on(name):
    pictures = torch.rand(2, 3, 12, 10)
    plain = views(IMPUTERS[name].imputer, pictures)
    changed = views(IMPUTERS[name].imputer, pictures * 40 - 7)
    for shown, want in zip(changed, plain, strict=True):
        torch.testing.assert_close(shown, want * 40 - 7, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", IMPUTERS)
def test_all_hidden_pictures_stay_within_reason(name):
    pictures = torch.rand(2, 3, 12, 10)
    shown = views(IMPUTERS[name].imputer, pictures)[2]
    assert shown.shape == pictures.shape
    assert bool(shown.isfinite().all())
    level = pictures.mean((2, 3), keepdim=True).expand_as(pictures)
    if IMPUTERS[name].level:
        torch.testing.assert_close(shown, level)
    else:
        assert not torch.allclose(shown, level, atol=1e-3)


@pytest.mark.parametrize("name", [n for n in IMPUTERS if n != "conditional patches"])
def test_channels_may_hide_different_pixels(name, mixed):
    """Conditional patches look at all channels' borders together, and so are left out."""
    pictures, hidden = mixed
    imputer = IMPUTERS[name].imputer
    got = filled(imputer, pictures, hidden)
    for channel in range(3):
        alike = hidden[:, channel : channel + 1].expand_as(hidden)
        want = filled(imputer, pictures, alike)[:, channel]
        torch.testing.assert_close(got[:, channel], want, atol=1e-6, rtol=0)
    assert bool((got != pictures)[hidden].float().mean() > 0.9)


@pytest.mark.parametrize("name", IMPUTERS)
def test_nothing_else_is_touched(name, mixed):
    pictures, hidden = mixed
    before, random, numpy = pictures.clone(), torch.get_rng_state(), np.random.get_state()
    pictures.requires_grad_()
    stand_in = IMPUTERS[name].imputer.prepare((pictures,))
    (values,) = stand_in(torch.arange(2), (hidden,))
    (nothing,) = stand_in(torch.arange(2), (None,))
    assert nothing.expand_as(pictures).shape == pictures.shape
    assert not values.requires_grad
    assert torch.equal(pictures, before)
    assert pictures.grad is None
    assert torch.equal(torch.get_rng_state(), random)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy, strict=True))


def test_random_imputers_are_known_by_their_draws():
    for name, row in IMPUTERS.items():
        assert isinstance(row.imputer, Imputer), name
        random = isinstance(row.imputer, RandomImputer)
        assert random == (row.random or name == "noisy linear: no noise"), name


@pytest.mark.parametrize("name", RANDOM)
def test_draws_depend_on_seed_and_index_only(name, mixed):
    imputer = IMPUTERS[name].imputer
    values = {
        (seed, index): filled(imputer.draw(seed, index), *mixed)
        for seed in (0, 2**63 - 1)
        for index in (0, 1)
    }
    torch.manual_seed(99)
    for (seed, index), value in values.items():
        assert torch.equal(filled(imputer.draw(seed, index), *mixed), value)
    assert torch.equal(filled(imputer, *mixed), values[0, 0])
    assert not torch.equal(values[0, 0], values[0, 1])
    assert not torch.equal(values[2**63 - 1, 0], values[2**63 - 1, 1])
    assert any(
        not torch.equal(filled(imputer.draw(0, i), *mixed), filled(imputer.draw(5, i), *mixed))
        for i in range(3)
    )


OF_PLANES = {"inpaint: telea", "inpaint: navier_stokes"}  # OpenCV's
OTHER_SIDES = {"signals": (15,), "volumes": (5, 6, 4)}


@pytest.mark.parametrize("kind", OTHER_SIDES)
@pytest.mark.parametrize("name", [name for name in IMPUTERS if name not in OF_PLANES])
def test_signals_and_volumes_are_imputed_like_images(name, kind):
    """Outside of what is hidden no bit changes, a batch is its examples alone, half is kept."""
    sides = OTHER_SIDES[kind]
    x, others = torch.rand(2, 3, *sides), torch.rand(9, 3, *sides)
    imputer = IMPUTERS[name].imputer
    if isinstance(imputer, MarginalPatches | ConditionalPatches):
        imputer = dataclasses.replace(imputer, images=others)
    if name == "constant: picture":
        imputer = Constant(others[:1])
    hidden = torch.zeros(2, 1, *sides, dtype=torch.bool)
    hidden[(slice(None), slice(None), *(slice(1, side - 1) for side in sides))] = True
    shown = filled(imputer, x, hidden)
    seen = ~hidden.expand_as(x)
    assert torch.equal(shown[seen], x[seen])
    assert bool((shown != x)[~seen].float().mean() > 0.9)
    for image in range(2):
        alone = filled(imputer, x[image : image + 1], hidden[image : image + 1])
        torch.testing.assert_close(shown[image : image + 1], alone, atol=1e-5, rtol=1e-5)
    assert filled(imputer, x.half(), hidden).dtype == torch.float16
    level = filled(imputer, x, torch.ones_like(hidden))
    if IMPUTERS[name].level:
        places = tuple(range(2, x.dim()))
        torch.testing.assert_close(level, x.mean(places, keepdim=True).expand_as(x))
