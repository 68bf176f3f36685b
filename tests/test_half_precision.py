# Networks in bfloat16, float16 and float64: inputs follow their type, results are float32 at least.
import copy

import numpy as np
import pytest
import torch
from PIL import Image
from refused import refused
from state import unchanged
from torch import nn

from captum_infomask import (
    ArgumentError,
    Incremental,
    InfoMask,
    compare,
    fit_temperature,
    measure_bounds,
    run_dataset,
)
from captum_infomask.cli import main
from captum_infomask.models.classifier import Classifier, log_probabilities
from captum_infomask.models.loading import as_classifier
from captum_infomask.models.preprocessing import Preprocess

HALVES = (torch.bfloat16, torch.float16)
KINDS = (*HALVES, torch.float64)
WINDOWS = {"sliding_window_shapes": (3, 6, 6), "strides": (3, 3, 3)}


def network():
    torch.manual_seed(3)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )
    nn.init.normal_(made[-1].weight, std=6.0)
    made[-1].bias.data.copy_(torch.tensor([-2.0, -1.0, 2.0, 1.0]))
    return made.eval()


@pytest.fixture
def pictures():
    """Pictures that half precision holds exactly."""
    generator = torch.Generator().manual_seed(0)
    made = torch.randint(64, (2, 3, 12, 12), generator=generator) / 16
    made[..., 7:, :] = made[..., 8:] = 0.0  # what is left tells all
    return made


def of_kind(kind):
    """A network of a type, and the same numbers in float32."""
    made = network().to(kind)
    return made, copy.deepcopy(made).float()


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("view", [None, "relay", "evidence"])
def test_views_of_features_run_a_copy_in_float32(pictures, kind, view):
    half, wide = of_kind(kind)
    with unchanged(half):
        found = InfoMask(half).score_regions(pictures.to(kind), target=1, view=view)
    wanted = InfoMask(wide).score_regions(pictures, target=1, view=view)
    assert found.engine == wanted.engine
    assert found.scores.dtype == torch.float32
    assert torch.equal(found.scores, wanted.scores)
    assert torch.equal(found.total, wanted.total)
    assert {each.dtype for each in half.parameters()} == {kind}


@pytest.mark.parametrize("kind", HALVES)
def test_they_are_those_of_the_network_in_float32_but_for_its_rounding(pictures, kind):
    half = network().to(kind)
    found = InfoMask(half).attribute(pictures.to(kind), target=1)
    wanted = InfoMask(network()).attribute(pictures, target=1)
    assert found.dtype == torch.float32
    off, largest = (found - wanted).abs().max(), wanted.abs().max()
    assert 0 < off < 4 * torch.finfo(kind).eps * largest


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("view", ["drop", "keep", "chain", "crop", "features"])
def test_other_views_run_as_the_network_is(pictures, kind, view):
    half, wide = of_kind(kind)
    found = InfoMask(half).score_regions(pictures.to(kind), target=1, view=view, **WINDOWS)
    wanted = InfoMask(wide).score_regions(pictures, target=1, view=view, **WINDOWS)
    assert found.scores.dtype == torch.float32
    off = (found.scores - wanted.scores).abs().max()
    assert 0 < off < 16 * torch.finfo(kind).eps * wanted.scores.abs().max()


def test_a_layer_of_a_network_in_half_precision(pictures):
    half, wide = of_kind(torch.bfloat16)
    found = InfoMask(half).attribute(pictures.bfloat16(), target=1, view="evidence", layer=half[0])
    wanted = InfoMask(wide).attribute(pictures, target=1, view="evidence", layer="0")
    assert torch.equal(found, wanted)


def test_functions_of_networks_in_half_precision_are_told_to_be_modules(pictures):
    half = network().bfloat16()

    def ask(view):
        return InfoMask(lambda x: half(x) + 0).attribute(pictures.bfloat16(), target=1, view=view)

    with unchanged(half):
        refused(("half precision", "Pass the network itself"), lambda: ask("relay"))
        with pytest.warns(UserWarning, match="view='drop' is used instead"):
            assert ask(None).dtype == torch.float32


def test_a_function_without_a_network_runs_in_float32(pictures):
    def ends(x):
        return torch.stack([x.square().mean((1, 2, 3)), x.mean((1, 2, 3))], 1) * 40

    found = InfoMask(ends).attribute(pictures.bfloat16(), target=1, view="relay")
    assert torch.equal(found, InfoMask(ends).attribute(pictures, target=1, view="relay"))


class Casting(nn.Module):
    """A network that converts its inputs by itself, to one type alone."""

    def __init__(self):
        super().__init__()
        self.net = network().bfloat16()

    def forward(self, x):
        return self.net(x.bfloat16()).float()


def test_networks_that_cannot_run_in_float32_say_so(pictures):
    casting = Casting().eval()
    refused(
        ("its copy in float32 raised", "view='drop'"),
        lambda: InfoMask(casting).attribute(pictures.bfloat16(), target=1, view="relay"),
    )
    alone = InfoMask(casting).attribute(pictures, target=1, view="relay")
    assert alone.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_compare_feeds_what_the_network_takes(pictures, kind):
    made, wide = of_kind(kind)
    metrics = ["deletion", "infidelity", "sensitivity"]
    with unchanged(made):
        found = compare(made, pictures[:1], metrics=metrics)
    wanted = compare(wide, pictures[:1], metrics=metrics)
    assert found.troubles == ()
    assert (found.predictions == wanted.predictions).all()
    for one, other in zip(found.outcomes, wanted.outcomes, strict=True):
        assert one.errors == ("",)
        largest = abs(other.planes).max()
        off = abs(one.planes - other.planes).max()
        assert off <= (0.05 if kind in HALVES else 1e-5) * largest, one.name
        assert one.planes.dtype == np.float32
        assert np.isfinite([values[0] for values in one.metrics.values()]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("view", [None, "drop"])
def test_runs_feed_what_the_network_takes(pictures, tmp_path, kind, view):
    made, _ = of_kind(kind)
    options = {} if view is None else {"view": view, **WINDOWS}
    run = run_dataset(pictures, made, tmp_path, workers=0, batch_size=2, **options)
    assert run.table["error"].null_count == 2
    targets = run.table["target"].to_pylist()
    wanted = InfoMask(made).score_regions(pictures.to(kind), target=targets, **options)
    found = torch.tensor(run.table["scores"].to_pylist(), dtype=wanted.scores.dtype)
    assert torch.equal(found, wanted.scores)
    assert found.dtype == (torch.float64 if kind is torch.float64 else torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_critics_and_classifiers_feed_what_the_network_takes(pictures, kind):
    made, wide = of_kind(kind)
    classifier = as_classifier(made)
    assert len(classifier.categories) == 4
    tiny = Classifier("tiny", made, tuple("abcd"))
    own = log_probabilities(tiny, pictures[:1])
    torch.testing.assert_close(own, wide(pictures)[0].log_softmax(0), atol=0.05, rtol=0)
    labels = wide(pictures[:1]).argmax(1).repeat(3)
    batch = [(pictures[[0, 0, 0]], torch.cat([labels[:2], (labels[:1] + 1) % 4]))]
    exact = measure_bounds(wide, batch).information
    assert abs(measure_bounds(made, batch).information - exact) < 0.05
    assert fit_temperature(made, batch).count == 3


def half_classifier():
    """A classifier that the command line names."""
    size = Preprocess(resize=12, crop=12, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Classifier("half", network().bfloat16(), tuple("abcd"), size)


@pytest.mark.parametrize(
    "words",
    [
        ["attribute", "--view", "drop", "--out", "{0}/map.png"],
        ["attribute", "--out", "{0}/map.png"],
        ["attribute", "--method", "grad-cam", "--out", "{0}/map.png"],
        ["compare", "--out", "{0}/page.html", "--json", "{0}/page.json"],
    ],
    ids=" ".join,
)
def test_the_command_line_feeds_what_the_network_takes(tmp_path, capsys, words):
    pixels = np.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    command, *more = [word.format(tmp_path) for word in words]
    named = ["--model", "test_half_precision:half_classifier", "--quiet"]
    main([command, str(tmp_path / "a.png"), *named, *more])
    assert "Error" not in capsys.readouterr().err
    assert any(path.suffix in (".png", ".html") for path in tmp_path.iterdir())
    if command == "compare":
        assert "TypeError" not in (tmp_path / "page.json").read_text()


class Whole(nn.Module):
    """A network that turns autocast off for itself."""

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return torch.stack([x.square().flatten(1).mean(1), x.flatten(1).mean(1)], 1) * 20


@pytest.mark.parametrize("imputer", ["blur", "local_mean"])
@pytest.mark.parametrize("size", [(24,), (12, 12), (6, 6, 6)])
def test_autocast_is_for_the_network_alone(size, imputer):
    x = torch.rand(2, 2, *size, generator=torch.Generator().manual_seed(0))
    infomask, given = InfoMask(Whole()), {"target": 1, "view": "drop", "imputer": imputer}
    wanted = infomask.score_regions(x, **given).scores
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = infomask.score_regions(x, **given).scores
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert wanted.std() > 1e-4


class Cast(nn.Module):
    """A network that sets autocast for itself, and returns float32."""

    def __init__(self, is_on):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3)
        self.is_on = is_on

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.is_on):
            return self.last(torch.tanh(self.first(x)).mean((2, 3))).float() * 9


COLOURS = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("view", ["evidence", "relay"])
def test_steps_run_again_as_the_network_ran_them(view):
    infomask = InfoMask(Cast(is_on=False).eval())
    wanted = infomask.score_regions(COLOURS, target=1, view=view)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = infomask.score_regions(COLOURS, target=1, view=view)
    assert found.engine == wanted.engine
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=1e-6)
    assert wanted.scores.std() > 1e-3


@pytest.mark.parametrize("view", ["evidence", "relay"])
@pytest.mark.parametrize("around", [False, True])
def test_steps_under_autocast_are_too_coarse(view, around):
    infomask = InfoMask(Cast(is_on=True).eval())
    with (
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=around),
        pytest.raises(ArgumentError, match=r"in half precision under torch\.autocast"),
    ):
        infomask.attribute(COLOURS, target=1, view=view)


def test_the_incremental_engine_says_that_a_network_turns_autocast_on():
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": 4}
    given = {"target": 1, "view": "drop", "engine": Incremental(least_gain=0.0), **windows}
    found = InfoMask(Cast(is_on=True).eval()).score_regions(COLOURS, **given)
    assert found.engine == "batched (it turns torch.autocast on)"
    found = InfoMask(Cast(is_on=False).eval()).score_regions(COLOURS, **given)
    assert found.engine == "incremental"


def test_maps_are_painted_alike_under_autocast():
    x = torch.rand(1, 3, 18, 14, generator=torch.Generator().manual_seed(0))
    given = {"target": 1, "view": "relay"}
    found = InfoMask(network()).score_regions(x, **given)
    wanted = found.attributions()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(found.attributions(), wanted)
    assert wanted.std() > 1e-4
