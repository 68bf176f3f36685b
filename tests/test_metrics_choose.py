# What users ask to be measured, by name, by object, by function.
import numpy as np
import pytest
import torch
from metric_samples import sample
from refused import refused

from captum_infomask import Deletion, Infidelity, Insertion, PointingGame
from captum_infomask.evaluation.choose_metrics import METRICS, choose_metrics
from captum_infomask.evaluation.metric_protocol import Metric

PLACES = (
    "pointing_game",
    "iou",
    "relevance_mass",
    "relevance_rank",
    "average_precision",
    "box_iou",
    "max_box_acc",
)


def test_defaults():
    assert choose_metrics(None, has_truth=False) == {
        "deletion": Deletion(),
        "insertion": Insertion(),
    }
    assert list(choose_metrics(None, has_truth=True)) == ["deletion", "insertion", *PLACES]
    assert list(choose_metrics("all", has_truth=True)) == list(METRICS)
    assert list(choose_metrics("all", has_truth=False)) == list(METRICS)[:4]
    assert choose_metrics([], has_truth=True) == {}


def test_names_and_metrics():
    assert choose_metrics("infidelity", has_truth=False) == {"infidelity": Infidelity()}
    assert choose_metrics(Deletion(8), has_truth=False) == {"deletion": Deletion(8)}
    mixed = choose_metrics(["insertion", PointingGame(15), Deletion(8)], has_truth=True)
    assert mixed == {
        "insertion": Insertion(),
        "pointing_game": PointingGame(15),
        "deletion": Deletion(8),
    }
    assert list(mixed) == ["insertion", "pointing_game", "deletion"]
    named = choose_metrics({"coarse": Deletion(8), "fine": Deletion(64)}, has_truth=False)
    assert named == {"coarse": Deletion(8), "fine": Deletion(64)}


def largest(made):
    """The largest attribution."""
    return made.plane.max()


def test_functions():
    plane = torch.tensor([[0.0, 3.5]])
    chosen = choose_metrics(
        {"largest": largest, "pixels": lambda made: made.plane.numel(), "deletion": Deletion(2)},
        has_truth=False,
    )
    assert list(chosen) == ["largest", "pixels", "deletion"]
    assert chosen["largest"](sample(plane)).value == 3.5
    assert chosen["pixels"](sample(plane)).value == 2.0
    assert chosen["largest"].note == "The largest attribution."
    assert chosen["pixels"].note
    assert all(isinstance(metric, Metric) for metric in chosen.values())
    assert (chosen["largest"].better, chosen["largest"].needs_truth) == ("", False)


@pytest.mark.parametrize("answer", ["high", None, [1.0, 2.0], np.ones(3), torch.ones(2), {}])
def test_functions_that_give_no_number(answer):
    metric = choose_metrics({"mine": lambda made: answer}, has_truth=False)["mine"]
    refused(("'mine'", "one number"), lambda: metric(sample(np.eye(2))))


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ("deletoin", ("'deletion'", "Did you mean", "'deletoin'")),
        (["deletion", "pointing"], ("'pointing_game'", "Did you mean")),
        (["deletion", Deletion(8)], ("'deletion' twice", "mapping")),
        (["deletion", "deletion"], ("twice",)),
        ([largest], ("function needs a name",)),
        (Deletion, ("Make one: Deletion()",)),
        ([Deletion], ("Make one: Deletion()",)),
        ({"deletion": Deletion}, ("Make one: Deletion()",)),
        ([3], ("names and metrics", "3")),
        (3, ("names and metrics", "3")),
        ({"mine": 3}, ("names and metrics", "3")),
        ({"mine": "deletion"}, ("names and metrics", "'deletion'")),
        ({1: Deletion()}, ("names as keys", "1")),
        ({"": Deletion()}, ("names as keys",)),
    ],
)
def test_bad_metrics(metrics, words):
    refused(("`metrics`", *words), lambda: choose_metrics(metrics, has_truth=True))


@pytest.mark.parametrize(
    "metrics", ["iou", ["deletion", "iou"], PointingGame(), {"iou": PointingGame()}]
)
def test_truth_is_asked_for(metrics):
    words = ("`ground_truth`", "right pixels", "None")
    refused(words, lambda: choose_metrics(metrics, has_truth=False))
    assert choose_metrics(metrics, has_truth=True)
