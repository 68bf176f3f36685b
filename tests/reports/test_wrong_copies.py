# Copies of a network that say something else than it does: found out before their numbers are used.
from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tiny import images, randomise
from torch import Tensor, nn
from torchvision import models

from captum_infomask import Batched, InfoMask, grid
from captum_infomask.engines import batched
from captum_infomask.engines.batched import RunningBatched
from captum_infomask.engines.traced_network import StandsAside
from captum_infomask.engines.verified_copy import check_agreement


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)
        randomise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


class HidesFrom(Body):
    """Sees hidden pixels only while it is given tensors, not stand-ins."""

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Tensor):
            x = torch.where((x == 0).flatten(1).any(1)[:, None, None, None], 2 * x, x)
        return super().forward(x)


class SecondPicture(Body):
    """Says something else of bright pictures while it is given tensors, not stand-ins."""

    def forward(self, x: Tensor) -> Tensor:
        answer = super().forward(x)
        if isinstance(x, Tensor):
            answer = torch.where((x.amax((1, 2, 3)) > 2)[:, None], -answer, answer)
        return answer


def pictures() -> Tensor:
    x = images(3, height=16, width=16)
    x[1:] += 2
    return x


def both(net: nn.Module, engine: Any, x: Tensor, view: str, **given: Any) -> tuple[Any, Any]:
    given = {"target": 1, "view": view, "regions": grid(x, 4, 4), **given}
    own = InfoMask(net).score_regions(x, engine=Batched(folded=False), **given)
    return InfoMask(net).score_regions(x, engine=engine, **given), own


@pytest.mark.parametrize("view", ["drop", "keep", "chain"])
@pytest.mark.parametrize("kind", [HidesFrom, SecondPicture])
def test_a_network_that_differs_where_pixels_are_hidden_or_later_is_found_out(
    kind: type[nn.Module], view: str
) -> None:
    net = kind()
    found, own = both(net, "incremental", pictures(), view)
    assert own.scores.abs().max() > 0.1
    torch.testing.assert_close(found.scores, own.scores, rtol=1e-4, atol=1e-5)
    assert "batched (the traced network's outputs are off by" in found.engine


def test_pictures_before_the_one_that_differs_stay_incremental() -> None:
    found, _ = both(SecondPicture(), "incremental", pictures(), "drop")
    assert found.engine.startswith("incremental, then batched (")
    assert found.engine.endswith(", for image 1)")


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("view", ["drop", "crop"])
def test_a_folded_copy_is_given_up_where_a_later_picture_differs(
    view: str, first: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batched, "WORTH_A_COPY", 0)
    monkeypatch.setattr(RunningBatched, "_views", lambda self, plan, row: first)
    caplog.set_level("DEBUG", logger="captum_infomask")
    x = images(3, height=16, width=16)
    x[2] += 2
    found, own = both(SecondPicture(), Batched(), x, view)
    assert "The folded copy is given up: the traced network's outputs are off by" in caplog.text
    torch.testing.assert_close(found.scores, own.scores, rtol=1e-4, atol=1e-5)


def part(x: Tensor) -> Tensor:
    x[:, :2].clamp_(max=0.5)
    return x


def whole(x: Tensor) -> Tensor:
    left = x[:, :, :, :8]
    x *= 2
    return torch.cat([left, x], 3)


def two_names(x: Tensor) -> Tensor:
    other = x
    x -= 0.3
    return other * x


def detached(x: Tensor) -> Tensor:
    x.detach().mul_(2)
    return x


def out(x: Tensor) -> Tensor:
    other = x * 2
    torch.tanh(x, out=other)
    return other


def a_plain_view(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    flat += 1
    flat.mul_(2)
    return flat.view(-1, 3, 16, 16)


def sizes(x: Tensor) -> Tensor:
    count = size = x.shape[2]
    count *= 2
    return x.repeat(1, 1, 1, 2)[:, :, :size, :count]


class Writes(Body):
    def __init__(self, write: Any) -> None:
        super().__init__()
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.write(1 * x))


@pytest.mark.parametrize("write", [part, whole, two_names, detached, out, a_plain_view, sizes])
@pytest.mark.parametrize("engine", ["incremental", "batched"])
def test_writes_that_reach_another_name_are_seen_in_the_trace(
    write: Any, engine: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batched, "WORTH_A_COPY", 0)
    caplog.set_level("DEBUG", logger="captum_infomask")
    x = images(2, height=16, width=16)
    found, own = both(Writes(write), engine, x, "drop", perturbations_per_eval=1)
    assert own.scores.abs().max() > 0.1
    # Differences of information in float32, of plain kernels too.
    torch.testing.assert_close(found.scores, own.scores, rtol=1e-4, atol=1e-4)
    told = "it writes to a tensor that it reads under another name" in caplog.text
    told |= "it calls a function with out=" in caplog.text
    assert told == (write not in (a_plain_view, sizes))
    assert "raises" not in caplog.text


@pytest.mark.parametrize(("off", "agrees"), [(5e-5, True), (1.2e-4, False)])
def test_logits_near_10_are_not_off_by_a_thousandth_of_a_bit(off: float, agrees: bool) -> None:
    own = torch.linspace(-10, 10, 1000)[None]
    made = own.clone()
    made[0, 999] += off
    assert (made.log_softmax(1) - own.log_softmax(1)).abs().max() < 2e-4
    with nullcontext() if agrees else pytest.raises(StandsAside, match="off by"):
        check_agreement(made, own)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_roundings_agree_at_every_size_and_what_is_more_does_not(
    scale: float, dtype: torch.dtype
) -> None:
    own = scale * torch.randn(2, 50, dtype=dtype, generator=torch.Generator().manual_seed(0))
    size, far = own.abs().max(), 3e-4 if dtype == torch.float32 else 3e-10
    check_agreement(own + 30 * torch.finfo(dtype).eps * size, own)
    with pytest.raises(StandsAside, match="off by"):
        check_agreement(own + far * size, own)


def test_small_probabilities_are_compared_by_what_is_read_from_them() -> None:
    own = torch.tensor([[0.0, 20.0, 3.0]]).double().softmax(1).float()
    near, far = own * (1 + 5e-6), own.clone()
    far[0, 0] *= 1.5  # by half a bit, and 1e-9 of probability
    check_agreement(near.clamp(max=1), own)
    with pytest.raises(StandsAside, match="in their logarithms"):
        check_agreement(far, own)


@pytest.mark.parametrize("head", ["logits", "probs"])
def test_copies_of_real_networks_are_not_refused(
    head: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batched, "WORTH_A_COPY", 0)
    caplog.set_level("DEBUG", logger="captum_infomask")
    torch.manual_seed(0)
    net = models.resnet18(num_classes=7).eval()
    if head == "probs":
        net = nn.Sequential(net, nn.Softmax(1)).eval()
    x = images(1, height=32, width=32)
    for engine in ("batched", "incremental"):
        given = {"regions": grid(x, 2, 2), "engine": engine, "perturbations_per_eval": 1}
        InfoMask(net, head=head).score_regions(x, target=1, view="drop", **given)
    assert caplog.text == ""
