"""attribute(n_samples=): stochastic networks, their bounds, and what stays as it was."""

import math

import pytest
import torch
from state import unchanged
from test_views import READINGS
from tiny import WINDOWS, Net

from captum_infomask import InfoMap, InfoMask, grid, keep_dropout

VIEWS = ("crop", "keep", "drop")
DRAWS = 5


class Noisy:
    """A forward function that draws by itself: pass k adds row k of a table to the logits."""

    def __init__(self, net):
        generator = torch.Generator().manual_seed(0)
        self.noise = 2 * torch.randn(DRAWS, 4, generator=generator, dtype=torch.float64)
        self.net, self.calls = net, 0

    def __call__(self, x):
        draw = self.calls % DRAWS
        self.calls += 1
        return self.net(x) + self.noise[draw]


def literal(samples, y, head="logits", prior=None, temperature=1.0, trained_with="cross_entropy",
            unit="bits"):  # fmt: skip
    """Lower bound, mean and upper bound of one view from its samples, with Python's floats."""
    scale = math.log(2) if unit == "bits" else 1.0
    classes = len(samples[0])
    pi = prior or [1 / classes] * classes
    critics, ratios, partitions = [], [], []
    for output in samples:
        f = [math.log(v) if head == "probs" else v for v in output]
        f = [v / temperature for v in f]
        if head == "sigmoid":
            critic, partition = f[y] - math.log(0.5), 1 + math.exp(f[y])
        elif trained_with == "pc_softmax":
            critic = f[y]
            partition = math.fsum(p * math.exp(v) for p, v in zip(pi, f, strict=True))
        else:
            critic = f[y] - math.log(pi[y])
            partition = math.fsum(map(math.exp, f))
        critics.append(critic)
        partitions.append(partition)
        ratios.append(math.exp(critic) / partition)
    n = len(samples)
    lower = math.fsum(critics) / n - math.log(math.fsum(partitions) / n)
    mean = math.fsum(map(math.log, ratios)) / n
    upper = math.log(math.fsum(ratios) / n)
    return lower / scale, mean / scale, upper / scale


@pytest.mark.parametrize("reading", [name for name in READINGS if name != "raw"])
def test_bounds_match_the_literal_reference(net, images, reading):
    settings = READINGS[reading]
    head = settings.get("head", "logits")
    # The whole images, the regions: two passes in every draw.
    noisy = Noisy(net)
    regions = grid(images, 1, 2)

    def forward(x):
        logits = noisy(x)
        return {"log_probs": logits.log_softmax(1), "probs": logits.softmax(1)}.get(head, logits)

    infomap = InfoMask(forward, **settings).score_regions(
        images, target=2, view="crop", regions=regions, n_samples=DRAWS
    )
    assert noisy.calls == 2 * DRAWS
    wide, gaps = torch.nn.functional.interpolate, []
    for image in range(2):
        for region, columns in enumerate((slice(0, 4), slice(4, 9))):
            patch = wide(images[image : image + 1, :, :, columns], size=(11, 9), mode="bilinear",
                         antialias=True)  # fmt: skip
            logits = net(patch)[0] + noisy.noise
            probs = {"log_probs": logits.log_softmax(1), "probs": logits.softmax(1)}
            samples = probs.get(head, logits).tolist()
            lower, mean, upper = literal(samples, 2, **settings)
            assert float(infomap.lower[image, region]) == pytest.approx(lower, abs=1e-9)
            assert float(infomap.scores[image, region]) == pytest.approx(mean, abs=1e-9)
            assert float(infomap.upper[image, region]) == pytest.approx(upper, abs=1e-9)
            gaps.append((mean - lower, upper - mean))
    below, above = map(max, zip(*gaps, strict=True))
    assert above > 0.05
    assert below > 0.05 or head in ("log_probs", "probs")  # whose partition is 1


@pytest.mark.parametrize("view", VIEWS)
def test_bounds_hold_for_every_region_of_a_network_with_dropout(view):
    net, x = Net(), torch.rand(2, 3, 8, 8)
    with keep_dropout(net), unchanged(net, x):
        infomap = InfoMask(net).score_regions(x, target=3, view=view, n_samples=16, **WINDOWS)
    assert bool((infomap.lower < infomap.scores).all())
    assert bool((infomap.scores < infomap.upper).all())
    assert bool((infomap.standard_errors > 0).all())
    single = InfoMask(net).score_regions(x, target=3, view=view, **WINDOWS)
    assert single.lower is None
    assert single.upper is None
    assert single.standard_errors is None


def test_differences_have_the_bounds_of_both_ends(net, images):
    """drop = total − without: its lower bound is the total's lower minus the other's upper."""
    noisy, regions = Noisy(net), grid(images, 1, 2)
    whole = InfoMask(Noisy(net)).score_regions(
        images, target=1, view="crop", regions=grid(images, 1, 1), n_samples=DRAWS
    )
    drop = InfoMask(noisy).score_regions(
        images, target=1, view="drop", regions=regions, n_samples=DRAWS
    )
    hidden = images[:1].clone()
    hidden[..., :4] = 0
    lower, mean, upper = literal((net(hidden)[0] + noisy.noise).tolist(), 1)
    ends = (whole.lower[0, 0] - upper, whole.scores[0, 0] - mean, whole.upper[0, 0] - lower)
    found = (drop.lower[0, 0], drop.scores[0, 0], drop.upper[0, 0])
    assert [float(v) for v in found] == pytest.approx([float(v) for v in ends], abs=1e-9)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scale", [1, 1e4])
def test_samples_of_a_deterministic_network_agree(net, images, view, scale):
    def infomask(x):
        return scale * net(x)

    one = InfoMask(infomask).score_regions(images, target=1, view=view, regions=grid(images, 2, 2))
    many = InfoMask(infomask).score_regions(
        images, target=1, view=view, regions=grid(images, 2, 2), n_samples=3
    )
    for part in (many.lower, many.scores, many.upper):
        torch.testing.assert_close(part, one.scores, rtol=1e-9, atol=1e-9)
    assert bool((many.lower <= many.scores).all() & (many.scores <= many.upper).all())


@pytest.mark.filterwarnings("ignore:The network's answers change")  # of a chain they do
@pytest.mark.parametrize("view", [*VIEWS, "chain"])
def test_draws_depend_on_the_seed(view):
    net, x = Net(), torch.rand(2, 3, 8, 8)

    def scores(seed):
        with keep_dropout(net):
            options = {"view": view, "n_samples": 4, "seed": seed, **WINDOWS}
            return InfoMask(net).score_regions(x, target=1, **options).scores

    state = torch.get_rng_state()
    first = scores(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(scores(0), first)
    assert not torch.allclose(scores(1), first, atol=1e-3)


@pytest.mark.filterwarnings("ignore:The network's answers change")
def test_a_chain_of_a_network_with_dropout_still_sums_to_its_ends():
    net, x = Net(), torch.rand(2, 3, 8, 8)
    with keep_dropout(net):
        infomap = InfoMask(net).score_regions(x, target=1, view="chain", n_samples=30, **WINDOWS)
    torch.testing.assert_close(
        infomap.scores.sum(1, keepdim=True) + infomap.blank[:, :1],
        infomap.scores.sum(1, keepdim=True) + infomap.blank[:, 1:2],
    )
    assert infomap.lower is None


def test_the_raw_critic_has_no_partition_and_no_bounds(net, images):
    noisy = Noisy(net)
    infomap = InfoMask(noisy, head="raw", unit="nats").score_regions(
        images, target=1, view="crop", regions=grid(images, 1, 1), n_samples=DRAWS
    )
    want = net(images)[:, 1] + noisy.noise[:, 1].mean()
    torch.testing.assert_close(infomap.scores[:, 0], want.detach())
    assert infomap.lower is None
    assert infomap.upper is None


def test_bounds_are_saved_and_loaded(tmp_path):
    net, x = Net(), torch.rand(1, 3, 8, 8)
    with keep_dropout(net):
        infomap = InfoMask(net).score_regions(x, target=3, view="keep", n_samples=4, **WINDOWS)
    infomap.save(tmp_path / "map.safetensors")
    again = InfoMap.load(tmp_path / "map.safetensors")
    assert torch.equal(again.lower, infomap.lower)
    assert torch.equal(again.upper, infomap.upper)
    assert again.n_samples == 4


@pytest.mark.usefixtures("terminal")
def test_the_progress_bar_counts_every_sample(capsys):
    net, x = Net(), torch.rand(1, 3, 8, 8)
    InfoMask(net).attribute(
        x, target=1, view="keep", n_samples=6, perturbations_per_eval=1, show_progress=True,
        **WINDOWS,
    )  # fmt: skip
    assert "| 36/36 [" in capsys.readouterr().err


def test_half_precision():
    net, x = Net(), torch.rand(1, 3, 8, 8)
    infomap = InfoMask(lambda x: 1e3 * net(x).half()).score_regions(
        x, target=1, view="crop", n_samples=2, **WINDOWS
    )
    assert infomap.scores.dtype == torch.float32
    assert infomap.lower.isfinite().all()
