"""Random imputers: posteriors are averaged over draws, and what an imputer may not give."""

from __future__ import annotations

import dataclasses
import math

import pytest
import reference
import torch
from refused import refused
from tiny import WINDOWS, Counting, Net, images

from captum_infomask import Constant, InfoMap, InfoMask, grid

VALUES = (0.1, -0.8, 1.3, 0.4)


@dataclasses.dataclass(frozen=True)
class Levels:
    """Draw d of seed s hides pixels behind the level d + s of a list."""

    levels: tuple[float, ...] = VALUES

    def prepare(self, inputs):
        return self.draw(0, 0).prepare(inputs)

    def draw(self, seed, index):
        return Constant(self.levels[(seed + index) % len(self.levels)])


def literal(net, x, y, spot, view, draws):
    """log2 of the mean of p over draws, and the standard deviation of the draws' own bits."""
    probabilities = []
    for level in draws:
        picture = reference.shown(x, spot, view, torch.full_like(x, level))
        probabilities.append(net(picture).softmax(1)[0, y].item())
    bits = [math.log2(p) for p in probabilities]
    mean = math.fsum(bits) / len(bits)
    spread = math.sqrt(math.fsum((b - mean) ** 2 for b in bits) / (len(bits) - 1))
    return math.log2(math.fsum(probabilities) / len(probabilities)), spread


@pytest.mark.parametrize("view", ["keep", "drop"])
@pytest.mark.parametrize("seed", [0, 2])
def test_posteriors_are_averaged(net, images, view, seed):
    options = {"reference": "prior"} if view == "keep" else {}
    infomap = InfoMask(net).score_regions(
        images, target=1, view=view, imputer=Levels(), n_samples=3, seed=seed,
        regions=grid(images, 1, 3), **options,
    )  # fmt: skip
    draws = [VALUES[(seed + d) % 4] for d in range(3)]
    for region in range(3):
        spot = (slice(None), slice(None), slice(3 * region, 3 * region + 3))
        mixed, spread = literal(net, images[:1], 1, spot, view, draws)
        want = mixed + 2 if view == "keep" else float(infomap.total[0]) - (mixed + 2)
        assert float(infomap.scores[0, region]) == pytest.approx(want, abs=1e-9)
        assert float(infomap.spread[0, region]) == pytest.approx(spread, abs=1e-9)
    assert float(infomap.spread.min()) > 0.01
    assert infomap.n_samples == 3
    assert infomap.lower is None


def test_the_spread_of_a_difference_is_that_of_each_draws_own(net, images):
    """`keep` counts from a blank that is drawn too, in the same draws."""
    regions = grid(images, 1, 3)
    options = {"view": "keep", "n_samples": 4, "regions": regions}
    found = InfoMask(net).score_regions(images, target=1, imputer=Levels(), **options)
    single = [
        InfoMask(net).score_regions(images, level, 1, view="keep", regions=regions).scores
        for level in VALUES
    ]
    torch.testing.assert_close(found.spread, torch.stack(single).std(0))
    assert float(found.spread.min()) > 0.01


def test_the_network_sees_every_view_once_per_draw():
    forward, x = Counting(Net()), images()
    InfoMask(forward).attribute(
        x, target=1, view="drop", imputer=Levels(), perturbations_per_eval=1, **WINDOWS
    )
    assert forward.calls == 1 + 8 * 4


def test_chunks_do_not_matter(net, images):
    def scores(size):
        return InfoMask(net).score_regions(
            images, target=1, view="drop", imputer=Levels(), n_samples=4,
            regions=grid(images, 3, 3), perturbations_per_eval=size,
        )  # fmt: skip

    alone = scores(1)
    for size in (2, 5, None):
        torch.testing.assert_close(scores(size).scores, alone.scores, rtol=0, atol=1e-12)
        torch.testing.assert_close(scores(size).spread, alone.spread, rtol=0, atol=1e-12)


def test_one_draw_has_no_spread_and_is_saved_so(net, images, tmp_path):
    infomap = InfoMask(net).score_regions(
        images, target=1, view="drop", imputer=Levels(), n_samples=1, regions=grid(images, 2, 2)
    )
    single = InfoMask(net).score_regions(
        images, VALUES[0], 1, view="drop", regions=grid(images, 2, 2)
    )
    torch.testing.assert_close(infomap.scores, single.scores)
    assert single.spread is None
    assert infomap.spread.isnan().all()
    assert infomap.lower is None
    infomap.save(tmp_path / "map.safetensors")
    assert InfoMap.load(tmp_path / "map.safetensors").spread.isnan().all()


def test_saved_and_loaded(net, images, tmp_path):
    infomap = InfoMask(net).score_regions(
        images, target=1, view="drop", imputer=Levels(), regions=grid(images, 2, 2)
    )
    infomap.save(tmp_path / "map.safetensors")
    again = InfoMap.load(tmp_path / "map.safetensors")
    assert torch.equal(again.spread, infomap.spread)
    assert again.n_samples == 8


def test_the_raw_critic_is_averaged_as_it_is(net, images):
    infomap = InfoMask(net, head="raw", unit="nats").score_regions(
        images, target=1, view="keep", reference="prior", imputer=Levels(), n_samples=4,
        regions=grid(images, 1, 1),
    )  # fmt: skip
    torch.testing.assert_close(infomap.scores[:, 0], net(images)[:, 1].detach())


def test_chains_want_one_draw():
    x = images()
    refused(
        ("`imputer`", "view='chain'", "Levels", "imputer.draw(seed, 0)"),
        lambda: InfoMask(Net()).attribute(x, target=1, view="chain", imputer=Levels(), **WINDOWS),
    )
    fixed = Levels().draw(0, 1)
    assert InfoMask(Net()).attribute(x, target=1, view="chain", imputer=fixed, **WINDOWS).any()


@dataclasses.dataclass(frozen=True)
class Bad:
    """An imputer that gives what it is told to."""

    give: object

    def prepare(self, inputs):
        return lambda images, hidden: self.give(inputs[0][images])


@pytest.mark.parametrize("view", ["keep", "drop"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_imputer_that_is_not_finite_is_named(view, value):
    imputer = Bad(lambda x: (torch.full_like(x, value),))
    refused(
        ("`imputer`", "finite", "the view of", "views)"),
        lambda: InfoMask(Net()).attribute(
            images(), target=1, view=view, imputer=imputer, **WINDOWS
        ),
    )


@pytest.mark.parametrize(
    ("give", "words"),
    [
        (lambda x: (x[:, :, :4],), "it gave (2, 3, 4, 8)"),
        (lambda x: (x[0],), "it gave (3, 8, 8)"),
        (lambda x: (x, x), "(2, 3, 8, 8), (2, 3, 8, 8)"),
        (lambda x: (), "it gave nothing"),
        (lambda x: (0.5,), "it gave ()"),
    ],
)
def test_an_imputer_of_another_shape_is_named(give, words):
    refused(
        ("`imputer`", "broadcasts to (2, 3, 8, 8)", words),
        lambda: InfoMask(Net()).attribute(
            images(), target=1, view="drop", imputer=Bad(give), perturbations_per_eval=1, **WINDOWS
        ),
    )
