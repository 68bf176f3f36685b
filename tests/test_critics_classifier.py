# Critics and the randomisation check read a Classifier as the network that it holds.
import pytest
import torch
from refused import refused
from torch import nn

from captum_infomask import (
    InfoMask,
    adapters,
    compare,
    estimate_prior,
    fit_critic,
    fit_temperature,
    keep_dropout,
    measure_bounds,
)
from captum_infomask.evaluation.randomisation import randomisation_check
from captum_infomask.models.classifier import Classifier

CALLS = {
    "fit_temperature": lambda model, x, y: repr(fit_temperature(model, [(x, y)])),
    "measure_bounds": lambda model, x, y: repr(measure_bounds(model, [(x, y)])),
    "estimate_prior": lambda model, x, y: estimate_prior(
        [x], of="predictions", forward_func=model
    ).tolist(),
    "fit_critic": lambda model, x, y: (
        fit_critic(model, [x, x], window_shapes=[4], steps=3)(x).detach().tolist()
    ),
    "randomisation_check": lambda model, x, y: repr(randomisation_check(model, x[:1], target=1)),
}


@pytest.mark.filterwarnings("ignore:The fit diverged")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_classifier_is_its_network(call):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    x, y = torch.rand(16, 3, 12, 12), torch.arange(16) % 2
    assert call(Classifier("named", network, ("a", "b")), x, y) == call(network, x, y)


def test_dropout_of_a_classifier_is_kept():
    network = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(3, 2)).eval()
    with keep_dropout(Classifier("named", network, ("a", "b"))):
        assert [module.training for module in network.modules()] == [False, True, False, False]
    assert not network[0].training


PICTURES = torch.rand(4, 3, 12, 12)
TAKES_A_MODEL = {
    "InfoMask": InfoMask,
    "a Classifier": lambda model: InfoMask(Classifier("named", model, ("a", "b"))),
    "compare": lambda model: compare(model, PICTURES),
    "area": lambda model: adapters.area(model, (0, 0, 2, 2)),
    "detection": lambda model: adapters.detection(model, (0, 0, 2, 2), 1),
    "gallery": lambda model: adapters.gallery(model, torch.eye(3)),
    "huggingface": adapters.huggingface,
    "zero_shot": lambda model: adapters.zero_shot(model, None, ["a", "b"]),
    **{
        name: lambda model, call=call: call(model, PICTURES, torch.arange(4) % 2)
        for name, call in CALLS.items()
    },
}


@pytest.mark.parametrize("call", TAKES_A_MODEL.values(), ids=TAKES_A_MODEL)
def test_dropout_that_is_kept_without_a_block_is_explained(call):
    kept = keep_dropout(nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(432, 2)).eval())
    refused(("got a context manager", "with keep_dropout(model): ..."), lambda: call(kept))
