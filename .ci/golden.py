# Record what the package computes, so that before and after a change can be compared to the bit.
#
#     python .ci/golden.py write FILE                 # compute everything, and write FILE (JSON)
#     python .ci/golden.py check FILE                 # compute it again, and print what differs
#     python .ci/golden.py check FILE --only engine=  # the entries with these words in their name
#
# An entry is a call of public names (CALLS), and its words are its name. Kept are of a tensor type,
# shape, sum, sum of magnitudes and SHA-256, of a result all fields and properties, of errors and
# warnings the words; but no seconds, memory, versions, dates, paths. Check where it was written.
from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib
import inspect
import io
import itertools
import json
import os
import pkgutil
import re
import runpy
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from captum.attr import Saliency
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

import captum_infomask as im

READING = {"head", "prior", "trained_with", "temperature", "unit", "groups"}
LEFT_OUT = {"seconds", "peak_bytes", "versions", "machine", "run", "started", "ended"}
FOLDER = tempfile.TemporaryDirectory()  # for files; its name is left out of all words
FILE = Path(FOLDER.name, "file")


@cache
def at(name: str) -> Any:
    """A public name that the docs take from a submodule, wherever that is."""
    for one in pkgutil.walk_packages(im.__path__, "captum_infomask."):
        if not one.name.endswith("__main__"):
            found = vars(importlib.import_module(one.name)).get(name)
            if found is not None and not inspect.ismodule(found):
                return found
    raise NameError(name)


def seeded(*layers: nn.Module) -> nn.Module:
    """A network with weights that hang on nobody's way of initialising them."""
    network = nn.Sequential(*layers) if len(layers) > 1 else layers[0]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            drawn = torch.randn(value.shape, generator=generator)
            if value.dim() > 1:
                value.copy_(2 * drawn / value[0].numel() ** 0.5)
            elif value.is_floating_point():
                value.copy_((0.3 * drawn + float(name.endswith(("weight", "var")))).abs())
    return network.eval()


@cache
def conv(classes: int = 5, dropout: float = 0.0) -> nn.Module:
    """Convolutions, norms, a global pooling, a linear layer."""
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    body += [nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(12, classes)]
    return seeded(*body, *end)


@cache
def net(kind: str) -> Any:
    """Another network, by its end, its layers, its inputs or its maker."""
    flat = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3)]
    flat += [nn.SiLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 5)]
    wide = [nn.Conv2d(3, 128, 3), nn.ReLU(), nn.Conv2d(128, 128, 3), nn.AdaptiveAvgPool2d(1)]
    signal = [nn.Conv1d(2, 5, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()]
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    timm = importlib.import_module("timm.models.vision_transformer")
    made: dict[str, Any] = {
        "probs": lambda: nn.Sequential(conv(), nn.Softmax(1)).eval(),
        "log_probs": lambda: nn.Sequential(conv(), nn.LogSoftmax(1)).eval(),
        "double": lambda: conv.__wrapped__().double(),
        "bfloat16": lambda: conv.__wrapped__().bfloat16(),
        "flat": lambda: seeded(*flat),
        "wide": lambda: seeded(*wide, nn.Flatten(), nn.Linear(128, 5)),
        "signal": lambda: seeded(*signal),
        "map": lambda: lambda x: F.conv2d(x, conv()[0].weight[:5], padding=1),
        "two": lambda: lambda a, b: torch.stack([a.sum(1) * b[:, 0], a[:, 0] - b.sum(1)], 1),
        "vit": lambda: seeded(VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)),
        "timm": lambda: seeded(timm.VisionTransformer(**sizes, num_classes=5, reg_tokens=1)),
        "lite": at("efficientnet_lite0"),
        "photo": lambda: net("lite").preprocess(Image.fromarray(at("sample_photo")("coffee"))),
    }
    return made[kind]()


@cache
def pictures(count: int = 2, channels: int = 3, side: int = 32) -> Tensor:
    """Soft blobs and a little noise, with a bright square that moves from picture to picture."""
    generator = torch.Generator().manual_seed(count)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    x = 0.1 * torch.rand(count, channels, side, side, generator=generator)
    x += F.interpolate(coarse, (side, side), mode="bilinear", align_corners=True)
    for k in range(count):
        x[k, :, 4 + k : 14 + k, 10:20] += 1.0
    return x


torch.set_num_threads(1)
X, DONORS, SIGNALS = pictures(), pictures(6), pictures(2, 2, 24)[:, :, 0]
SKEWED, GROUPS = [0.5, 0.2, 0.1, 0.1, 0.1], [[0, 1], [3, 4], [2]]
LABELS = torch.arange(32)[:, None] // 11 * 3 + torch.arange(32) // 11
MASKS = torch.zeros(2, 32, 32, dtype=torch.bool)
MASKS[0, 2:20, 3:15] = MASKS[1, 10:30, 10:28] = True
BOXES = [torch.tensor([[2, 3, 20, 15], [10, 10, 30, 28]]), torch.tensor([[0, 0, 9, 31]])]
WINDOWS = im.sliding_windows(X, (3, 12, 9), (3, 6, 7))
COARSE = 4 * F.interpolate(F.avg_pool2d(X, 8), scale_factor=8.0) - 2
MAPS = {"smooth": X - X.mean(), "windows": COARSE, "negative": -X, "ties": X.round()}
LABELLED = [(DONORS, torch.tensor([2, 2, 1, 2, 1, 0])), (X, torch.tensor([2, 4]))]
LOGITS = conv()(X).detach()
OWN: Any = SimpleNamespace(  # an imputer as users write them: the mean colour
    prepare=lambda inputs: lambda k, hidden: tuple(x.mean((2, 3), True)[k] for x in inputs)
)
METHODS: dict[str, Any] = {"Saliency": Saliency(conv()), "it": lambda model, x, target: x}
METHODS |= {"drop": (im.InfoMask(conv()), {"view": "drop"}), "fails": lambda *_: 1 / 0}


def scored(network: Any, x: Any = None, *, sampled: bool = False, **options: Any) -> Any:
    """Score regions of pictures; or classes, and all that can be asked of these."""
    x = X if x is None else x
    reading = {name: options.pop(name) for name in sorted(READING & set(options))}
    told = {"regions", "feature_mask", "sliding_window_shapes"} & set(options)
    if options.get("view") in ("crop", "keep", "drop", "chain", "features") and not told:
        options["regions"] = im.grid(x, 4, 4)
    if options.get("view") == "chain":
        options.setdefault("n_samples", 4)
    infomask = im.InfoMask(network, **reading)
    if {"classes", "top_k"} & set(options):
        maps = infomask.score_classes(x, **options)
        gain = None if maps.log_priors is None else maps.information_gain()
        return [maps, [maps.rank(k) for k in range(maps.classes.shape[1])], maps.class_map(), gain]
    with im.keep_dropout(network) if sampled else torch.enable_grad():
        return infomask.score_regions(x, **{"target": [2, 1]} | options)


def cut(infomap: Any, rule: Any = None) -> Any:
    """An InfoMap's masks and boxes."""
    shaped = infomap.mask(rule, smooth=1, min_area=4, invert=True)
    return [infomap.mask(rule), shaped, infomap.boxes(rule), infomap.boxes(rule, keep="all")]


def written(write: Any, read: Any = lambda path: path.read_text().splitlines()) -> Any:
    """A file's bytes, but of PNG sorted (safetensors has a header in any order); what is read."""
    write(FILE)
    content = FILE.read_bytes()
    return [content if content[:4] == b"\x89PNG" else bytes(sorted(content)), read(FILE)]


def compared(network: Any, *given: Any, **options: Any) -> Any:
    """A comparison, all its files, and its figure, without seconds, memory and versions."""
    found = im.compare(network, *given, **options)
    none = np.zeros(len(found.pictures))
    still = [dataclasses.replace(one, seconds=none, peak_bytes=none) for one in found.outcomes]
    found = dataclasses.replace(found, outcomes=tuple(still), versions={})
    files = [written(found.to_csv), written(found.to_json), written(found.save_arrays, np.load)[1]]
    files += [written(found.to_html, page)[1]]
    return [found, found.text(), files, found.figure()]


def page(path: Path) -> Any:
    """A page's payload, and its words but for those that differ from run to run."""
    html = path.read_text()
    payload = re.search(r'<script type="application/json" id="payload">(.*?)</script>', html, re.S)
    volatile = r"<(style|script)\b.*?</\1>|'sha256-[^']*'|<div><dt>[^<]* pictures/s</dt>.*?</div>"
    volatile += r"|<section[^>]*>\s*<h2>(Speed|Settings and versions)</h2>.*?</section>"
    words = re.sub(volatile, "", html, flags=re.S).splitlines()
    return [payload and json.loads(payload[1]), words]


def photos(folder: str) -> str:
    """Six pictures of two digits, and a bad one; and the six in Parquet."""
    digits = at("sklearn_digits")(train=False)
    drawn, rows = at("two_digits")(*digits, target=0, count=6, seed=3), []
    for k, (image, label) in enumerate(zip(drawn.images, drawn.labels.tolist(), strict=True)):
        path = Path(folder, "ba"[label], f"{k}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * image[0]).byte().numpy()).save(path)
        rows.append({"image": path.read_bytes(), "key": path.name, "species": label})
    Path(folder, "a", "bad.png").write_text("no picture")
    pq.write_table(pa.Table.from_pylist(rows), f"{folder}.parquet")
    return folder


def run_of(data: str, **options: Any) -> Any:
    """A run over a data set, what is read back, and its page."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        out = Path(folder, "out")
        im.run_dataset(data, "two_digits", out, workers=0, **options)
        run = im.load_run(out, data)
        said = command("report", str(out), "--out", str(FILE))[0]
        names = [repr(run), run.errors, run.skipped, run.categories, run.is_complete]
        names += [sorted(os.listdir(out)), run.manifest | {"sha256": "of dates too"}]
        maps = [[key, run[key], cut(run[key]), run.picture(key)] for key in run]
        return [names, maps, run.table.to_pylist(), said, page(FILE)]


def command(*words: str) -> Any:
    """Run the command line in this process: its status, and what it prints."""
    out, err = streams = [io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2)]
    status: Any = 0
    with mock.patch.multiple(sys, argv=["captum-infomask", *words], stdout=out, stderr=err):
        try:
            runpy.run_module("captum_infomask", run_name="__main__")
        except SystemExit as error:
            status = error.code
    return [status, *(stream.seek(0) or stream.read() for stream in streams)]


def known(family: str) -> Any:
    """Pictures whose information is known."""
    patches = at(f"datasets.{family}").random(classes=3, positions=4, seed=2)
    made = at("IndependentPatches")(patches, rows=2, columns=2, prior=[0.5, 0.3, 0.2])
    x, y = made.draw(4, seed=1)
    exact = {view: made.information(x, y, view) for view in ("crop", "keep", "drop", "chain")}
    found = scored(made.network(), x, view="chain", target=y, regions=im.grid(x, 2, 2))
    return [x, y, exact, made.total(x, y), made.network("pc_softmax")(x), made.log_prior, found]


# The calls. A <word> stands for each of its members in turn.

MEMBERS = """
view: "crop" | "keep" | "drop" | "chain" | "features" | "evidence" | "relay" | None
shown: "crop" | "keep" | "drop" | "chain"
hiding: "keep" | "drop" | "chain" | "evidence" | "relay" | None
some: "drop" | "keep" | "crop" | "features" | "relay"
head: conv() | net("log_probs"), head="log_probs" | net("probs"), head="probs" | net("vit") |
    conv(), head="sigmoid" | conv(1), head="sigmoid", target=None | conv(), unit="nats" |
    conv(), head="raw" | conv(), head="raw", unit="nats"
engine: "auto" | "batched" | "incremental" | "tokens" | im.Tokens() | im.Batched(folded=False) |
    im.Batched(folded=True) | im.Batched(autocast=torch.bfloat16) | im.Incremental(winograd=False) |
    im.Incremental(least_gain=3.0)
tokens: "batched" | "tokens" | "tokens", imputer=im.RemoveTokens() |
    "auto", imputer=im.RemoveTokens()
imputer: im.Constant(0.3) | im.Constant(X[0]) | im.Blur() | im.Blur(2.0) | im.LocalMean() |
    im.Inpaint() | im.Inpaint("navier_stokes", radius=2) | im.RemoveTokens() | OWN |
    im.NoisyLinear().draw(1, 2) | im.UniformNoise().draw(1, 2) | im.NormalNoise().draw(1, 2) |
    im.MarginalPatches(DONORS).draw(1, 2) | im.ConditionalPatches(DONORS, 4).draw(1, 2)
random: im.NoisyLinear() | im.UniformNoise(-1.0, 2.0) | im.NormalNoise(0.5, 0.2) |
    im.MarginalPatches(DONORS) | im.ConditionalPatches(DONORS, neighbours=3, border=2)
regions: im.grid(X, 3, 5) | im.sliding_windows(X, (3, 12, 10), (3, 6, 7)) |
    im.sliding_windows(X, (1, 16, 16), (1, 16, 16)) | im.from_label_map(X, LABELS) |
    im.from_feature_mask(X, LABELS.expand(1, 1, 32, 32) * 7) | im.from_boxes(X, BOXES[0]) |
    im.from_boxes(X, BOXES) | im.from_masks(X, MASKS) | im.from_masks(X, [MASKS, MASKS[:1]]) |
    im.from_run_lengths(X, at("masks_to_run_length")(MASKS[:, None])) |
    im.superpixels(X, 9) | im.superpixels(X, 9, method="felzenszwalb") |
    im.superpixels(X, 9, method="quickshift") | im.superpixels(X, 9, method="watershed") |
    im.superpixels(X, 9, mean=(0.5, 0.4, 0.3), std=0.2) | [im.grid(X, 2, 2), im.grid(X, 4, 3)] |
    [im.grid(X, 2, 2), im.superpixels(X, 6)]
reading: prior=SKEWED | prior=torch.tensor(SKEWED), trained_with="pc_softmax" | temperature=2.5 |
    head="sigmoid", prior=[0.1, 0.2, 0.3, 0.4, 0.45] | groups=GROUPS, target=[0, 1] |
    groups=GROUPS[:2], prior=SKEWED, target=[0, 1] | contrast=0 | contrast=[4, 2] |
    contrast="runner_up", prior=SKEWED, temperature=0.7 |
    groups=GROUPS, target=[0, 1], contrast=2, prior=SKEWED, unit="nats"
alone: temperature=2.0 | prior=SKEWED | prior=SKEWED, trained_with="pc_softmax", unit="nats"
classes: top_k=2 | classes=[4, 0], temperature=2.0 | classes=None, prior=SKEWED |
    top_k=2, head="sigmoid" | top_k=2, groups=GROUPS | top_k=2, contrast="runner_up"
input: net("double"), X.double() | net("bfloat16"), X.bfloat16() | conv(), X[1:], target=3 |
    net("map"), X, target=[(1, 4, 5), (0, 20, 3)] | conv(5, 0.5), X, sampled=True, n_samples=4 |
    lambda x: conv()(F.dropout(x)), X, n_samples=4 |
    lambda x, a, b: conv()(a * x + b), X, additional_forward_args=(X.mean((1, 2, 3), True), 0.1)
other: net("signal"), SIGNALS | lambda x: x[:, :5], SIGNALS[:, 0] |
    net("two"), (SIGNALS[:, 0, :4], SIGNALS[:, 1, :6]), target=[0, 1] | conv(), (X,)
option: view="crop", crop_size="native" | view="crop", crop_size=(16, 20) | crop_size=(16, 16) |
    view="crop", crop_size=[(16, 16), None] | view="crop", crop_margin=0.25 |
    view="crop", reference="blank" | view="keep", reference="prior" |
    view="chain", n_samples=24, regions=im.grid(X, 2, 2) | view="chain", n_samples=6, seed=5 |
    view="drop", perturbations_per_eval=3 | view="evidence", layer="3" |
    view="evidence", input_sizes=[None, 48, im.HalfCrops(24)] | view="relay", layer="0" |
    view="relay", input_sizes=[None, (40, 48)] | view="relay", input_sizes=[im.HalfCrops()] |
    view="evidence", layer=["2", conv()[5]] | view="relay", layer=["3", "6"] |
    sharpen="superpixels", view="relay" | sharpen="superpixels", view="drop" |
    sharpen=im.superpixels(X, 7), view="evidence" |
    sharpen=[im.superpixels(X, 7), im.superpixels(X, 20)], view="keep" |
    sharpen=lambda p: (p[..., 0] > 0.5).astype(int), view="relay" | target=torch.tensor([2, 0])
rule: im.MaxFraction() | im.MaxFraction(0.5) | im.TopFraction(0.15) | im.Otsu() |
    im.AtLeast(bits=0.4) | im.Hysteresis() | im.Hysteresis(im.AtLeast(0.2), im.TopFraction(0.05))
map: "smooth" | "windows" | "negative" | "ties"
metrics: "all" | [im.PointingGame(3), im.BestBoxIoU(9), im.MaxBoxAcc(9), im.Infidelity(9, 0.5)]
truth: ground_truth=MASKS[:1] | ground_truth=BOXES[0]
read: head="sigmoid" | prior=SKEWED, temperature=2.0 | groups=GROUPS | baselines=0.5, layer="3"
lite: view=None | view="evidence", input_sizes=[None, 288] | view="features", regions=None |
    view="crop", regions=None, crop_size=(96, 96) | view="keep", imputer=im.Blur() |
    view="drop", regions=im.grid(torch.zeros(1, 3, 224, 224), 8, 8), contrast="runner_up"
fit: steps=6 | steps=4, views=("windows", "rest"), window_shapes=[9], imputer=im.Blur()
reader: lambda path: [one := im.FittedCritic.load(path, conv()), one(X), one.report][1:]
run: "" | "", view="keep", contrast="runner_up", rule=im.TopFraction(0.1), batch_size=4 |
    "", view="drop", target="label", shard_size=3, unit="nats" | "", view="crop", max_errors=0 |
    "", view="crop", target="label", categories=["a", "b"], head="sigmoid" |
    ".parquet", view="drop", view_engine="batched", target="species" |
    "/*/[0-4].png", sharpen="superpixels", view="evidence"
words: "--help" | "demo", "--help" | "compare", "--help" | "attribute", "--help" | "run", "--help" |
    "report", "--help" | "atribute", "a.png" | "compare", "none.png"
wrong reading: head="soft" | prior=[0.5, 0.9] | temperature=0 | unit="bans" | groups=[[0, 1], [1]]
wrong option: target=7 | target=None | target=[1, 2, 3] | view="dorp" | view="crop", crop_size=0 |
    engine="fast" | overlap="median" | contrast=2 | window=3 | strides=(3, 4, 4) | imputer=3 |
    layer="nowhere" | view="chain", n_samples=3 | baselines=0, imputer=im.Blur() | sharpen="px" |
    regions=WINDOWS, feature_mask=LABELS | sliding_window_shapes=(8, 8) | baselines=torch.zeros(5)
wrong call: scored(conv(), X[:, :2]) | scored(conv(), X.long()) | scored(3) | scored(lambda x: x) |
    scored(conv(), X.numpy()) | scored(conv(), X / 0) | im.grid(X, 0, 2) | im.load_run("no") |
    im.threshold_mask(X, 0.2) | im.from_boxes(X, [[3, 3, 3, 9]]) | im.from_label_map(X, -LABELS) |
    im.MaxFraction(2.0) | im.bounding_boxes(X) | im.Blur(-1) | im.compare(conv(), X, view="drop") |
    im.compare(conv(), X, metrics=["deletoin"]) | im.run_dataset(".", "two_digit", "out") |
    im.InfoMap.load("no") | im.measure_bounds(conv(), [X]) | im.fit_temperature(conv(), [])
"""

CALLS = """
{name: getattr(im, name) for name in im.__all__}
{name: one for name, one in vars(im.<InfoMask | InfoMap | ClassMaps>).items() if name[0] != "_"}
command(<words>)
scored(<head>, view=<view>)
scored(net("flat"), view=<shown>, engine=<engine>)
scored(conv(), view=<view>, engine=<"auto" | "batched" | "incremental">)
scored(conv(), pictures(20, 3, 64), target=2, view="drop", regions=None, engine=<engine>)
scored(net("wide"), view="drop", engine=<"incremental" | im.Incremental(winograd=False)>)
scored(net(<"vit" | "timm">), view=<shown>, engine=<tokens>)
scored(conv(), view=<hiding>, imputer=<imputer>)
scored(conv(), view=<shown>, imputer=<random>, n_samples=2)
scored(conv(), view=<view>, baselines=DONORS[:2])
im.fill_disagreement(im.InfoMask(conv()), X, [2, 1], view=<"drop" | "keep">)< | .figure()>
repr(<regions>)
scored(conv(), view=<some>, regions=<regions>)
scored(conv(), view=<view>, overlap=<"mean" | "mixture" | "max">, regions=WINDOWS)
scored(conv(), view=<view>, <regions=None | feature_mask=LABELS[None, None]>)
scored(conv(), view=<view>, sliding_window_shapes=(3, 10, 10), strides=(3, 8, 8))
scored(conv(), view=<view>, <reading>)
scored(conv(), view=<view>, <classes>)
scored(<input>, view=<view>)
scored(<other>, view=<view>, regions=None)
scored(conv(), <option>)
scored(conv(), view="drop", regions=[im.grid(X, 2, 2), im.grid(X, 4, 3)]).scales()
scored(conv(), view="chain").interval(0.9)
scored(lambda x, a: conv()(x + a), additional_forward_args=X[0], args_per_example=False)
[im.InfoMask(conv(), groups=GROUPS, unit="nats"), im.InfoMask(conv()).attribute((X,), target=1)]
im.threshold_mask(MAPS[<map>], <rule>, <smooth=0 | smooth=2, min_area=0.05 | invert=True>)
cut(scored(conv(), view=<view>), <None | im.Otsu() | im.TopFraction(0.1) | im.AtLeast(0.2)>)
im.InfoMask(conv()).mask(X, target=[2, 1], view=<view>)
im.bounding_boxes(im.threshold_mask(MAPS[<map>], im.Otsu()), keep=<"largest" | "all">)
at("clean_masks")(im.threshold_mask(MAPS[<map>]), smooth=1, min_area=4)
<im.contours | at("masks_to_run_length")>(im.threshold_mask(MAPS[<map>]))
at("mask_iou")(im.threshold_mask(MAPS[<map>]), MASKS[:, None])
written(lambda path: at("save_png")(MAPS[<map>][:1, :1], path), at("read_png"))
[np.load(one) for one in at("export_wsol")(MAPS[<map>], ["a.png", "b/c"], "wsol")]
written(scored(conv(), view=<view>).save, im.InfoMap.load)
scored(conv(), view=<view>)<.figure(k=1) | ._repr_html_()>
at("box_iou")(*BOXES)
im.max_box_acc(MAPS[<map>], BOXES, keep=<"all" | "largest", iou=(0.5,)>)
at("ground_truth")(<MASKS | BOXES | (LABELS[None], 4)>, X, [2, 1])
compared(net("flat"), X, [2, 1])
compared(conv(), X, methods=METHODS, metrics=[im.Deletion(6), im.Insertion(6)], reference="drop")
compared(conv(), X, 1, methods=["InfoMask evidence"], metrics="all", ground_truth=MASKS)
compared(conv(), X[:1], 1, methods={"it": lambda *_: MAPS[<map>][:1]}, metrics=<metrics>, <truth>)
compared(conv(), pictures(11), methods=["InfoMask", "InfoMask crop"], metrics=[im.Deletion(5)])
compared(net("vit"), X, methods=["InfoMask drop", "Grad-CAM"], metrics=[], rule=im.AtLeast(0.1))
compared(conv(), X, 1, metrics={"most": lambda one: one.plane.max()}, <read>)
im.randomisation_check(conv(), X[:1], 1, layers=<None | ["10", "4"]>)<.text() | .figure()>
im.infomask_explain_func(conv(), X.numpy(), np.array([2, 1]), view="keep", unit="nats")
im.information(LOGITS, [2, 1], <alone>)
im.ConditionalMutualInformation(<alone>)(LOGITS, torch.tensor([2, 1]))
im.donsker_varadhan(LOGITS[:, 1], LOGITS, prior=SKEWED)
im.log_softmax_sandwich(torch.stack([LOGITS, LOGITS.flip(1)]), [2, 1], <alone>)
im.pc_cross_entropy(LOGITS, torch.tensor([2, 1]), SKEWED, reduction="none")
im.estimate_prior(<[0, 1, 1, 2, 4], classes=6 | LABELLED, smoothing=0.5>)
im.measure_bounds(conv(), LABELLED, <alone>)
im.measure_bounds(lambda x: conv()(F.dropout(x)), LABELLED, n_samples=5, prior=SKEWED)
im.fit_temperature(conv(), LABELLED, <bins=4 | trained_with="pc_softmax">)< | .figure()>
written(im.fit_critic(conv(), [DONORS, X], held_out=[X], <fit>).save, <reader>)
known(<"GaussianPatches" | "CategoricalPatches">)
at("two_digits")(*at("sklearn_digits")(train=True), target=3, count=8, seed=1)
at("sample_photo")("chelsea")
at("load_two_digit_network")()(pictures(2, 1, 56)[:, :, :28])
scored(net("lite").network, net("photo"), target=967, <lite>)
run_of(photos("data") + <run>)
im.InfoMask(conv(), <wrong reading>)
scored(conv(), <wrong option>)
<wrong call>
"""


def entries() -> Iterator[str]:
    """Every call: for each <word> one of its members, or of those that stand in its place."""
    members: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=\w)", MEMBERS.strip()):
        name, _, listed = block.partition(": ")
        members[name] = " ".join(listed.split()).split(" | ")
    for line in CALLS.strip().split("\n"):
        start, *rest = re.split(r"<([^<>]+)>", line)
        for chosen in itertools.product(*(members.get(w) or w.split(" | ") for w in rest[::2])):
            yield start + "".join(map("".join, zip(chosen, rest[1::2], strict=True)))


def computed(call: str) -> dict[str, Any]:
    """What a call gives or raises, and what it warns of."""
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = {"value": packed(eval(call, globals()))}
        except Exception as error:
            found = {"error": packed(f"{type(error).__name__}: {error}")}
    said = [packed(f"{one.category.__name__}: {one.message}") for one in caught]
    return found | {"warnings": said}


def packed(value: Any) -> Any:  # noqa: PLR0911 - a case for each kind of value
    """A value in words, lists and dicts, which are equal where its bits are."""
    if isinstance(value, Tensor):
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy(force=True)
    if isinstance(value, Figure):
        value.canvas.draw()
        value = np.asarray(value.canvas.buffer_rgba())
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        total, size = (np.nansum(part, dtype=float) for part in (value, np.abs(value)))
        sums = f"sum {total:.9g} size {size:.9g}"
        return f"{value.dtype}{list(value.shape)} {sums} {packed(value.tobytes())}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes {hashlib.sha256(value).hexdigest()[:32]}"
    if isinstance(value, str):
        place = r" at 0x\w+|(?<=<class ')captum_infomask\.[\w.]+\."
        words = re.sub(place, "", value.replace(FOLDER.name, "FOLDER"))
        is_data = len(words) > 20_000 or (len(words) > 300 and " " not in words)
        return packed(words.encode()) if is_data else words
    if isinstance(value, Mapping):
        return {str(name): packed(one) for name, one in value.items() if name not in LEFT_OUT}
    if isinstance(value, list | tuple):
        is_long = len(value) > 20 and all(isinstance(one, float) for one in value)
        return packed(np.array(value)) if is_long else [packed(one) for one in value]
    if inspect.isfunction(value) or (inspect.isclass(value) and "__init__" in vars(value)):
        parts = inspect.signature(value).parameters.values()
        return packed([str(one.replace(annotation=one.empty)) for one in parts])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        names += [name for name, one in vars(type(value)).items() if isinstance(one, property)]
        kept = {name: getattr(value, name) for name in names if name[0] != "_"}
        kept.pop("stacked", None)  # of ClassMaps, whose ranks are kept
        if isinstance(value, im.InfoMap):
            kept |= {"regions": repr(value.regions), "attributions": value.attributions()}
        return packed({"type": type(value).__name__, "words": str(value), **kept})
    return packed(value.tolist() if isinstance(value, np.ndarray) else repr(value))


def leaves(tree: Any, place: str = "") -> dict[str, str]:
    """A tree's words by their places."""
    if not isinstance(tree, dict | list):
        return {place: str(tree)}
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {at: word for name, one in parts for at, word in leaves(one, f"{place}/{name}").items()}


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=("write", "check"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="words in the names of the entries")
    options = parser.parse_args()
    file, start, only = options.file.resolve(), time.monotonic(), options.only
    os.environ["COLUMNS"] = "100"  # of --help
    os.chdir(FOLDER.name)
    found = {call: computed(call) for call in entries() if only in call}
    print(f"{len(found)} entries, {time.monotonic() - start:.0f} s, of {im.__file__}")
    if options.action == "write":
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    kept = json.loads(file.read_text()).items()
    before, after = leaves({call: one for call, one in kept if only in call}), leaves(found)
    places = [at for at in {**before, **after} if before.get(at) != after.get(at)]
    for place in places:
        print(f"{place}\n    {before.get(place)!s:.300}\n    {after.get(place)!s:.300}")
    print(f"{len(places)} differences")
    return int(bool(places))


if __name__ == "__main__":
    sys.exit(main())
