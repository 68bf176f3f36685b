"""Are the bits true? Known truth, two digits, and EfficientNet-Lite0 on labelled photographs.

Run from the repository's root, e.g.

    python examples/reliability_in_bits.py --mnist data
    python examples/reliability_in_bits.py --photographs FOLDER     # files named *_LABEL.jpg

Without --mnist the digits are scikit-learn's. The photographs are the 20 of ImageNet in the package
foolbox, if it is installed or its folder ``data`` is given, and else scikit-image's five.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from experiments.bits_reliability_experiment import (
    Panel,
    efficientnet_panels,
    foolbox_folder,
    known_truth,
    photographs,
    reliability_panels,
    reliability_table,
    two_digits_panels,
)
from two_digits import accuracy, train

from captum_infomask import ArgumentError
from captum_infomask._process import quiet
from captum_infomask.datasets import mnist, sklearn_digits, two_digits
from captum_infomask.models.imagenet import efficientnet_lite0

HELD_OUT = 4000  # two-digit pictures for the temperature


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mnist", metavar="ROOT", help="MNIST's folder, not scikit-learn's digits")
    parser.add_argument("--target", type=int, default=0, choices=range(10))
    parser.add_argument("--photographs", type=Path, metavar="FOLDER")
    parser.add_argument("--count", type=int, default=2000, help="test pictures")
    parser.add_argument("--train", type=int, default=16_000, help="two-digit training pictures")
    parser.add_argument("--steps", type=int, default=1000, help="of both fits, 64 pictures each")
    parser.add_argument("--copies", type=int, default=4, help="crops of each photograph")
    parser.add_argument("--out", type=Path, default=Path("build/bits_reliability"))
    return parser.parse_args(arguments)


def two_digit_part(options: argparse.Namespace) -> tuple[list[Panel], str]:
    """Train the network; its panels, and its accuracy in words."""
    seen, unseen = (
        sklearn_digits(part) if options.mnist is None else mnist(options.mnist, part)
        for part in (True, False)
    )
    # Digits of the temperature's pictures are neither trained on nor tested on.
    cut = len(seen[0]) * 5 // 6
    parts = [tuple(one[:cut] for one in seen), tuple(one[cut:] for one in seen), unseen]
    counts = (options.train, min(HELD_OUT, options.count), options.count)
    trained_on, held_out, tested_on = (
        two_digits(*part, target=options.target, count=count, seed=place)
        for place, (part, count) in enumerate(zip(parts, counts, strict=True))
    )
    network = train(trained_on, steps=options.steps, seed=0)
    panels = two_digits_panels(network, trained_on, held_out, tested_on, steps=options.steps)
    words = f"Two digits, target {options.target}: accuracy {accuracy(network, tested_on):.4f}."
    return panels, words


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    options, start = parse(arguments), time.perf_counter()
    try:
        panels = known_truth(options.count)
        with quiet("More than half of the regions"):  # the figure says it
            more, words = two_digit_part(options)
            pictures, labels = photographs(options.photographs or foolbox_folder())
            photos = efficientnet_panels(
                efficientnet_lite0(), pictures, labels, copies=options.copies
            )
    except ArgumentError as error:
        sys.exit(f"error: {error}")
    panels = [*panels, *photos, *more]
    seconds = f"{time.perf_counter() - start:.0f} s on {torch.get_num_threads()} threads."
    text = "\n\n".join([words, seconds, reliability_table(panels)])
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bits_reliability.md").write_text(f"{text}\n", encoding="utf-8")
    reliability_panels(panels).savefig(options.out / "bits_reliability.png", dpi=110)
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
