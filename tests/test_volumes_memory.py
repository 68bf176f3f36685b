"""A volume of 96³ and 200 regions stays under 2 GB, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MOST = 2e9  # bytes: Python, PyTorch's own memory and the network included

START = """
import json, sys
from pathlib import Path
import torch
from torch import nn
from captum_infomask import Blur, InfoMask, from_masks, sliding_windows

torch.set_num_threads(1)

def of_status(name):
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if name in each]
    return 1024 * int(line.split()[1])

def peak():
    # `resource` would count the parent's peak too. Pages of libraries' files are left out: the
    # system keeps as many of them in memory as it likes, here between 0.2 and 0.4 GB.
    return of_status("VmHWM") - of_status("RssFile")
"""

SMALL = """
torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv3d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv3d(8, 16, 3, stride=2, padding=1),
    nn.ReLU(), nn.Conv3d(16, 16, 3, padding=1), nn.ReLU(),
    nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 4),
).eval()
x = torch.randn(1, 1, 96, 96, 96)
# 6 x 6 x 6 windows of 36, of which 200
windows = sliding_windows(x, (1, 36, 36, 36), (1, 12, 12, 12))
boxes = windows.boxes[0][:200]
masks = torch.zeros(200, 96, 96, 96, dtype=torch.bool)
for mask, ((_, _), *sides) in zip(masks, boxes.tolist()):
    mask[tuple(slice(*side) for side in sides)] = True
what, imputer, overlap = sys.argv[1:]
regions = from_masks(x, masks) if what == "masks" else type(windows)(windows.shapes, (boxes,))
infomap = InfoMask(network).score_regions(
    x, target=1, view="drop", regions=regions, engine="batched", overlap=overlap,
    imputer=Blur() if imputer == "blur" else None,
)
attributions = infomap.attributions()
mask = infomap.mask(0.2, min_area=8)
assert infomap.scores.shape == (1, 200) and bool(mask.any())
assert attributions.shape == x.shape and float(infomap.scores.std()) > 0
print(json.dumps({"bytes": peak(), "sum": float(attributions.abs().sum())}))
"""

RESNET = """
sys.path.insert(0, "tests")
from incremental_networks import volumes_network

torch.manual_seed(0)
x = torch.randn(1, 1, 96, 96, 96)
windows = sliding_windows(x, (1, 8, 8, 8), (1, 4, 4, 4))
engine, count = sys.argv[1], int(sys.argv[2])
rows = torch.randperm(len(windows))[:count]
regions = type(windows)(windows.shapes, (windows.boxes[0][rows],))
infomap = InfoMask(volumes_network()).score_regions(
    x, target=1, view="drop", regions=regions, engine=engine
)
assert infomap.engine == engine and infomap.scores.shape == (1, count)
print(json.dumps({"bytes": peak(), "sum": float(infomap.scores.abs().sum())}))
"""


def check_peak(script: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + script, *arguments],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert found["sum"] > 0
    assert found["bytes"] < MOST


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak"),
]


@pytest.mark.parametrize(
    ("what", "imputer", "overlap"),
    [("windows", "zero", "mean"), ("masks", "blur", "mixture")],
)
def test_a_small_network_and_two_hundred_regions(what: str, imputer: str, overlap: str) -> None:
    check_peak(SMALL, what, imputer, overlap)


@pytest.mark.parametrize(("engine", "windows"), [("incremental", 200), ("batched", 20)])
def test_a_resnet_of_volumes(engine: str, windows: int) -> None:
    """The batched engine shows as many views at a time, however many there are: here one."""
    check_peak(RESNET, engine, str(windows))
