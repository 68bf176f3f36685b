# Calls that users type: `mypy --strict` accepts each. Checked by tests/test_user_calls.py.
from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from captum_infomask import (
    AtLeast,
    BitsReliability,
    Blur,
    ClassMaps,
    CombinedEvidence,
    Comparison,
    DatasetRun,
    FalseDiscoveries,
    InfoMap,
    InfoMask,
    Score,
    bits_reliability,
    bounding_boxes,
    combine_evidence,
    compare,
    estimate_prior,
    fit_temperature,
    grid,
    information,
    load_run,
    run_dataset,
    superpixels,
    threshold_mask,
)
from captum_infomask.models.loading import load_classifier

network: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
x: Tensor = torch.rand(2, 3, 8, 8)
names: list[str] = ["cup", "espresso", "tripod", "crane", "cat"]

bits: Tensor = InfoMask(network).attribute(x, target=1)
both: tuple[Tensor, ...] = InfoMask(network).attribute((x, x), target=[0, 1])
kept: Tensor = InfoMask(network).mask(x, target=torch.tensor([0, 1]), rule=0.2)
named: InfoMap = InfoMask(network, categories=names).score_regions(x, target="espresso")
every: InfoMap = InfoMask(network, categories=names).score_regions(x, target=["cup", "cat"])
loaded: InfoMask = InfoMask(load_classifier("resnet18"), temperature=1.5, unit="nats")
against: Tensor = InfoMask(network).attribute(x, target=1, contrast="runner_up", view="drop")
windows: Tensor = InfoMask(network).attribute(
    x, target=1, sliding_window_shapes=(3, 4, 4), strides=2, imputer=Blur()
)
regions: Tensor = InfoMask(network).attribute(x, target=1, regions=grid(x, 2, 2), imputer="blur")
scales: Tensor = InfoMask(network).attribute(x, target=1, regions=[grid(x, 2, 2), superpixels(x)])
maps: ClassMaps = InfoMask(network, categories=names).score_classes(x, classes=["cup", "cat"])
likely: InfoMap = InfoMask(network).score_classes(x, top_k=3, view="evidence").rank(0)
one: InfoMap = named[0].to("cpu")
totals: list[float] = [float(image.total) for image in named]
boxes: list[Tensor] = bounding_boxes(threshold_mask(bits, AtLeast(1.0)))
figure: Figure = named.figure(k=0)[0]
found: Comparison = compare(network, x, "espresso", methods=["gradcam"], categories=names)
run: DatasetRun = run_dataset("pictures", "resnet18", "out", view="drop", workers=0)
prior: Score = Score(prior=[0.2] * 5, temperature=fit_temperature(network, [(x, torch.ones(2))]))
again: tuple[InfoMap, Comparison] = (InfoMap.load("a"), Comparison.load("b"))
told: Tensor = information(network(x), target=1, score=prior)
count: int = len(load_run("out")) + len(named)
beyond: Tensor = InfoMask(network, prior="balanced").mask(
    x, target=1, view="crop", rule=FalseDiscoveries(rate=0.1)
)
e_values: Tensor = named.e_values() * named.discoveries(0.1, closed=True, family="batch")
outlined: Figure = named.figure(contour=FalseDiscoveries(0.1))[0]
shares: Tensor = estimate_prior(x, of="predictions", forward_func=network)
evidence: CombinedEvidence = combine_evidence([maps, maps], "class and place", labels=["cup"] * 8)
leaks: CombinedEvidence = combine_evidence(run, by="place")
true: BitsReliability = bits_reliability(InfoMask(network), x, [0, 1], view="keep")
jittered: InfoMap = InfoMask(network).score_regions(x, target=1, view="crop", crop_jitter=0.1)
labelled: Comparison = compare(network, x, 1, labels=[0, 1])
