# What the network returns is read as what it is, everywhere, and said where it is not.
from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from refused import refused
from tiny import VIEWS, WINDOWS, Net, images, randomise
from torch import Tensor, nn

from captum_infomask import (
    Deletion,
    InfoMask,
    compare,
    default_methods,
    fit_critic,
    fit_temperature,
    information,
    measure_bounds,
    run_dataset,
)
from captum_infomask.cli import main
from captum_infomask.evaluation.choose_metrics import choose_metrics
from captum_infomask.evaluation.metric_protocol import Sample
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.preprocessing import Preprocess

X = images()
NET = Net()
METHODS = ["InfoMask", "InfoMask drop", "Occlusion"]


class Ended(nn.Module):
    """A network, and what its logits end in."""

    def __init__(self, end: Callable[[Tensor], Tensor], network: nn.Module = NET) -> None:
        super().__init__()
        self.network, self.end = network, end
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.network(x))


PROBS, LOG_PROBS = Ended(nn.Softmax(1)), Ended(nn.LogSoftmax(1))
LABELS, ONE, FLAT = (
    Ended(lambda y: y),
    Ended(lambda y: y[:, 1:2]),
    Ended(lambda y: y[:, 1]),
)


def messages(call: Callable[[], Any], words: str = "look like probabilities") -> list[Any]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [one for one in caught if words in str(one.message)]


# --- probabilities read as logits -----------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("method", ["attribute", "mask", "score_regions"])
def test_probabilities_read_as_logits_are_told_once_a_call(view: str, method: str) -> None:
    call = getattr(InfoMask(PROBS), method)
    (said,) = messages(lambda: call(X, target=1, view=view, **WINDOWS))
    assert said.category is UserWarning
    assert said.filename == __file__
    assert 'head="probs"' in str(said.message)
    assert messages(lambda: getattr(InfoMask(NET), method)(X, target=1, view=view)) == []
    right = InfoMask(PROBS, head="probs").score_regions(X, target=1, view=view, **WINDOWS)
    plain = InfoMask(NET).score_regions(X, target=1, view=view, **WINDOWS)
    torch.testing.assert_close(right.scores, plain.scores, atol=1e-4, rtol=1e-4)
    assert float(plain.scores.abs().max()) > 0.05


def test_every_reader_of_outputs_tells_probabilities_from_logits() -> None:
    labels = torch.tensor([0, 1])
    batches = [(X.repeat(4, 1, 1, 1), labels.repeat(4))] * 2
    calls = [
        lambda: InfoMask(PROBS).score_classes(X),
        lambda: information(PROBS(X).detach(), 1),
        lambda: compare(PROBS, X, 1, metrics=["deletion"]),
        lambda: compare(PROBS, X, 1, metrics=[], methods=["Occlusion"]),
        lambda: fit_temperature(PROBS, batches),
        lambda: measure_bounds(PROBS, batches),
        lambda: fit_critic(PROBS, [x for x, _ in batches], steps=1, window_shapes=[4]),
    ]
    for call in calls:
        (said,) = messages(call)
        assert said.filename == __file__
    for half in (torch.float16, torch.bfloat16):
        assert len(messages(lambda half=half: information(PROBS(X).detach().to(half), 1))) == 1
    many = Ended(nn.Softmax(1), nn.Sequential(nn.Flatten(), nn.Linear(192, 2000)))
    assert len(messages(lambda: InfoMask(many).attribute(X, target=1, view="drop"))) == 1


def fixed(*rows: list[float]) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.tensor(rows)[:1].expand(len(x), -1)


@pytest.mark.parametrize(
    ("forward", "settings"),
    [
        (fixed([0.0, 0.0]), {}),
        (fixed([0.2, 0.3]), {}),
        (fixed([1.0, 0.0, 0.0]), {}),
        (fixed([1.5, -0.5]), {}),
        (lambda x: x.mean((1, 2, 3))[:, None], {"head": "raw"}),
        (fixed([0.5]), {"head": "raw"}),
        (fixed([0.25, 0.75]), {"head": "probs"}),
        (lambda x: 4 * x.mean((2, 3))[:, :2] - 2, {"head": "sigmoid"}),
        (fixed([0.0, 1.0]), {"head": "sigmoid"}),
    ],
)
def test_logits_that_lie_near_probabilities_are_left_alone(
    forward: Callable[[Tensor], Tensor], settings: dict[str, Any]
) -> None:
    infomask = InfoMask(forward, **settings)
    assert messages(lambda: infomask.attribute(X, target=0, **WINDOWS)) == []


def test_one_picture_that_sums_to_one_by_chance_is_left_alone() -> None:
    logits = lambda x: torch.stack([x.mean((1, 2, 3)), 2.75 - 8 * x[:, 0, 0, 0]], 1)  # noqa: E731
    flat = torch.full((1, 3, 8, 8), 0.25)
    assert float(logits(flat).sum()) == 1
    assert messages(lambda: InfoMask(logits).attribute(flat, target=0, view="drop")) == []


def test_sigmoid_outputs_read_as_logits_are_told() -> None:
    twice = Ended(torch.sigmoid)
    for call in (
        lambda: InfoMask(twice, head="sigmoid").attribute(X, target=1, view="crop"),
        lambda: InfoMask(Ended(lambda y: y[:, 1].sigmoid()), head="sigmoid").attribute(
            X, view="crop"
        ),
        lambda: compare(twice, X, 1, head="sigmoid", metrics=[]),
    ):
        (said,) = messages(call)
        for words in ('head="probs"', "torch.logit(model(x), eps=1e-6)"):
            assert words in str(said.message)
    right = InfoMask(lambda x: torch.logit(twice(x), eps=1e-6), head="sigmoid")
    assert messages(lambda: right.attribute(X, target=1)) == []
    torch.testing.assert_close(
        right.attribute(X, target=1),
        InfoMask(NET, head="sigmoid").attribute(X, target=1),
        atol=1e-3, rtol=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["attribute", "mask", "score_regions", "score_classes"])
def test_a_network_that_ends_in_a_sigmoid_is_told_that_its_outputs_are_no_logits(
    method: str,
) -> None:
    target = {} if method == "score_classes" else {"target": 1}
    untrained = Ended(torch.sigmoid, randomise(Net(), 0.1))
    assert bool((untrained(X) < 0.5).all())
    for network in (Ended(torch.sigmoid), untrained):
        call = getattr(InfoMask(network), method)
        (said,) = messages(lambda call=call: call(X, **target, view="drop"))
        assert said.filename == __file__
        for words in ('head="logits" puts them through a softmax', "torch.logit(model(x), eps="):
            assert words in str(said.message)
    (said,) = messages(lambda: compare(untrained, X.repeat(2, 1, 1, 1), 1, metrics=[]))
    assert 'head="sigmoid"' in str(said.message)
    (said,) = messages(lambda: information(Ended(torch.sigmoid)(X).detach(), 1))
    assert 'head="sigmoid"' in str(said.message)


@pytest.mark.parametrize("head", ["logits", "sigmoid"])
def test_logits_of_untrained_networks_are_left_alone(head: Any) -> None:
    near = lambda low, high: lambda x: low + (high - low) * x[:, :, 3, 3]  # noqa: E731
    for forward in (near(0.0, 0.4), near(0.6, 0.9), near(-0.5, 0.8), near(0.3, 2.0)):
        infomask = InfoMask(forward, head=head)
        assert messages(lambda i=infomask: i.attribute(X, target=0, view="drop")) == []


def test_one_logit_near_a_half_is_left_alone_and_probabilities_of_one_are_told() -> None:
    one = lambda scale: lambda x: (scale * (x[:, 0].mean((1, 2)) - 0.5)).sigmoid()  # noqa: E731
    for scale, told in ((0.5, 0), (2.0, 0), (40.0, 1)):
        infomask = InfoMask(one(scale), head="sigmoid")
        assert len(messages(lambda i=infomask: i.attribute(X, view="crop"))) == told


def test_many_labels_are_told_though_none_is_likely() -> None:
    rare = lambda x: torch.sigmoid(x.flatten(1)[:, :20] - 4)  # noqa: E731
    rectified = lambda x: (x.flatten(1)[:, :20] / 2 - 0.2).relu()  # noqa: E731
    for head in ("logits", "sigmoid"):
        for forward, told in ((rare, 1), (rectified, 0)):
            infomask = InfoMask(forward, head=head)
            assert len(messages(lambda i=infomask: i.attribute(X, target=0, view="drop"))) == told


def test_the_advice_fits_what_the_outputs_are() -> None:
    advice = {
        ("probs", torch.sigmoid): ("torch.logit(model(x), eps=1e-6)", "head='sigmoid'"),
        ("probs", nn.LogSoftmax(1)): ("head='log_probs'?",),
        ("probs", nn.Identity()): ("head='logits'?",),
        ("log_probs", nn.Softmax(1)): ("head='probs'?",),
        ("log_probs", nn.LogSigmoid()): ("torch.logit(model(x).exp(), eps=1e-6)",),
        ("log_probs", nn.Identity()): ("head='logits'?",),
    }
    for (head, end), words in advice.items():
        error = refused(
            ("`forward_func`", "sum to 1", *words),
            lambda head=head, end=end: InfoMask(Ended(end), head=head).attribute(X, target=1),
        )
        if end is torch.sigmoid:
            assert "logits'" not in str(error)


# --- a comparison reads outputs as it is told -----------------------------------------------------


def test_a_comparison_of_probabilities_is_that_of_their_logits() -> None:
    plain = compare(NET, X, 1, methods=METHODS)
    for network, head in ((PROBS, "probs"), (LOG_PROBS, "log_probs")):
        found = compare(network, X, 1, methods=METHODS, head=head)
        for name in METHODS:
            ours, theirs = found[name], plain[name]
            # Without regions, steps of the heads themselves are on the way that bits take back.
            far = 0.03 if name == "InfoMask" else 1e-4
            np.testing.assert_allclose(ours.planes, theirs.planes, atol=far)
            for metric in ("deletion", "insertion"):
                np.testing.assert_allclose(ours.metrics[metric], theirs.metrics[metric], atol=1e-5)
            assert ours.planes.std() > 0.01
        np.testing.assert_allclose(found.information, plain.information, atol=1e-5)
        assert (found.predictions == plain.predictions).all()
        assert ("Read as", f"head={head!r}, unit='bits'") in found.settings
        assert f"head={head!r}" in found.call


@torch.no_grad()
def walked(network: nn.Module, plane: np.ndarray, read: Callable[[Tensor], Tensor]) -> float:
    """Deletion of picture 0 in four steps, as its docstring says it: equal pixels go together."""
    gone = [plane.flatten() >= value for value in [np.inf, *np.unique(plane)[::-1]]]
    at_edges = []
    for hidden in gone:
        shown = X[:1].clone().reshape(1, 3, 64)
        shown[:, :, torch.from_numpy(hidden)] = 0
        at_edges.append(float(read(network(shown.reshape(1, 3, 8, 8)))[0]))
    said = np.interp([0, 16, 32, 48, 64], [hidden.sum() for hidden in gone], at_edges)
    return float(said.sum() - (said[0] + said[-1]) / 2) / 4


@pytest.mark.parametrize(
    ("network", "settings", "read"),
    [
        (LABELS, {}, lambda y: y[:, 1].sigmoid()),
        (LABELS, {"temperature": 2.0, "prior": [0.1, 0.2, 0.3, 0.4, 0.5]},
         lambda y: (y[:, 1] / 2).sigmoid()),
        (ONE, {"prior": 0.2}, lambda y: y[:, 0].sigmoid()),
        (FLAT, {"prior": 0.2}, lambda y: y.sigmoid()),
    ],
    ids=["labels", "labels with settings", "one logit", "one logit without classes"],
)  # fmt: skip
def test_labels_that_are_independent_and_networks_of_one_logit(
    network: nn.Module, settings: dict[str, Any], read: Callable[[Tensor], Tensor]
) -> None:
    target = 1 if network is LABELS else 0
    found = compare(
        network, X, target, head="sigmoid", metrics={"deletion": Deletion(4)}, **settings
    )
    assert [one.error for one in found.outcomes] == [""] * 6
    prior = settings.get("prior", 0.5)
    prior = prior[1] if isinstance(prior, list) else prior
    with torch.no_grad():
        p = read(network(X)).double().numpy()
    np.testing.assert_allclose(found.probabilities, p, atol=1e-6)
    np.testing.assert_allclose(found.information, np.log2(p / prior), atol=1e-5)
    np.testing.assert_allclose(found.bounds, -math.log2(prior))
    assert f"of at most -log2 p(y) = {-math.log2(prior):.2f} bits" in found.text()
    assert f"{-math.log2(prior):.2f} bits" in [
        fact for fact, _ in found.content().pictures[0].facts
    ]
    given = target if network is not FLAT else None
    for name, view in (("InfoMask", None), ("InfoMask drop", "drop")):
        ours = InfoMask(network, head="sigmoid", **settings).attribute(X, target=given, view=view)
        np.testing.assert_allclose(found[name].planes, ours.mean(1).numpy(), atol=1e-6)
        assert ours.abs().max() > 0.01
    nats = found["InfoMask drop"].planes * math.log(2)
    np.testing.assert_allclose(found["Occlusion"].planes, nats, atol=1e-5)
    for name in ("InfoMask drop", "centred blob (control)"):
        expected = walked(network, found[name].planes[0], read)
        assert found[name].metrics["deletion"][0] == pytest.approx(expected, abs=1e-6)


def test_what_a_network_of_one_logit_predicts_is_said_by_its_probability() -> None:
    sure, unsure = (Ended(lambda y, s=s: s + 0 * y[:, 1:2]) for s in (2.0, -2.0))
    words = {}
    for network in (sure, unsure):
        found = compare(network, X[:1], head="sigmoid", methods=["centred blob (control)"])
        words[network] = (found.text().splitlines()[0], int(found.predictions[0]))
    assert "(class 0, its prediction), p(y | x) = 0.881" in words[sure][0]
    assert "(class 0, not its prediction), p(y | x) = 0.119" in words[unsure][0]
    assert (words[sure][1], words[unsure][1]) == (0, -1)
    both = Ended(lambda y: 0 * y[:, :3] + torch.tensor([1.0, 3.0, -1.0]))
    found = compare(both, X.repeat(2, 1, 1, 1)[:3], [0, 1, 2], head="sigmoid", metrics=[])
    assert found.predictions.tolist() == [0, 1, 1]


def test_priors_and_temperatures_reach_all_that_reads_a_softmax() -> None:
    prior, temperature = [0.1, 0.2, 0.3, 0.3, 0.1], 2.5
    for trained_with in ("cross_entropy", "pc_softmax"):
        settings = {"prior": prior, "temperature": temperature, "trained_with": trained_with}
        found = compare(
            NET, X, [1, 3], methods=METHODS, metrics={"deletion": Deletion(4)}, **settings
        )
        score = InfoMask(NET, **settings)
        expected = score.score_regions(X, target=[1, 3], view="drop")
        np.testing.assert_allclose(found.information, expected.total.numpy(), atol=1e-5)
        np.testing.assert_allclose(found.bounds, -np.log2([0.2, 0.3]))
        np.testing.assert_allclose(
            found["Occlusion"].planes, found["InfoMask drop"].planes * math.log(2), atol=1e-5
        )
        shift = torch.tensor(prior).log() if trained_with == "pc_softmax" else 0
        read = lambda y, shift=shift: (y / temperature + shift).softmax(1)[:, 1]  # noqa: E731
        deletion = walked(NET, found["Occlusion"].planes[0], read)
        assert found["Occlusion"].metrics["deletion"][0] == pytest.approx(deletion, abs=1e-6)
        plain = walked(NET, found["Occlusion"].planes[0], lambda y: y.softmax(1)[:, 1])
        assert abs(deletion - plain) > 0.005
    made = default_methods(NET, X, prior=prior, temperature=temperature)
    infomask, _ = made["InfoMask"]
    assert infomask.score.prior.tolist() == prior
    assert infomask.score.temperature == temperature


def test_metrics_of_other_packages_get_what_they_ask_for() -> None:
    seen: dict[str, Tensor] = {}

    def road(self: Any, picture: Tensor, plane: Any, targets: Any, model: nn.Module) -> Any:
        seen["road"] = model(picture)
        return [float(target(out)) for target, out in zip(targets, model(picture), strict=True)]

    def quantus(self: Any, *, model: nn.Module, x_batch: Any, **rest: Any) -> list[float]:
        seen["quantus"] = model(torch.tensor(x_batch))
        return [1.0]

    kinds = [
        type("ROADCombined", (), {"__call__": road, "__module__": "pytorch_grad_cam.metrics.road"}),
        type("Selectivity", (), {"__call__": quantus, "__module__": "quantus.metrics"}),
    ]
    metrics = choose_metrics([kind() for kind in kinds], has_truth=False)
    cases = [
        (NET, {}, lambda y: y.softmax(1)[:, 1], lambda y: y),
        (PROBS, {"head": "probs"}, lambda y: y[:, 1], torch.log),
        (FLAT, {"head": "sigmoid"}, torch.sigmoid, lambda y: y[:, None]),
        (NET, {"temperature": 2.0}, lambda y: (y / 2).softmax(1)[:, 1],
         lambda y: (y / 2).log_softmax(1)),
    ]  # fmt: skip
    for network, settings, probability, logits in cases:
        target = 0 if network is FLAT else 1
        found = compare(network, X[:1], target, methods=["Occlusion"], metrics=metrics, **settings)
        assert found.troubles == ()
        output = network(X[:1]).detach()
        road_found = found["Occlusion"].metrics["ROADCombined"][0]
        assert road_found == pytest.approx(float(probability(output)), abs=1e-6)
        torch.testing.assert_close(seen["quantus"], logits(output))


def test_a_sample_reads_by_its_score() -> None:
    given = {
        "inputs": X[:1], "target": 1, "attributions": X[:1], "plane": X[0, 0], "mask": X[0, 0] > 0,
        "attribute": lambda x: x, "fill": X[:1],
    }  # fmt: skip
    plain = Sample(forward=NET, **given)
    torch.testing.assert_close(plain.probability(X), NET(X).double().softmax(1)[:, 1])
    torch.testing.assert_close(plain.log_probability(X), NET(X).log_softmax(1)[:, 1])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head": "raw"}, ("`head`", "'raw'")),
        ({"head": "prob"}, ("`head`", "mean 'probs'?")),
        ({"prior": [0.5, 0.6]}, ("`prior`", "sum to 1")),
        ({"prior": [0.0, 0.5, 0.5]}, ("`prior`", "class 0 has 0")),
        ({"temperature": 0}, ("`temperature`",)),
        ({"trained_with": "pc_softmax", "head": "probs"}, ("head='logits'",)),
    ],
)
def test_bad_readings_are_refused_before_the_network_runs(
    settings: dict[str, Any], words: tuple[str, ...]
) -> None:
    def never(x: Tensor) -> Tensor:
        raise RuntimeError("the network ran")

    refused(words, lambda: compare(never, X, 0, **settings))
    if "prior" not in settings or "sum" in words[1]:
        refused(words, lambda: default_methods(never, X, **settings))


def test_outputs_that_a_comparison_cannot_read_are_refused() -> None:
    refused(("`model`", "at least two classes", "head='sigmoid'"), lambda: compare(ONE, X, 0))
    refused(("`model`", "head='sigmoid'"), lambda: compare(FLAT, X, 0))
    refused(("`model`", "sum to 1"), lambda: compare(NET, X, 0, head="probs"))
    refused(("`prior`", "5 probabilities"), lambda: compare(NET, X, 0, prior=[0.5, 0.5]))
    refused(("`target`", "0 or None"), lambda: compare(FLAT, X, 1, head="sigmoid"))


def test_one_number_per_picture_is_class_0() -> None:
    flat, one = (InfoMask(network, head="sigmoid") for network in (FLAT, ONE))
    expected = one.attribute(X, target=0, view="drop")
    assert torch.equal(flat.attribute(X, target=0, view="drop"), expected)
    assert torch.equal(flat.attribute(X, view="drop"), expected)
    maps = flat.score_classes(X, view="drop", **WINDOWS)
    assert torch.equal(maps.scores, one.score_classes(X, view="drop", **WINDOWS).scores)
    assert maps.classes.tolist() == [[0], [0]]
    refused(("`target`", "got 1"), lambda: flat.attribute(X, target=1))


# --- runs and the command line --------------------------------------------------------------------

MODULE = """
import torch
from torch import nn
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.preprocessing import Preprocess

class Ended(nn.Module):
    def __init__(self, network, end):
        super().__init__()
        self.network, self.end = network, end
    def forward(self, x):
        return self.end(self.network(x))

def network(classes):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, classes))

def logits():
    return network(3)

def probs():
    return Ended(network(3), nn.Softmax(1))

def flat():
    return Ended(network(1), nn.Flatten(0))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_heads.py").write_text(MODULE)
    for k in range(2):
        pixels = np.random.default_rng(k).integers(0, 256, (32, 32, 3), np.uint8)
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{k}.png")
    (tmp_path / "prior.txt").write_text("0.2\n0.3\n0.5\n")
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    (tmp_path / "one.txt").write_text("tumour\n")
    return tmp_path


def test_the_command_line_compares_as_it_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read: dict[str, Any] = {}
    for name, more in {
        "logits": [], "probs": ["--head", "probs"],
        "prior": ["--prior", "prior.txt", "--temperature", "2"],
        "listed": ["--prior", "0.2,0.3,0.5", "--temperature", "2", "--trained-with", "pc_softmax"],
    }.items():  # fmt: skip
        model = "probs" if name == "probs" else "logits"
        words = ["compare", "pictures/0.png", "--model", f"own_heads:{model}", "--categories",
                 "three.txt", "--target", "b", "--metrics", "deletion", "--out", "r.html",
                 "--json", "r.json", "--methods", "InfoMask drop,Occlusion", *more]  # fmt: skip
        assert main(words) == 0
        read[name] = json.loads((folder / "r.json").read_text())
    bits = {name: one["pictures"][0]["information_bits"] for name, one in read.items()}
    assert bits["probs"] == pytest.approx(bits["logits"], abs=1e-5)
    chances = {name: one["pictures"][0]["probability"] for name, one in read.items()}
    assert bits["logits"] == pytest.approx(math.log2(chances["logits"] * 3), abs=1e-6)
    for name in ("prior", "listed"):
        assert bits[name] == pytest.approx(math.log2(chances[name] / 0.3), abs=1e-6)
    assert abs(chances["listed"] - chances["prior"]) > 0.005
    assert "head" in capsys.readouterr().out


def test_the_command_line_draws_a_network_of_one_logit(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["attribute", "pictures/0.png", "--model", "own_heads:flat", "--categories", "one.txt"]
    assert main([*words, "--head", "sigmoid", "--prior", "0.1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("pictures/0.png: tumour (class 0, not the prediction), p(y | x) = 0.4")
    assert "bits of at most 3.32" in out
    assert main(words) == 2
    assert "head='sigmoid'" in capsys.readouterr().err
    assert main([*words, "--head", "sigmoid", "--prior", "nearly"]) == 2
    assert "`--prior`" in capsys.readouterr().err


def test_a_run_over_a_network_of_one_logit(folder: Path) -> None:
    assert main(
        ["run", "--data", "pictures", "--model", "own_heads:flat", "--categories", "one.txt",
         "--head", "sigmoid", "--prior", "0.1", "--out", "out", "--workers", "0",
         "--window", "16"]
    ) == 0  # fmt: skip
    network = randomise(nn.Sequential(nn.Flatten(), nn.Linear(192, 1), nn.Flatten(0)), scale=0.1)
    classifier = Classifier("flat", network, ("tumour",), Preprocess(8, 8))
    run = run_dataset("pictures", classifier, "own", head="sigmoid", workers=0)
    pictures = [classifier.preprocess(Image.open(folder / "pictures" / f"{k}.png")) for k in (0, 1)]
    for k, x in enumerate(pictures):
        expected = InfoMask(network, head="sigmoid").score_regions(x)
        torch.testing.assert_close(run[f"{k}.png"].scores, expected.scores, atol=1e-5, rtol=1e-5)
    assert run.table["predicted"].to_pylist() == [0, 0]
