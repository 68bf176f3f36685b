# Critics and the randomisation check read a Classifier as the network that it holds.
import pytest
import torch
from torch import nn

from captum_infomask import estimate_prior, fit_critic, fit_temperature, measure_bounds
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
