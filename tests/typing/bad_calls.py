# Wrong calls: `mypy --strict` refuses each line that ends in "# wrong", and no other.
from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_infomask import (
    InfoMap,
    InfoMask,
    MaxFraction,
    Score,
    combine_evidence,
    compare,
    grid,
    threshold_mask,
)

network: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
x: Tensor = torch.rand(2, 3, 8, 8)
infomap: InfoMap = InfoMask(network).score_regions(x, target=1)

InfoMask(network).attribute(x, target=0.5)  # wrong
InfoMask(network).attribute([x, x], target=1)  # wrong
InfoMask(network).attribute(x, target=1, view="gradcam")  # wrong
InfoMask(network).attribute(x, target=1, window=(3, 4, 4))  # wrong
InfoMask(network).attribute(x, target=1, imputer="blurr")  # wrong
InfoMask(network).mask(x, target=1, rule="otsu")  # wrong
InfoMask(network, unit="bit")  # wrong
InfoMask(network, categories=5)  # wrong
InfoMask("resnet18")  # wrong
infomap["espresso"]  # wrong
print(infomap.values)  # wrong
threshold_mask(infomap, MaxFraction(0.2))  # wrong
grid(x, rows="2", columns=2)  # wrong
Score(head="softmax")  # wrong
compare(network, x, 1, layer=4)  # wrong
mask: InfoMap = InfoMask(network).mask(x, target=1)  # wrong
infomap.discoveries(0.1, family="all")  # wrong
Score(prior="uniform")  # wrong
combine_evidence(infomap, by="places")  # wrong
