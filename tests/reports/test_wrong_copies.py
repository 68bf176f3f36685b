# Copies of a network that say something else than it does: found out before their numbers are used.
from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import images, randomise
from torch import Tensor, nn

from captum_infomask import Batched, Incremental, InfoMask, grid
from captum_infomask.engines import batched
from captum_infomask.engines.batched import RunningBatched


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
