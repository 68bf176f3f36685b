"""What each imputer puts in the place of hidden pixels, and what that costs.

Draws the picture of docs/imputers.md and prints its table. Run from the repository's root:

    python examples/imputer_gallery.py --out docs/imputers.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from captum_infomask.datasets import sample_photo
from captum_infomask.imputers import (
    Blur,
    ConditionalPatches,
    Constant,
    Imputer,
    Inpaint,
    LocalMean,
    MarginalPatches,
    NoisyLinear,
    NormalNoise,
    UniformNoise,
)

SIDE = 224
DONORS = ("astronaut", "camera", "coffee", "motorcycle_left", "rocket")
CROPS = 100  # of each donor
HOLES = ((56, 48, 56), (74, 164, 48), (158, 118, 48))  # top, left, side
COSTS = {"16² hidden": (16, False), "56² hidden": (56, False), "all but 56²": (56, True)}


def photo() -> Tensor:
    """The cat's face, (1, 3, 224, 224), from 0 to 1."""
    cat = Image.fromarray(sample_photo("chelsea")).crop((70, 0, 370, 300))
    return as_tensor(cat.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def as_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255


def donors() -> Tensor:
    """Random crops of the other photos."""
    generator = np.random.default_rng(0)
    crops = []
    for name in DONORS:
        picture = Image.fromarray(sample_photo(name))
        for _ in range(CROPS):
            side = int(generator.uniform(0.4, 1) * min(picture.size))
            left, top = (int(generator.integers(length - side + 1)) for length in picture.size)
            crop = picture.resize((SIDE, SIDE), box=(left, top, left + side, top + side))
            crops.append(as_tensor(crop))
    return torch.cat(crops)


def imputers() -> dict[str, Imputer]:
    others = donors()
    return {
        "Constant(0.5)": Constant(0.5),
        "Blur()": Blur(),
        "LocalMean()": LocalMean(),
        'Inpaint("telea")': Inpaint("telea"),
        'Inpaint("navier_stokes")': Inpaint("navier_stokes"),
        "NoisyLinear()": NoisyLinear(),
        "MarginalPatches(images)": MarginalPatches(others),
        "ConditionalPatches(images, 4)": ConditionalPatches(others, neighbours=4),
        "UniformNoise()": UniformNoise(),
        "NormalNoise()": NormalNoise(),
    }


def seconds(imputer: Imputer, picture: Tensor, side: int, keep: bool) -> float:
    """Of CPU time for 100 views of other places, in chunks of 10; the preparation included."""
    begun = time.process_time()
    stand_in = imputer.prepare((picture,))
    for row in range(10):
        hidden = torch.zeros(10, 1, SIDE, SIDE, dtype=torch.bool)
        top = row * (SIDE - side) // 9
        for column in range(10):
            left = column * (SIDE - side) // 9
            hidden[column, :, top : top + side, left : left + side] = True
        stand_in(torch.zeros(10, dtype=torch.long), (~hidden if keep else hidden,))
    return time.process_time() - begun


def impute(imputer: Imputer, picture: Tensor) -> Tensor:
    """Fill each hole as a region of its own, with all else visible."""
    stand_in, filled = imputer.prepare((picture,)), picture
    for top, left, side in HOLES:
        hidden = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
        hidden[..., top : top + side, left : left + side] = True
        (values,) = stand_in(torch.tensor([0]), (hidden,))
        filled = torch.where(hidden, values, filled)
    return filled


def draw(picture: Tensor, filled: dict[str, Tensor]) -> Figure:
    panels = {"the photo": picture, "what is hidden": impute(Constant(1), picture), **filled}
    figure = Figure(figsize=(9.2, 7.4), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    for axis, (name, panel) in zip(figure.subplots(3, 4).flat, panels.items(), strict=True):
        axis.imshow(panel[0].permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="lanczos")
        axis.set_title(name, fontsize=9, family="sans-serif" if panel is picture else "monospace")
        axis.set_axis_off()
        for top, left, side in HOLES if name != "the photo" else ():
            frame = Rectangle((left - 0.5, top - 0.5), side, side, fill=False, lw=0.5, ec="white")
            axis.add_patch(frame)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("imputers.png"))
    out = parser.parse_args().out
    torch.set_num_threads(1)
    picture = photo()
    filled = {}
    print(f"| CPU seconds for 100 views of {SIDE}² | " + " | ".join(COSTS) + " |")
    print("|---|" + "---:|" * len(COSTS))
    for name, imputer in imputers().items():
        filled[name] = impute(imputer, picture)
        costs = [f"{seconds(imputer, picture, *cost):.2f}" for cost in COSTS.values()]
        print(f"| `{name}` | " + " | ".join(costs) + " |")
    figure = draw(picture, filled)
    FigureCanvasAgg(figure).print_png(str(out), pil_kwargs={"optimize": True})
    print(f"\nWrote {out}")


if __name__ == "__main__":
    main()
