# What superpixels cost: their making and 100 `drop` views, against the forward passes alone.
#
#     python examples/benchmarks/regions.py --threads 1
#
# All that is compared runs interleaved in one process; the ratios are taken within rounds.
from __future__ import annotations

import argparse

import skimage
import torch
from interleave import Call, interleaved, spread
from machine import machine
from networks import network
from torch.nn import functional as F

from captum_infomask import InfoMask, superpixels
from captum_infomask.datasets import sample_photo

COUNT, CHUNK = 100, 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
METHODS = ("slic", "felzenszwalb", "quickshift", "watershed")


def photo() -> torch.Tensor:
    """A photo of 224 × 224 pixels, normalised as for ImageNet: (1, 3, 224, 224)."""
    pixels = torch.from_numpy(sample_photo("coffee").copy()).permute(2, 0, 1)[None] / 255
    small = F.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)
    return (small - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def measured(rounds: int) -> None:
    model, x = network("resnet18"), photo()
    views = x.repeat(COUNT, 1, 1, 1)

    @torch.no_grad()
    def passes() -> torch.Tensor:
        return torch.cat([model(chunk) for chunk in (x, *views.split(CHUNK))])

    def attributed(method: str) -> Call:
        def call() -> torch.Tensor:
            regions = superpixels(x, COUNT, method=method, mean=MEAN, std=STD)
            return InfoMask(model).attribute(
                x, target=1, view="drop", regions=regions, perturbations_per_eval=CHUNK
            )

        return call

    def made(method: str) -> Call:
        return lambda: superpixels(x, COUNT, method=method, mean=MEAN, std=STD).labels[0]

    calls = [passes, *map(attributed, METHODS), *map(made, METHODS)]
    table = interleaved(calls, rounds)
    print(f"ResNet-18, 224², {COUNT} regions, {rounds} rounds: median [range]")
    print(f"  forward passes alone {spread([row[0][0] for row in table], 2)} s")
    for k, method in enumerate(METHODS, start=1):
        ratios = spread([row[k][0] / row[0][0] for row in table])
        used = spread([row[k][1] / row[0][1] for row in table])
        making = spread([row[k + len(METHODS)][0] for row in table])
        print(f"  {method:12s} ratio {ratios}; of processor time {used}; regions alone {making} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what superpixels cost.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{machine()}, scikit-image {skimage.__version__}")
    measured(arguments.rounds)


if __name__ == "__main__":
    main()
