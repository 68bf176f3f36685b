"""The measurement behind the defaults: which settings point at the right photograph?

2 × 2 mosaics of five real photographs that EfficientNet-Lite0 recognises. Each photograph of a
mosaic is the target once; the score is the share of positive attribution inside its quarter.

    python examples/view_defaults.py            # the table of docs/results/defaults.md, minutes
    python examples/view_defaults.py --quick    # two mosaics
"""

import argparse
import itertools
import platform
import time
from dataclasses import replace

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam, Occlusion
from PIL import Image
from torch import Tensor

from captum_infomask import InfoMask
from captum_infomask.comparison.layers import last_feature_map
from captum_infomask.datasets import sample_photo
from captum_infomask.models.imagenet import efficientnet_lite0

PHOTOS = {"coffee": 967, "camera": 872, "rocket": 657, "chelsea": 282, "motorcycle_left": 665}
SIDE = 224
# Window / stride in pixels of the 448-pixel mosaic: 1/8 to 3/8 of its side.
WINDOWS = [(56, 28), (84, 28), (112, 28), (112, 56), (168, 56)]


class Replay:
    """A network that answers the same series of pictures again without computing it twice.

    Views do not depend on the target, so the four targets of a mosaic share their forward passes.
    """

    def __init__(self, network):
        self.network, self.outputs, self.next = network, [], 0

    def __call__(self, x: Tensor) -> Tensor:
        if self.next == len(self.outputs):
            self.outputs.append(self.network(x))
        self.next += 1
        return self.outputs[self.next - 1]


def mosaics(preprocess, count=None):
    """Every choice of four of the five photographs, in two arrangements: (picture, names)."""
    tiles = {name: preprocess(Image.fromarray(sample_photo(name))) for name in PHOTOS}
    made = []
    for four in itertools.combinations(PHOTOS, 4):
        for names in (four, four[::-1]):
            rows = [torch.cat([tiles[a], tiles[b]], 3) for a, b in (names[:2], names[2:])]
            made.append((torch.cat(rows, 2), names))
    return made[:count]


def share_in_quarter(attribution: Tensor, quarter: int) -> float:
    """Share of the positive attribution that lies in a quarter; 0 where nothing is positive."""
    positive = attribution[0].clamp_min(0).sum(0)
    row, column = divmod(quarter, 2)
    inside = positive[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
    total = float(positive.sum())
    return float(inside.sum()) / total if total > 0 else 0.0


def info_mask_shares(network, picture, names, **options):
    """Shares of the four targets for every overlap and, where it applies, reference."""
    replay = Replay(network)
    infomask = InfoMask(replay)
    found = {}
    for quarter, name in enumerate(names):
        replay.next = 0
        infomap = infomask.score_regions(picture, target=PHOTOS[name], **options)
        for overlap in ("mean", "mixture", "max"):
            maps = {"": infomap}
            if infomap.blank is not None:
                prior = replace(infomap, scores=infomap.scores + infomap.blank, blank=None)
                maps = {"blank": infomap, "prior": prior}
            for reference, one in maps.items():
                share = share_in_quarter(replace(one, overlap=overlap).attributions(), quarter)
                found.setdefault((reference, overlap), []).append(share)
    return found


def other_shares(network, picture, names, generator):
    """Grad-CAM at three layers, Captum's Occlusion on log-probabilities, and two controls."""
    found = {}
    layers = {
        "the last convolution": network._conv_head,
        "its batch norm": last_feature_map(network, picture),
        "its ReLU6": network._swish,
    }
    replay = Replay(lambda x: network(x).log_softmax(1))
    place = torch.linspace(-1, 1, 2 * SIDE)
    blob = (-(place[:, None] ** 2 + place[None] ** 2) * 2).exp()[None, None]
    for quarter, name in enumerate(names):
        target = PHOTOS[name]
        for where, layer in layers.items():
            cam = LayerGradCam(network, layer)
            coarse = cam.attribute(picture, target=target, relu_attributions=True).detach()
            smooth = LayerAttribution.interpolate(coarse, picture.shape[2:], "bilinear")
            share = share_in_quarter(smooth, quarter)
            found.setdefault(f"Grad-CAM, {where}", []).append(share)
        replay.next = 0
        with torch.no_grad():
            occluded = Occlusion(replay).attribute(
                picture,
                sliding_window_shapes=(3, 112, 112),
                strides=(3, 56, 56),
                target=target,
                perturbations_per_eval=16,
            )
        noise = torch.rand(picture.shape, generator=generator)
        for method, attribution in {
            "Occlusion, log-probabilities, 112/56": occluded,
            "control: centred blob": blob,
            "control: uniform noise": noise,
        }.items():
            found.setdefault(method, []).append(share_in_quarter(attribution, quarter))
    return found


def interval(shares, generator, draws=2000):
    """Mean and 95% bootstrap interval over mosaics (four targets of one mosaic stay together)."""
    per_mosaic = np.array(shares).reshape(-1, 4).mean(1)
    means = generator.choice(per_mosaic, (draws, len(per_mosaic))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{per_mosaic.mean():.3f} [{low:.3f}, {high:.3f}]"


def settings():
    """Every InfoMask setting that is compared, by its name in the table."""
    for window, stride in WINDOWS:
        options = {
            "sliding_window_shapes": (3, window, window),
            "strides": (3, stride, stride),
            "view": "crop",
            "reference": "blank",
            "crop_size": (SIDE, SIDE),
        }
        yield f"crop {window}/{stride}", options
    yield "crop 112/56, size 448", {**options_of(112, 56), "view": "crop", "reference": "blank"}
    yield "keep 112/56", {**options_of(112, 56), "view": "keep"}
    yield "drop 112/56", {**options_of(112, 56), "view": "drop"}


def options_of(window, stride):
    return {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two mosaics instead of ten")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    classifier = efficientnet_lite0()
    pictures = mosaics(classifier.preprocess, 2 if arguments.quick else None)
    table, others = {}, {}
    torch_generator = torch.Generator().manual_seed(0)
    for picture, names in pictures:
        for method, shares in other_shares(
            classifier.network, picture, names, torch_generator
        ).items():
            others.setdefault(method, []).extend(shares)
        for name, options in settings():
            started = time.perf_counter()
            found = info_mask_shares(classifier.network, picture, names, **options)
            for (reference, overlap), shares in found.items():
                table.setdefault((name, reference), {}).setdefault(overlap, []).extend(shares)
            print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)
    generator = np.random.default_rng(0)
    print(
        f"\n{len(pictures)} mosaics × 4 targets; torch {torch.__version__}, {platform.machine()}\n"
    )
    print("| InfoMask | reference | mean | mixture | max |\n|---|---|---|---|---|")
    for (name, reference), overlaps in table.items():
        cells = " | ".join(
            interval(overlaps[overlap], generator) for overlap in ("mean", "mixture", "max")
        )
        print(f"| {name} | {reference or '–'} | {cells} |")
    print("\n| other methods and controls | share |\n|---|---|")
    for method, shares in others.items():
        print(f"| {method} | {interval(shares, generator)} |")


if __name__ == "__main__":
    main()
