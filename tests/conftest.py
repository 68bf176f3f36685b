import os
import random

import hypothesis
import numpy as np
import pytest
import torch
from torch import nn

# The tests' networks are too small to share among threads, which only wait for each other.
# OMP_NUM_THREADS asks for them all the same.
if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(1)

# How long an example takes is the machine's business.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


def _seed_everything():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


class Seeded:
    """Every item, doctests and fixtures of modules included, begins with the same random state."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self):
        _seed_everything()


def pytest_configure(config):
    config.pluginmanager.register(Seeded())


@pytest.fixture(autouse=True)
def _seed():
    _seed_everything()


@pytest.fixture
def terminal(monkeypatch):
    """Let stderr, as it is captured, pass for a terminal, where progress bars are drawn."""
    monkeypatch.setattr("captum_infomask._messages._moves", lambda: True)


class SmallNet(nn.Module):
    """A network whose answers depend strongly on every part of the picture; any picture size."""

    def __init__(self, channels=3, classes=4, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = nn.Conv2d(channels, 6, 3, padding=1, dtype=dtype)
        self.second = nn.Conv2d(6, 8, 3, padding=1, stride=2, dtype=dtype)
        self.last = nn.Linear(8, classes, dtype=dtype)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype))
            self.first.weight.mul_(0.5)
            self.second.weight.mul_(0.3)

    def forward(self, x):
        x = torch.tanh(self.second(torch.tanh(self.first(x))))
        return 3 * self.last(x.mean((2, 3)))


@pytest.fixture
def net():
    return SmallNet().eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 11, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
