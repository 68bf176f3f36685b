# A run over a data set against a bare loop around score_regions, on this machine.
#
#     python examples/benchmarks/run_speed.py --pictures 2000 --rounds 5
#
# The loops' chunks are the best of several that are tried first. One loop has its pictures decoded
# before its clock starts; the other decodes them itself, as it would have to. A run's clock covers
# the whole call: it lists the pictures, loads the network, starts processes, and writes files.
from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from digit_pictures import save_two_digits
from interleave import Call, interleaved, spread
from machine import machine
from torch import Tensor

from captum_infomask import InfoMask, run_dataset
from captum_infomask.dataset_run.data.data_pictures import decode_picture, find_pictures
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.loading import load_classifier

WINDOWS = {"sliding_window_shapes": (1, 20, 20), "strides": (1, 4, 4)}
TRIED = ((32, None), (64, None), (128, None), (256, None), (256, 1), (512, None))
DECODED, DECODING = "loop, pictures decoded before", "loop that decodes"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--decoders", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    classifier = load_classifier("two_digits")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "pictures")
        save_two_digits(folder, options.pictures)
        pictures = decoded(folder, classifier)
        few = pictures[:512]
        tried = [partial(loop, classifier, few, *each) for each in TRIED]
        seconds = interleaved(tried, 3)
        chunks = TRIED[min(range(len(TRIED)), key=lambda k: min(row[k][0] for row in seconds))]
        calls: dict[str, Call] = {
            DECODED: lambda: loop(classifier, pictures, *chunks),
            DECODING: lambda: loop(classifier, decoded(folder, classifier), *chunks),
        }
        for decoders in options.decoders:
            calls[f"run_dataset, {decoders} decoding"] = runner(folder, Path(name), decoders)
        table = interleaved(list(calls.values()), options.rounds)
    walls = [[seconds for seconds, _ in row] for row in table]
    print(f"{machine()}; {options.pictures} pictures, {options.rounds} rounds: median [range]")
    print(
        f"best of the loops tried: {chunks[0]} pictures a call, {chunks[1]} per chunk and picture"
    )
    print(f"\n| what | pictures/s | of {DECODED} | of {DECODING} |\n| -- | --: | --: | --: |")
    for k, what in enumerate(calls):
        speed = [options.pictures / row[k] for row in walls]
        shares = [spread([row[other] / row[k] for row in walls], 2) for other in (0, 1)]
        print(f"| {what} | {statistics.median(speed):.1f} | {shares[0]} | {shares[1]} |")


def decoded(folder: Path, classifier: Classifier) -> Tensor:
    pictures = find_pictures(folder)
    return torch.stack(
        [
            decode_picture(pictures, k, classifier.preprocess, (1, 28, 56)).tensor
            for k in range(len(pictures.keys))
        ]
    )


def loop(classifier: Classifier, pictures: Tensor, size: int, per_eval: int | None) -> None:
    infomask = InfoMask(classifier.network)
    for some in pictures.split(size):
        target = classifier.network(some).argmax(1)
        infomask.score_regions(some, target=target, perturbations_per_eval=per_eval, **WINDOWS)


def runner(pictures: Path, folder: Path, decoders: int) -> Call:
    def call() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            run_dataset(pictures, "two_digits", out, workers=decoders, **WINDOWS)

    return call


if __name__ == "__main__":
    main()
