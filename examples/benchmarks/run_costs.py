# What a picture and a view of a run over a data set cost, and so what ImageNet would.
#
#     OMP_NUM_THREADS=1 python examples/benchmarks/run_costs.py --pictures 8
#
# One worker of one thread, as Ray has them. Weights are random: they do not change the time. The
# clock is the run's own, per batch; reading and decoding, which the same thread does, is timed by
# itself.
from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from machine import machine
from PIL import Image

from captum_infomask import run_dataset
from captum_infomask.dataset_run.data.data_pictures import decode_picture, find_pictures
from captum_infomask.datasets import sample_photo
from captum_infomask.models.preprocessing import Preprocess

NETWORKS = ("mobilenet_v2", "resnet18", "resnet50")
CASES = (
    ("crop", 56, 56, None),  # view, window, stride, crop size
    ("crop", 56, 28, None),
    ("crop", 56, 28, (160, 160)),
    ("drop", 56, 28, None),
)
PHOTOS = ("coffee", "camera", "rocket", "chelsea")
IMAGENET = 1_281_167
WORKERS = (16, 128, 1024)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    hours = " | ".join(f"h on {workers:,}" for workers in WORKERS)
    with tempfile.TemporaryDirectory() as name:
        save_photos(Path(name, "photos"), options.pictures)
        decoding = decoding_seconds(Path(name, "photos"))
        print(f"{machine()}; {options.pictures} pictures, {1e3 * decoding:.1f} ms to decode one\n")
        print(f"| network | view | windows | s per picture | ms per view | {hours} |")
        print("| -- | -- | --: | --: | --: |" + " --: |" * len(WORKERS))
        for network in options.networks:
            for number, case in enumerate(CASES):
                cost(Path(name), decoding, network, f"{network}{number}", *case)


def cost(
    folder: Path,
    decoding: float,
    network: str,
    name: str,
    view: str,
    window: int,
    stride: int,
    crop_size: tuple[int, int] | None,
) -> None:
    options = {} if crop_size is None else {"crop_size": crop_size}
    call = {
        "data": folder / "photos",
        "model": f"torchvision.models:{network}",
        "out": folder / name,
        "workers": 0,
        "sliding_window_shapes": (3, window, window),
        "strides": (3, stride, stride),
        "view": view,
        **options,
    }
    torch.manual_seed(0)
    run = run_dataset(**call)
    per_picture = sum(run.table["seconds"].to_pylist()) / len(run)
    views = run[next(iter(run))].views
    what = view if crop_size is None else f"{view} at {crop_size[0]}"
    hours = [f"{IMAGENET * (per_picture + decoding) / workers / 3600:,.1f}" for workers in WORKERS]
    print(
        f"| {network} | {what} | {len(run[next(iter(run))].regions)} | {per_picture:.2f} | "
        f"{1e3 * per_picture / views:.1f} | {' | '.join(hours)} |",
        flush=True,
    )


def decoding_seconds(folder: Path) -> float:
    """To read, decode and preprocess a picture."""
    pictures, preprocess = find_pictures(folder), Preprocess()
    start = time.perf_counter()
    for k in range(len(pictures.keys)):
        decode_picture(pictures, k, preprocess, (3, 224, 224))
    return (time.perf_counter() - start) / len(pictures.keys)


def save_photos(folder: Path, count: int) -> None:
    folder.mkdir()
    for k in range(count):
        photo = Image.fromarray(sample_photo(PHOTOS[k % len(PHOTOS)]))
        photo.rotate(k).save(folder / f"{k:03d}.jpg", quality=90)


if __name__ == "__main__":
    main()
