# Digits on noise, with a mark or a border that gives the class away; a critic of lone cells.
from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_infomask import InfoMask, grid
from captum_infomask.results.class_maps import ClassMaps
from captum_infomask.results.combine_evidence import combine_evidence
from captum_infomask.results.combined_evidence import CombinedEvidence

SIDE, CELL, PLACES = 40, 8, 25  # digits lie in the 3 × 3 cells of the middle
CORNER = 4  # the place at the top right, where the mark is
BACKGROUND = torch.ones(5, 5).index_fill(0, torch.arange(1, 4), 0).bool()
BACKGROUND = (BACKGROUND | BACKGROUND.T).flatten()
MARKED = 3  # the class that has marks

Digits = tuple[Tensor, Tensor]


def noisy_digits(digits: Digits, count: int, generator: torch.Generator) -> Digits:
    """Draw digits, put each at a random place of the middle, and add noise.

    Args:
        digits: Pictures (M, 28, 28) with a margin of 4, in [0, 1], and their labels.
        count: The number of pictures, N.
        generator: The generator of all draws.

    Returns:
        Pictures (N, 1, 40, 40) in [0, 1], and labels (N,).
    """
    chosen = torch.randint(len(digits[0]), (count,), generator=generator)
    x = 0.15 + 0.1 * torch.randn(count, 1, SIDE, SIDE, generator=generator)
    _put(x, digits[0][chosen, 4:-4, 4:-4], (CELL, CELL), 5, generator)
    return x.clamp_(0, 1), digits[1][chosen]


def with_marks(x: Tensor, which: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a small cross into the corner of some pictures, (N,) bool."""
    cross = torch.zeros(6, 6)
    cross[2:4] = cross[:, 2:4] = 0.6
    marked = x[which]
    _put(marked, cross.expand(len(marked), 6, 6), (0, SIDE - CELL), 3, generator)
    found = x.clone()
    found[which] = marked.clamp_(0, 1)
    return found


def some_of_class(labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The pictures of one class that get the mark: this share of them, rounded."""
    own = (labels == MARKED).nonzero()[:, 0]
    own = own[torch.randperm(len(own), generator=generator)][: round(share * len(own))]
    which = torch.zeros(len(labels), dtype=torch.bool)
    which[own] = True
    return which


def with_borders(x: Tensor, which: Tensor) -> Tensor:
    """Smaller pictures, padded with black to the size of the others, (N,) bool."""
    found = x.clone()
    found[which] = F.pad(x[which][..., 4:-4, 4:-4], (4, 4, 4, 4))
    return found


def fit_cells(x: Tensor, labels: Tensor, *, steps: int, seed: int) -> nn.Module:
    """Train a small network to tell the label from a lone cell of the 5 × 5."""
    cells = F.unfold(x, CELL, stride=CELL).transpose(1, 2).reshape(-1, 1, CELL, CELL)
    return _train(_cell_network, cells, labels.repeat_interleave(PLACES), steps, 1024, seed)


def fit_pictures(x: Tensor, labels: Tensor, *, steps: int, seed: int) -> nn.Module:
    """Train a small convolutional network on whole pictures."""
    return _train(_picture_network, x, labels, steps, 64, seed)


def class_maps(critic: nn.Module, x: Tensor, batch: int = 500) -> Iterator[ClassMaps]:
    """What each cell tells about each class, in batches of pictures."""
    infomask = InfoMask(critic)
    for part in x.split(batch):
        yield infomask.score_classes(
            part, view="crop", crop_size="native", regions=grid(part, 5, 5)
        )


def evidence(critic: nn.Module, x: Tensor, labels: Tensor) -> CombinedEvidence:
    """The evidence of all pictures, by class and place."""
    return combine_evidence(class_maps(critic, x), "class and place", labels=labels)


@torch.no_grad()
def answers(network: nn.Module, x: Tensor) -> Tensor:
    """The network's likeliest class of each picture."""
    return torch.cat([network(part).argmax(1) for part in x.split(500)])


def _put(
    x: Tensor, parts: Tensor, at: tuple[int, int], shifts: int, generator: torch.Generator
) -> None:
    """Add a part to each picture, in place, shifted down and across by less than so many pixels."""
    shift = torch.randint(shifts, (len(x), 2), generator=generator)
    height, width = parts.shape[1:]
    for down in range(shifts):
        for across in range(shifts):
            rows = (shift == torch.tensor([down, across])).all(1)
            top, left = at[0] + down, at[1] + across
            x[rows, 0, top : top + height, left : left + width] += parts[rows]


def _cell_network() -> nn.Module:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(CELL),  # whole pictures are shown too, for the total
        nn.BatchNorm2d(1),
        nn.Flatten(), nn.Linear(CELL * CELL, 96), nn.ReLU(), nn.Linear(96, 48), nn.ReLU(),
        nn.Linear(48, 10),
    )  # fmt: skip


def _picture_network() -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(1), nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 100, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def _train(
    make: Callable[[], nn.Module], x: Tensor, labels: Tensor, steps: int, batch: int, seed: int
) -> nn.Module:
    """Softmax cross-entropy; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
        optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
        for _ in range(steps):
            rows = torch.randint(len(x), (batch,))
            loss = F.cross_entropy(network(x[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()
