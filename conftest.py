# For all that pytest runs: tests here and beside the examples, doctests, notebooks.
import os
import random

import hypothesis
import numpy as np
import pytest
import torch

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


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Doctests and notebooks are slow: `make test` leaves them out."""
    for item in items:
        if isinstance(item, pytest.DoctestItem) or item.path.suffix == ".ipynb":
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _seed():
    _seed_everything()
