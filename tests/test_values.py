# Bits about the value of a regression network: log p(y | v) / p(y), two densities.
from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from captum.attr import Occlusion
from torch import Tensor, nn

from captum_infomask import (
    ArgumentError,
    FalseDiscoveries,
    Gaussian,
    InfoMap,
    InfoMask,
    Laplace,
    MarginalPatches,
    Normal,
    Score,
    combine_evidence,
    compare,
    estimate_prior,
    fit_temperature,
    grid,
    information,
    keep_dropout,
    log_softmax_sandwich,
    run_dataset,
)
from captum_infomask.scores.values import checked_values

HEADS = [
    (Gaussian(0.7), {"head": "gaussian", "scale": 0.7}),
    (Laplace(0.4), {"head": "laplace", "scale": 0.4}),
]
PRIOR = Normal(mean=1.5, std=2.0)
VIEWS = ["relay", "evidence", "chain", "drop", "keep", "crop", "features"]
ADDITIVE = VIEWS[:3]
LN2 = math.log(2)


def small_network(outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, outputs),
        )
        .double()
        .eval()
    )


class Counted:
    """A function that counts its calls."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.function(x)


@pytest.mark.parametrize("unit", ["bits", "nats"])
@pytest.mark.parametrize(("head", "literal"), HEADS)
def test_information_is_the_ratio_of_the_densities(
    head: Any, literal: dict[str, Any], unit: Any
) -> None:
    predictions = torch.tensor([0.0, 1.5, -2.0, 3.25], dtype=torch.float64)
    values = [0.5, 1.5, 2.0, 3.0]
    found = information(predictions, value=values, head=head, prior=PRIOR, unit=unit)
    wanted = [
        reference.value_information(f, y, mean=1.5, std=2.0, unit=unit, **literal)
        for f, y in zip(predictions, values, strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("value", [1e30, -1e18])
@pytest.mark.parametrize("head", [Gaussian(0.7), Laplace(0.4)])
def test_values_far_away_are_right_in_double_precision(head: Any, value: float) -> None:
    # So far away, the prediction, the prior's mean and the scales' logarithms add nothing.
    density = {Gaussian(0.7): -((value / 0.7) ** 2) / 2, Laplace(0.4): -abs(value) / 0.4}[head]
    wanted = (density + (value / 2.0) ** 2 / 2) / LN2
    infomask, x = InfoMask(small_network(), head=head, prior=PRIOR), torch.rand(1, 1, 6, 6).double()
    found = infomask.score_regions(x, value=value, view="drop")
    assert found.total.item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("head", [Gaussian(0.7), Laplace(0.4)])
@pytest.mark.parametrize("view", ["relay", "drop"])
@pytest.mark.parametrize(("dtype", "value"), [(torch.float32, 1e30), (torch.float64, 1e200)])
def test_values_too_far_for_the_type_are_refused_by_their_name(
    head: Any, view: Any, dtype: torch.dtype, value: float
) -> None:
    infomask = InfoMask(small_network().to(dtype), head=head, prior=PRIOR)
    words = re.escape(f"got {value:g}, whose log density {dtype} cannot hold")
    with pytest.raises(ArgumentError, match=words):
        infomask.attribute(torch.rand(2, 1, 6, 6, dtype=dtype), value=[1.0, value], view=view)
    with pytest.raises(ArgumentError, match=words):
        information(torch.zeros(2, dtype=dtype), value=[1.0, value], head=head, prior=PRIOR)


def test_predictions_too_far_for_the_type_are_refused_as_such() -> None:
    infomask = InfoMask(lambda x: x.mean((1, 2, 3)) + 1e30, head=Gaussian(1.0), prior=PRIOR)
    with pytest.raises(ArgumentError, match=r"what the network predicts.*got 1e\+30"):
        infomask.attribute(torch.rand(1, 1, 6, 6), view="drop")
    with pytest.raises(ArgumentError, match=r"what the network predicts.*got 1e\+30"):
        information(torch.tensor([1e30]), head=Gaussian(1.0), prior=PRIOR)


@pytest.mark.parametrize(("head", "literal"), HEADS)
def test_each_region_of_each_image_is_read_as_by_hand(head: Any, literal: dict[str, Any]) -> None:
    network, x = small_network(), torch.rand(2, 1, 6, 6, dtype=torch.float64)
    values, regions = [0.3, -0.8], grid(x, 2, 3)
    infomask = InfoMask(network, head=head, prior=PRIOR)
    drop = infomask.score_regions(x, view="drop", value=values, regions=regions)
    keep = infomask.score_regions(x, view="keep", value=values, regions=regions, reference="prior")
    covers = regions.paint(torch.eye(6, dtype=torch.float64), "max", 1.0)[0] > 0
    for image, value in enumerate(values):

        def told(view: Tensor, value: float = value) -> float:
            (prediction,) = network(view[None])[0].tolist()
            return reference.value_information(prediction, value, mean=1.5, std=2.0, **literal)

        whole = told(x[image])
        assert drop.total[image].item() == pytest.approx(whole, abs=1e-9)
        for region in range(6):
            kept, dropped = (x[image] * part for part in (covers[region], ~covers[region]))
            assert drop.scores[image, region].item() == pytest.approx(whole - told(dropped))
            assert keep.scores[image, region].item() == pytest.approx(told(kept))


@pytest.mark.parametrize("view", VIEWS)
def test_without_a_value_bits_are_about_the_prediction(view: Any) -> None:
    network, x = small_network(), torch.rand(3, 1, 8, 8, dtype=torch.float64)
    infomask = InfoMask(network, head=Gaussian(0.1), prior=PRIOR)
    predicted = network(x)[:, 0].detach()
    found = infomask.score_regions(x, view=view)
    given = infomask.score_regions(x, view=view, value=predicted)
    torch.testing.assert_close(found.value, predicted)
    assert (found.is_prediction, given.is_prediction) == (True, False)
    torch.testing.assert_close(found.scores, given.scores, rtol=0, atol=1e-9)
    # A prediction is its own mode: log std/σ, and more the farther it is from the prior's mean.
    best = math.log2(2.0 / 0.1) + (predicted - 1.5) ** 2 / (2 * 4) / LN2
    torch.testing.assert_close(found.total, best)
    # relay also shows the reference with each picture.
    assert found.views == given.views + (6 if view == "relay" else 3)
    alone = infomask.score_regions(x[1:2], view=view)
    torch.testing.assert_close(alone.scores[0], found.scores[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("head", "literal"), HEADS)
@pytest.mark.parametrize("view", ADDITIVE)
def test_maps_add_up_to_the_whole_less_the_reference(
    view: Any, head: Any, literal: dict[str, Any]
) -> None:
    network, x = small_network(), 3 * torch.rand(2, 1, 8, 8, dtype=torch.float64)
    value = 4.0  # far from both outputs: the information about it changes much
    infomask = InfoMask(network, head=head, prior=PRIOR)
    regions = grid(x, 2, 2) if view == "chain" else None
    infomap = infomask.score_regions(
        x, torch.zeros(1, 8, 8), value=value, view=view, regions=regions
    )
    whole, blank = (
        information(network(part).detach(), value=value, head=head, prior=PRIOR)
        for part in (x, torch.zeros_like(x))
    )
    assert float((whole - blank).abs().min()) > 0.1
    sums = infomap.scores if view == "chain" else infomap.attributions().flatten(1)
    torch.testing.assert_close(sums.sum(1), whole - blank, rtol=0, atol=1e-5)


def patches_that_tell(x: Tensor) -> Tensor:
    """A linear regression on four patches: y = Σ w_j x_j."""
    return x[:, 0, ::2, ::2].flatten(1) @ torch.tensor([[1.0], [-0.5], [0.25], [0.0]]).to(x)


def test_hidden_gaussian_patches_have_the_bits_of_the_closed_form() -> None:
    """p(y | the rest) = N(f without j, σ² + w_j²) for patches x_j ~ N(0, 1): densities average."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(4000, 1, 1, 1, generator=generator, dtype=torch.float64)
    x = torch.tensor([[0.8, -1.1], [0.4, 2.0]], dtype=torch.float64)
    x = x.repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None]
    pictures = pool.expand(-1, 1, 4, 4).contiguous()
    sigma, value, weights = 0.6, 1.3, [1.0, -0.5, 0.25, 0.0]
    std = math.sqrt(sigma**2 + sum(w**2 for w in weights))
    infomap = InfoMask(
        patches_that_tell, head=Gaussian(sigma), prior=Normal(0.0, std)
    ).score_regions(
        x,
        view="drop",
        value=value,
        regions=grid(x, 2, 2),
        n_samples=4000,
        imputer=MarginalPatches(pictures),
    )
    patches = x[0, 0, ::2, ::2].flatten()
    parts = torch.tensor(weights, dtype=torch.float64) * patches
    whole = float(parts.sum())

    def bits(mean: float, spread: float) -> float:
        return reference.value_information(
            mean, value, head="gaussian", scale=spread, mean=0.0, std=std
        )

    wanted = [
        bits(whole, sigma) - bits(whole - float(part), math.sqrt(sigma**2 + w**2))
        for part, w in zip(parts, weights, strict=True)
    ]
    errors = infomap.standard_errors
    assert errors is not None
    away = (infomap.scores - torch.tensor(wanted, dtype=torch.float64)).abs()
    assert bool((away <= 4 * errors + 1e-9).all()), (infomap.scores, wanted, errors)
    assert max(wanted) > 10 * float(errors.max())
    # The mean of the logarithms is another number: it is too low.
    logs = [
        bits(whole - float(part) + weights[0] * float(p), sigma) for part in parts[:1] for p in pool
    ]
    assert abs(bits(whole, sigma) - sum(logs) / len(logs) - wanted[0]) > 10 * float(errors[0, 0])


def test_drop_is_captums_occlusion_of_the_log_density() -> None:
    network, x = small_network(), torch.rand(2, 1, 6, 6, dtype=torch.float64)
    value, windows = 0.7, {"sliding_window_shapes": (1, 2, 3), "strides": (1, 2, 3)}

    def log2_density(x: Tensor) -> Tensor:
        return (
            torch.distributions.Normal(network(x)[:, 0], 0.02).log_prob(torch.tensor(value)) / LN2
        )

    found = InfoMask(network, head=Gaussian(0.02), prior=PRIOR).attribute(
        x, value=value, view="drop", **windows
    )
    captums = Occlusion(log2_density).attribute(x, **windows)  # in float32
    torch.testing.assert_close(found.float(), captums.float(), rtol=1e-5, atol=1e-4)
    assert float(found.abs().max()) > 0.1


def test_the_mean_over_data_is_the_mutual_information() -> None:
    """I(x; y) = ½ log2 1/(1 − ρ²) for jointly Gaussian x and y, read by the best regression."""
    generator, rho, n = torch.Generator().manual_seed(3), 0.8, 20_000
    x, noise = torch.randn(2, n, generator=generator, dtype=torch.float64)
    y = rho * x + math.sqrt(1 - rho**2) * noise
    head = Gaussian.of_errors(y - rho * x)
    found = information(rho * x, value=y, head=head, prior=estimate_prior(y, of="values"))
    wanted = 0.5 * math.log2(1 / (1 - rho**2))
    error = float(found.std()) / math.sqrt(n)
    assert abs(float(found.mean()) - wanted) < 3 * error < 0.05


@pytest.mark.parametrize("head", [Gaussian(0.5), Laplace(0.5)])
def test_two_to_the_bits_has_the_mean_1_over_the_prior(head: Any) -> None:
    values = torch.linspace(-30, 30, 200_001, dtype=torch.float64)
    odds = information(torch.full_like(values, 2.2), value=values, head=head, prior=PRIOR).exp2()
    prior = torch.distributions.Normal(1.5, 2.0).log_prob(values).exp()
    assert torch.trapezoid(odds * prior, values).item() == pytest.approx(1, abs=1e-6)


def test_given_values_are_evidence_and_predictions_are_not() -> None:
    x = torch.zeros(2, 1, 4, 4)
    x[:, :, :2, :2] = 5.0

    def network(x: Tensor) -> Tensor:
        return x.amax((1, 2, 3))

    infomask = InfoMask(network, head=Gaussian(0.05), prior=Normal(0.0, 2.0))
    options: dict[str, Any] = {"view": "crop", "regions": grid(x, 2, 2)}
    infomap = infomask.score_regions(x, value=5.0, **options)
    torch.testing.assert_close(infomap.e_values(), infomap.scores.exp2())
    assert infomap.discoveries(rate=0.1).tolist() == [[True, False, False, False]] * 2
    mask = infomask.mask(x, value=5.0, rule=FalseDiscoveries(0.1), **options)
    assert mask.sum((1, 2, 3)).tolist() == [4, 4]
    assert combine_evidence(infomap).discoveries(rate=0.1).tolist() == [True, False, False, False]
    counted = Counted(network)
    predicted = infomask.score_regions(x, **options)
    for asked in (predicted.e_values, predicted.discoveries, lambda: combine_evidence(predicted)):
        with pytest.raises(ArgumentError, match=r"network predicts itself\. Pass the true ones"):
            asked()
    counting = InfoMask(counted, head=Gaussian(0.05), prior=Normal(0.0, 2.0))
    with pytest.raises(ArgumentError, match="network predicts itself"):
        counting.mask(x, rule=FalseDiscoveries(0.1), **options)
    assert counted.calls == 0


def test_target_is_the_column_with_its_own_scale_and_prior() -> None:
    network, x = small_network(3), torch.rand(2, 1, 6, 6, dtype=torch.float64)
    head, prior = Gaussian([0.5, 1.0, 2.0]), Normal(mean=[0.0, 1.0, 2.0], std=[3.0, 4.0, 5.0])
    infomask = InfoMask(network, head=head, prior=prior, categories=["age", "bmi", "height"])
    regions = grid(x, 2, 2)
    several = infomask.score_regions(
        x, target=[2, 0], value=[1.0, 0.5], view="drop", regions=regions
    )
    assert several.labels == ("height", "age")
    for image, (column, value) in enumerate([(2, 1.0), (0, 0.5)]):
        one = InfoMask(
            lambda x, column=column: network(x)[:, column],
            head=Gaussian(head.sigma[column]),
            prior=Normal(prior.mean[column], prior.std[column]),
        )
        alone = one.score_regions(x[image : image + 1], value=value, view="drop", regions=regions)
        torch.testing.assert_close(several.scores[image], alone.scores[0])
    named = infomask.score_regions(x, target="bmi", view="drop", regions=regions)
    torch.testing.assert_close(named.value, network(x)[:, 1].detach())


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("target", [None, 0])
def test_one_output_needs_no_target(shape: tuple[int, ...], target: Any) -> None:
    x = torch.rand(3, 1, 4, 4)
    infomask = InfoMask(
        lambda x: x.mean((1, 2, 3)).reshape(-1, *shape), head=Gaussian(0.1), prior=Normal(0.5, 0.3)
    )
    attributions = infomask.attribute(x, target=target, view="drop")
    assert attributions.shape == x.shape
    assert float(attributions.abs().max()) > 0


def test_a_place_of_a_dense_regression_is_a_target() -> None:
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    infomask = InfoMask(lambda x: 2 * x, head=Gaussian(0.1), prior=Normal(1.0, 0.5))
    infomap = infomask.score_regions(x, target=(0, 3, 1), view="drop", regions=grid(x, 2, 2))
    torch.testing.assert_close(infomap.value, 2 * x[:, 0, 3, 1])
    assert (infomap.scores[:, [0, 1, 3]] == 0).all()
    assert (infomap.scores[:, 2] > 0).all()


def test_a_sampled_network_has_a_lower_bound_that_is_its_mean() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 1)).eval()
    x = torch.rand(2, 1, 4, 4)
    infomask = InfoMask(network, head=Gaussian(1.0), prior=Normal(0.0, 2.0))
    with keep_dropout(network):
        infomap = infomask.score_regions(
            x, value=0.3, view="crop", regions=grid(x, 2, 2), n_samples=16
        )
    assert infomap.lower is not None
    assert infomap.upper is not None
    torch.testing.assert_close(infomap.lower, infomap.scores)
    assert (infomap.upper > infomap.scores).all()


def test_it_is_saved_sliced_tabled_and_drawn(tmp_path: Path) -> None:
    network, x = small_network(2), torch.rand(2, 1, 8, 8, dtype=torch.float64)
    score = Score(head=Laplace([0.3, 0.4]), prior=Normal(0.0, [1.0, 2.0]), unit="nats")
    infomap = InfoMask(network, score=score).score_regions(
        x, target=1, value=[0.25, 0.5], view="drop", regions=grid(x, 2, 2)
    )
    infomap.save(tmp_path / "map.safetensors")
    loaded = InfoMap.load(tmp_path / "map.safetensors")
    assert loaded.score == score
    assert torch.equal(loaded.value, infomap.value)
    assert (loaded.is_prediction, repr(loaded)) == (False, repr(infomap))
    assert "value 0.25 of output 1; value 0.5 of output 1" in repr(infomap)
    assert infomap[1].value.tolist() == [0.5]
    table = infomap.to_pandas()
    assert table["output"].tolist() == [1] * 8
    assert table["value"].tolist() == [0.25] * 4 + [0.5] * 4
    assert "class" not in table
    figure, _ = infomap.figure(k=1)
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    titles = " ".join(axes.get_title() + axes.get_title(loc="left") for axes in figure.axes)
    assert "value 0.5 of output 1" in words + titles


def test_settings_are_written_as_python() -> None:
    score = Score(head=Gaussian(3), prior=Normal(40, 12))
    head, prior = "Gaussian(sigma=3.0)", "Normal(mean=40.0, std=12.0)"
    assert repr(score) == f"Score(head={head}, prior={prior}, unit='bits')"
    assert eval(repr(score)) == score
    assert hash(score) == hash(Score(head=Gaussian(3.0), prior=Normal(40.0, 12.0)))
    assert score != Score(head=Gaussian(3), prior=Normal(40, 11))


def test_priors_and_scales_are_estimated() -> None:
    values = torch.tensor([[1.0, 10.0], [3.0, 10.0], [5.0, 40.0]], dtype=torch.float64)
    wanted = Normal([3.0, 20.0], [2.0, math.sqrt(300.0)])
    batches = [(torch.zeros(2, 1), values[:2]), (torch.zeros(1, 1), values[2:])]
    for given in (values, values.numpy(), values.tolist(), batches):
        found = estimate_prior(given, of="values")
        assert found.mean == pytest.approx(wanted.mean)
        assert found.std == pytest.approx(wanted.std)
    assert estimate_prior([31, 45, 38], of="values") == Normal(38.0, 7.0)
    assert Gaussian.of_errors(values).sigma == pytest.approx(
        (math.sqrt(35 / 3), math.sqrt(1800 / 3))
    )
    assert Laplace.of_errors([-1.0, 3.0]).scale == 2.0


REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("`sigma` to be a finite number above 0", lambda: Gaussian(0.0)),
    ("one per column; got an empty list", lambda: Laplace([])),
    ("`std` to be a finite number above 0", lambda: Normal(0.0, -1.0)),
    ("same number of columns", lambda: Normal([0.0, 1.0], [1.0, 2.0, 3.0])),
    (r"Normal\(mean, std\)", lambda: Score(head=Gaussian(1.0))),
    (r"Normal\(mean, std\)", lambda: Score(head=Gaussian(1.0), prior=[0.5, 0.5])),
    ("which is for values", lambda: Score(prior=Normal(0.0, 1.0))),
    ("same columns", lambda: Score(head=Gaussian([1.0, 2.0]), prior=Normal([0.0] * 3, 1.0))),
    (r"Gaussian\(sigma\), of", lambda: Score(head="gaussian")),
    (r"Gaussian\(sigma\), of", lambda: Score(head=Gaussian)),
    (r"Laplace\(scale\), of", lambda: Score(head="MAE")),
    ("of_errors", lambda: Score(head=Gaussian(1.0), prior=PRIOR, temperature=2.0)),
    ("Expected no `groups`", lambda: Score(head=Gaussian(1.0), prior=PRIOR, groups=[[0]])),
    ("pc_softmax", lambda: Score(head=Gaussian(1.0), prior=PRIOR, trained_with="pc_softmax")),
    ("two values that differ", lambda: estimate_prior([2.0, 2.0], of="values")),
    ("finite numbers", lambda: estimate_prior([2.0, math.nan], of="values")),
    ("Expected no `classes`", lambda: estimate_prior([2.0], of="values", classes=3)),
    ("`sigma` to be a finite number above 0", lambda: Gaussian.of_errors([0.0, 0.0])),
    ("yield values", lambda: estimate_prior([(torch.rand(2), ["a", "b"])], of="values")),
    ("yield values", lambda: estimate_prior([(torch.rand(2), [torch.rand(2)] * 2)], of="values")),
    ("mean of='labels'", lambda: estimate_prior([2.0, 3.0], of="values", classes=3)),
    ("a class per example", lambda: estimate_prior([1, "a"])),
    ("of='values' takes", lambda: estimate_prior([1, 2.5])),
    ("`value` to be a number", lambda: checked_values(10**400, 1)),
    ("`value` to be a number", lambda: checked_values(torch.tensor([1j]), 1)),
]


@pytest.mark.parametrize(("words", "call"), REFUSED)
def test_wrong_settings_are_refused(words: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ArgumentError, match=words):
        call()


CALLS: list[tuple[str, Callable[[InfoMask, Tensor], Any]]] = [
    ("one with classes: score_classes", lambda i, x: i.score_classes(x)),
    ("Expected no `contrast`", lambda i, x: i.score_regions(x, contrast=1)),
    (
        r"got 3\.5\. The value that bits are",
        lambda i, x: i.attribute(x, target=3.5),
    ),
    ("column of the output, an int", lambda i, x: i.attribute(x, target=torch.rand(2))),
    ("column of the output, an int", lambda i, x: i.attribute(x, target=[0.5, 1.5])),
    ("`value` to be a number, or one per example, 2", lambda i, x: i.attribute(x, value=[1.0] * 3)),
    ("`value` to be a number", lambda i, x: i.attribute(x, value="old")),
    ("`value` to be finite", lambda i, x: i.attribute(x, value=math.nan)),
    ("compare reads", lambda i, x: compare(i.forward_func, x, score=i.score)),
    ("compare reads", lambda i, x: compare(i.forward_func, x, head=Gaussian(1.0), prior=PRIOR)),
    ("of compare is about", lambda i, x: compare(i.forward_func, x, methods={"InfoMask": i})),
    ("a run scores", lambda i, x: run_dataset([(x[0], 0)], i.forward_func, "never", score=i.score)),
    ("fit_temperature", lambda i, x: fit_temperature(i.forward_func, [(x, x)], score=i.score)),
    ("bounds are", lambda i, x: log_softmax_sandwich(x[:, 0, 0], 0, score=i.score)),
    (
        "predictions are",
        lambda i, x: estimate_prior(
            x, of="predictions", forward_func=i.forward_func, score=i.score
        ),
    ),
]


@pytest.mark.parametrize(("words", "call"), CALLS)
def test_what_needs_classes_is_refused_before_the_network_runs(
    words: str, call: Callable[[InfoMask, Tensor], Any]
) -> None:
    network = Counted(lambda x: x.mean((1, 2, 3)))
    infomask = InfoMask(network, head=Gaussian(0.1), prior=PRIOR)
    with pytest.raises(ArgumentError, match=words):
        call(infomask, torch.rand(2, 1, 4, 4))
    assert network.calls == 0


def test_heads_of_classes_take_no_value() -> None:
    x = torch.rand(1, 1, 4, 4)
    infomask = InfoMask(lambda x: x.flatten(1))
    with pytest.raises(ArgumentError, match=r"Expected no `value` for head='logits'.*Gaussian"):
        infomask.attribute(x, target=0, value=2.0)
    with pytest.raises(ArgumentError, match="Expected no `value`"):
        information(x.flatten(1), 0, value=1.0)


@pytest.mark.parametrize(
    ("words", "settings", "target"),
    [
        ("target.*as `prior` has 2 columns; got 2", {"prior": Normal([0.0, 1.0], 3.0)}, 2),
        ("target.*as `prior` has 2 columns; got None", {"prior": Normal([0.0, 1.0], 3.0)}, None),
        ("`head` for 3 columns", {"head": Gaussian([0.1, 0.2]), "prior": PRIOR}, 0),
        ("between 0 and 2", {"prior": PRIOR}, 3),
        ("to pick one value per example", {"prior": PRIOR}, None),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    words: str, settings: dict[str, Any], target: int | None
) -> None:
    infomask = InfoMask(small_network(3), **{"head": Gaussian(0.1), **settings})
    with pytest.raises(ArgumentError, match=words):
        infomask.score_regions(torch.rand(1, 1, 6, 6).double(), target=target)


def test_the_second_column_of_one_is_refused() -> None:
    infomask = InfoMask(small_network(), head=Gaussian(0.1), prior=PRIOR)
    with pytest.raises(ArgumentError, match=r"`target` 0 or None.*got 1\. The value"):
        infomask.attribute(torch.rand(1, 1, 6, 6).double(), target=1)


def test_a_variance_in_the_place_of_sigma_is_doubted() -> None:
    infomask = InfoMask(small_network(), head=Gaussian(9.0), prior=Normal(0.0, 4.0))
    with pytest.warns(UserWarning, match=r"has -1.17 bits.*no variance"):
        infomask.attribute(torch.rand(1, 1, 6, 6).double())
