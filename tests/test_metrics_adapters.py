# Metrics of pytorch-grad-cam and Quantus, where they are installed, behind our own protocol.
import subprocess
import sys

import numpy as np
import pytest
import torch
from metric_samples import sample
from refused import refused
from state import unchanged

from captum_infomask.evaluation.choose_metrics import choose_metrics
from captum_infomask.evaluation.metric_protocol import Metric


@pytest.fixture
def made(net):
    generator = torch.Generator().manual_seed(4)
    inputs = torch.rand(1, 3, 12, 12, generator=generator, dtype=torch.float64)
    plane = torch.rand(12, 12, generator=generator, dtype=torch.float64)
    truth = torch.zeros(12, 12, dtype=torch.bool)
    truth[2:7, 3:9] = True

    def attribute(picture):
        return (picture * plane).mean(1, keepdim=True)

    return sample(plane, net, inputs=inputs, truth=truth, target=2, attribute=attribute)


def chosen(metric):
    (found,) = choose_metrics([metric], has_truth=True).values()
    assert isinstance(found, Metric)
    return found


@pytest.mark.slow
def test_neither_package_is_imported_by_ours():
    code = (
        "import sys, captum_infomask.evaluation.choose_metrics as choose;"
        "choose.choose_metrics(None, True);"
        "assert not {'quantus', 'pytorch_grad_cam'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# pytorch-grad-cam hands a tensor to a function of NumPy.
@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "better"),
    [
        ("ROADMostRelevantFirst", "lower"),
        ("ROADLeastRelevantFirst", "higher"),
        ("ROADCombined", "higher"),
    ],
)
def test_road(kind, better, net, made):
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    settings = {"percentiles": [20, 60]} if kind == "ROADCombined" else {"percentile": 60}
    theirs = getattr(road, kind)(**settings)
    metric = chosen(theirs)
    assert (metric.name, metric.better, metric.needs_truth) == (kind, better, False)
    with unchanged(net, made.inputs, made.plane):
        value = metric(made).value
    plane = made.plane.numpy()
    scaled = ((plane - plane.min()) / np.ptp(plane)).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(made.seed)
        want = theirs(
            made.inputs.float(),
            scaled[None],
            [lambda logits: logits.softmax(-1)[2]],
            lambda x: net(x.double()),
        )
    assert value == pytest.approx(float(want[0]), abs=1e-6)
    assert abs(value) > 1e-3
    assert metric(made).value == value


def test_other_grad_cam_metrics(made):
    metrics = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image")
    drop, rise = chosen(metrics.DropInConfidence()), chosen(metrics.IncreaseInConfidence())
    assert (drop.better, rise.better) == ("lower", "higher")
    assert (drop(made).value > 0) != (rise(made).value > 0)
    assert chosen(metrics.CamMultImageConfidenceChange()).better == ""


def test_quantus(net, made):
    quantus = pytest.importorskip("quantus")
    theirs = quantus.RelevanceMassAccuracy(normalise=False, disable_warnings=True)
    metric = chosen(theirs)
    assert (metric.name, metric.better) == ("RelevanceMassAccuracy", "higher")
    assert metric.needs_truth
    refused(("`ground_truth`",), lambda: choose_metrics([theirs], has_truth=False))
    with unchanged(net, made.inputs, made.plane):
        value = metric(made).value
    want = float(made.plane[made.truth].sum() / made.plane.sum())
    assert value == pytest.approx(want, abs=1e-9)
    assert theirs.evaluation_scores == []
    assert theirs.all_evaluation_scores == []


def test_quantus_asks_the_network_and_the_method(net, made):
    quantus = pytest.importorskip("quantus")
    asked = quantus.MaxSensitivity(
        nr_samples=3, normalise=False, disable_warnings=True, return_aggregate=False
    )
    metric = chosen(asked)
    assert (metric.better, metric.needs_truth) == ("lower", False)
    net.train()
    with unchanged(net, made.inputs, made.plane):
        first, again = metric(made).value, metric(made).value
    assert first == again
    assert 0 < first < 5
    faithful = chosen(
        quantus.FaithfulnessCorrelation(nr_runs=20, subset_size=24, disable_warnings=True)
    )
    assert -1 <= faithful(made).value <= 1


def test_quantus_metrics_that_give_curves_or_change_the_network(made):
    quantus = pytest.importorskip("quantus")
    curves = chosen(quantus.PixelFlipping(features_in_step=36, disable_warnings=True))
    refused(("'PixelFlipping'", "one number"), lambda: curves(made))
    logit = chosen(quantus.RandomLogit(num_classes=4, disable_warnings=True))
    refused(("leave the network", "randomisation_check"), lambda: logit(made))
