"""A volume of 96³ and 200 windows stays under 2 GB, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MOST = 2.0  # GB, the whole process: Python, PyTorch and the network included

SCRIPT = """
import json, sys
import torch
from torch import nn
from captum_infomask import Blur, InfoMask, from_masks, sliding_windows

torch.set_num_threads(1)
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
with open("/proc/self/status") as status:  # `resource` would count the parent's peak too
    peak = next(int(line.split()[1]) / 2**20 for line in status if line[:6] == "VmHWM:")
print(json.dumps({"gb": peak, "sum": float(attributions.abs().sum())}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's peak")
@pytest.mark.parametrize(
    ("what", "imputer", "overlap"),
    [("windows", "zero", "mean"), ("masks", "blur", "mixture")],
)
def test_a_volume_and_two_hundred_regions_stay_under_two_gigabytes(what, imputer, overlap):
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, what, imputer, overlap],
        capture_output=True, text=True, check=False, cwd=root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert found["sum"] > 0
    assert found["gb"] < MOST
