import pytest
import torch
from small_net import SmallNet

collect_ignore = ["typing"]  # calls for a type checker: nothing runs them


@pytest.fixture
def terminal(monkeypatch):
    """Let stderr, as it is captured, pass for a terminal, where progress bars are drawn."""
    monkeypatch.setattr("captum_infomask._messages._moves", lambda: True)


@pytest.fixture
def net():
    return SmallNet().eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 11, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
