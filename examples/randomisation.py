"""Whether maps change when the network forgets what it learned.

Re-draws the layers of EfficientNet-Lite0 from the last to the first and compares the maps of a
photo with those of the network as trained. Prints the tables and draws the picture of
docs/results/randomisation.md. Run from the repository's root:

    python examples/randomisation.py --out docs/results/randomisation.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from captum_infomask.comparison.gradcam_layers import layer_map
from captum_infomask.datasets import sample_photo
from captum_infomask.evaluation.method_calls import Attribute, grad_cam, info_mask
from captum_infomask.evaluation.randomisation import Explain, randomisation_check
from captum_infomask.models.classifier import resolve_target
from captum_infomask.models.imagenet import efficientnet_lite0

SHAPES, STRIDES = (3, 64, 64), (3, 40, 40)  # 25 windows: enough for an order, and quick


def bound(attribute: Attribute) -> Explain:
    """A method for any network."""
    return lambda model, inputs, target: attribute(model, inputs, target, False)


def cam(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    """Grad-CAM at the last feature map of whichever network is given."""
    return grad_cam(layer_map(model, inputs).module)(model, inputs, target, False)


def edges(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    """Where the picture changes: a control that sees no network."""
    down, across = torch.gradient(inputs.mean(1, keepdim=True), dim=(2, 3))
    return (down**2 + across**2).sqrt()


def methods() -> dict[str, Explain]:
    windows = {"sliding_window_shapes": SHAPES, "strides": STRIDES}
    return {
        "InfoMask": bound(info_mask()),
        "InfoMask evidence": bound(info_mask(view="evidence")),
        "InfoMask drop": bound(info_mask(view="drop", **windows)),
        "Grad-CAM": cam,
        "edges (control)": edges,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("randomisation.png"))
    parser.add_argument("--seed", type=int, default=0, help="of the new weights")
    options = parser.parse_args()
    torch.set_num_threads(1)
    classifier = efficientnet_lite0()
    picture = classifier.preprocess(Image.fromarray(sample_photo("camera")))
    target = resolve_target("tripod", classifier.categories)
    start = time.perf_counter()
    check = randomisation_check(
        classifier.network, picture, target, methods(), seed=options.seed, show_progress=True
    )
    print(check.text())
    last = zip(check.names, check.spearman[:, -1], strict=True)
    print("\nAll layers re-drawn: " + ", ".join(f"{name} {value:.2f}" for name, value in last))
    figure, _ = check.figure()
    figure.savefig(options.out, dpi=130, pil_kwargs={"optimize": True})
    print(f"{time.perf_counter() - start:.0f} s. Wrote {options.out}")


if __name__ == "__main__":
    main()
