# Our own small tensors are on the CPU, or where the outputs are, whatever the default device is.
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from captum_infomask import (
    Gaussian,
    InfoMask,
    Laplace,
    Normal,
    Score,
    adapters,
    compare,
    from_boxes,
    from_feature_mask,
    from_masks,
    grid,
    information,
    sliding_windows,
    superpixels,
)
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


class Devices(set[str]):
    """A set that copies share."""

    def __deepcopy__(self, memo: object) -> Devices:
        return self


class Watching(nn.Module):
    """A network that notes the default device, and so do its copies."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.head = nn.Linear(4, 3)
        self.seen = Devices()
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add(torch.get_default_device().type)
        found: torch.Tensor = self.head(self.features(x).mean((2, 3)))
        return found


WATCHING = Watching()
TARGET = WATCHING(PICTURES).argmax(1)
WINDOWS = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)}
INFOMASK = InfoMask(WATCHING)
VIEWS = [
    {"view": "relay"},
    {"view": "evidence"},
    {"view": "features"},
    {"view": "crop", **WINDOWS},
    {"view": "drop", "engine": "batched", "imputer": "blur", **WINDOWS},
    {"view": "drop", "engine": "incremental", **WINDOWS},
    {"view": "keep", "engine": "batched", "regions": "superpixels"},
    {"view": "chain", "engine": "batched", "n_samples": 4},
]


@pytest.mark.filterwarnings("ignore:The mask of example")
@pytest.mark.parametrize("options", VIEWS, ids=lambda options: "-".join(map(str, options.values())))
def test_calls_give_the_network_the_users_device_and_keep_their_own(
    options: dict[str, Any],
) -> None:
    wanted = INFOMASK.score_regions(PICTURES, target=TARGET, **options)
    WATCHING.seen.clear()
    with torch.device("meta"):
        found = INFOMASK.score_regions(PICTURES, target=TARGET, **options)
        assert torch.get_default_device().type == "meta"
        maps, masks, boxes = found.attributions(), found.mask(0.5), found.boxes()
        one, table = found[0], found.to_pandas()
        found.figure(PICTURES[0])
    assert WATCHING.seen == {"meta"}
    assert torch.equal(found.scores, wanted.scores)
    assert torch.equal(maps, wanted.attributions())
    assert torch.equal(masks, wanted.mask(0.5))
    assert all(map(torch.equal, boxes, wanted.boxes()))
    assert torch.equal(one.scores, wanted.scores[:1])
    assert table.equals(wanted.to_pandas())


def regions() -> list[Any]:
    labels = torch.arange(64, device="cpu").reshape(1, 1, 8, 8) // 16
    return [
        grid(PICTURES, 2, 2),
        sliding_windows(PICTURES, (3, 4, 4), 2),
        from_boxes(PICTURES, [[(0, 0, 4, 4)], [(2, 2, 8, 8)]]),
        from_masks(PICTURES, MASK[None, None].expand(2, 1, 8, 8)),
        from_feature_mask(PICTURES, labels),
        superpixels(PICTURES, 6),
    ]


@pytest.mark.parametrize("number", range(6))
def test_regions_are_on_the_cpu(number: int) -> None:
    wanted = INFOMASK.score_regions(PICTURES, target=TARGET, view="drop", regions=regions()[number])
    with torch.device("meta"):
        own = regions()[number]
        found = INFOMASK.score_regions(PICTURES, target=TARGET, view="drop", regions=own)
    assert torch.equal(found.scores, wanted.scores)


def test_the_users_device_is_back_after_an_error() -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    with torch.device("meta"):
        with pytest.raises(KeyboardInterrupt):
            InfoMask(broken).attribute(PICTURES, target=TARGET, view="drop")
        assert torch.get_default_device().type == "meta"
    assert torch.get_default_device().type == "cpu"


def test_compare_gives_every_method_the_users_device() -> None:
    wanted = compare(WATCHING, PICTURES, target=TARGET)
    WATCHING.seen.clear()
    with torch.device("meta"):
        found = compare(WATCHING, PICTURES, target=TARGET)
    assert [each.name for each in found.outcomes] == [each.name for each in wanted.outcomes]
    for own, other in zip(found.outcomes, wanted.outcomes, strict=True):
        assert own.errors == other.errors
        np.testing.assert_array_equal(own.planes, other.planes)
    assert WATCHING.seen == {"meta"}
