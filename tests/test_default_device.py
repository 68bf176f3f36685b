# Our own small tensors are on the CPU, or where the outputs are, whatever the default device is.
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from captum_infomask import Gaussian, Laplace, Normal, Score, adapters, information
from captum_infomask.models.loading import as_classifier
from captum_infomask.scores.discoveries import e_bh
from captum_infomask.scores.value_heads import normal_of

torch.manual_seed(0)
OUTPUTS = torch.randn(4, 3)
PICTURES = torch.rand(2, 3, 8, 8)
MASK = torch.rand(8, 8) > 0.5
PIXELS = nn.Conv2d(3, 3, 1).eval()
COARSE = nn.Conv2d(3, 3, 2, stride=2).eval()
EMBEDDINGS = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
REFERENCES = torch.rand(4, 3)
FOUND = {
    "boxes": torch.tensor([[0.0, 0.0, 4.0, 8.0]]),
    "scores": torch.tensor([0.5]),
    "labels": torch.tensor([1]),
}
PRIOR = Normal([0.0, 1.0, 2.0], [1.0, 2.0, 3.0])
COLUMNS = Gaussian([0.1, 0.2, 0.3])

CALLS: dict[str, Callable[[], Any]] = {
    "logits": lambda: information(OUTPUTS, [0, 1, 2, 0], prior=[0.2, 0.3, 0.5]),
    "log_probs": lambda: information(OUTPUTS.log_softmax(1), 1, head="log_probs"),
    "groups": lambda: information(OUTPUTS, 1, groups=[[0], [1, 2]]),
    "log_priors": lambda: Score().log_priors(torch.tensor([0, 1], device="cpu"), 3),
    "group priors": lambda: Score(groups=[[0], [1, 2]]).log_priors(
        torch.tensor([0, 1], device="cpu"), 3
    ),
    "a value": lambda: information(OUTPUTS, 1, value=0.5, head=COLUMNS, prior=PRIOR),
    "values": lambda: information(
        OUTPUTS[:, 0], value=[0.5, 1.0, 1.5, 2.0], head=Laplace(0.4), prior=Normal(0.0, 1.0)
    ),
    "predictions": lambda: information(OUTPUTS, 1, head=COLUMNS, prior=PRIOR),
    "errors": lambda: torch.tensor(Gaussian.of_errors([3.0, -4.0]).sigma, device="cpu"),
    "a normal prior": lambda: torch.tensor(normal_of([1.0, 2.0, 4.0], "values").std, device="cpu"),
    "discoveries": lambda: e_bh(OUTPUTS.flatten() * 9, rate=0.5, closed=True),
    "an area": lambda: adapters.area(PIXELS, MASK)(PICTURES),
    "boxes of an area": lambda: adapters.area(COARSE, [(0, 0, 2, 2), (4, 4, 7, 8)])(PICTURES),
    "a detection": lambda: adapters.detection(
        lambda x: [FOUND] * len(x), [(0, 0, 4, 4), (0, 0, 8, 8)], [1, 1]
    )(PICTURES),
    "a gallery": lambda: adapters.gallery(EMBEDDINGS, REFERENCES).network(PICTURES),
    "the classes of a network": lambda: torch.tensor(
        len(as_classifier(EMBEDDINGS).categories), device="cpu"
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_another_default_device_changes_nothing(call: Callable[[], Any]) -> None:
    wanted = call()
    with torch.device("meta"):
        found = call()
    assert found.device.type == "cpu"
    assert torch.equal(found, wanted)
