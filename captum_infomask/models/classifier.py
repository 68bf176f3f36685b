# A classifier: a network with its preprocessing and the names of its categories.
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_infomask._batches import placed
from captum_infomask._categories import resolve_target
from captum_infomask._errors import ArgumentError
from captum_infomask._outputs import read_logits
from captum_infomask.models.preprocessing import Preprocess

__all__ = ["Classifier", "evaluated", "log_probabilities", "read_categories", "resolve_target"]


@dataclass(frozen=True)
class Classifier:
    """A network, its preprocessing, and the names of its categories.

    The network keeps its mode. ``load_classifier`` gives networks in eval mode. ``run_dataset``
    runs a copy in eval mode. InfoMask warns about a network in training mode.

    Args:
        name: The classifier's name in tables and figures.
        network: Maps (N, C, H, W) to logits (N, M).
        categories: The M category names, in the order of the logits.
        preprocess: A function from a photograph to (1, C, H, W).
        weights: The origin of the weights, in words.

    Raises:
        ArgumentError: if ``categories`` is empty.

    Example:
        >>> from torch import nn
        >>> from captum_infomask.models.classifier import Classifier
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> Classifier("tiny", network.eval(), ("cat", "dog")).categories
        ('cat', 'dog')
    """

    name: str
    network: nn.Module = field(repr=False)
    categories: tuple[str, ...]
    preprocess: Preprocess = field(default_factory=Preprocess)
    weights: str = ""

    def __post_init__(self) -> None:
        if not self.categories:
            raise ArgumentError("Expected `categories` to hold at least one name; got none.")


@contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """Inside the block, a network is in eval mode; afterwards its modes are restored."""
    # Frozen TorchScript has no modes. Setting a compiled module's mode sets its network's mode.
    modes = [(one, one.training) for one in network.modules() if hasattr(one, "training")]
    try:
        for module, _ in modes:
            if module.training:
                module.training = False
        yield
    finally:
        for module, mode in modes:
            if module.training != mode:
                module.training = mode


def read_categories(path: str | Path) -> tuple[str, ...]:
    """Read category names from a text file, one name per line, in the order of the logits.

    Args:
        path: UTF-8 text; empty lines are skipped.

    Returns:
        The names.

    Raises:
        ArgumentError: if the file cannot be read as text, or holds no name.

    Example:
        >>> import os, tempfile
        >>> from captum_infomask.models.classifier import read_categories
        >>> path = os.path.join(tempfile.mkdtemp(), "names.txt")
        >>> with open(path, "w") as file:
        ...     print("cat", "dog", sep=chr(10), file=file)
        >>> read_categories(path)
        ('cat', 'dog')
    """
    try:
        # `splitlines` is not used: it also splits at characters that a name may hold, such as
        # U+2028.
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(
            f"Expected `categories` to be a text file with a name per line; got {path}: {error}."
        ) from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise ArgumentError(f"Expected `categories` to hold a name per line; {path} holds none.")
    return names


@torch.no_grad()
def log_probabilities(classifier: Classifier, inputs: Tensor) -> Tensor:
    """Return log p(y | x) of one picture over all categories, with the network in eval mode.

    Args:
        classifier: The network and its category names.
        inputs: A preprocessed picture, (1, C, H, W).

    Returns:
        (M,), in nats.

    Raises:
        ArgumentError: if the network does not return one finite value per category.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_infomask.models.classifier import Classifier, log_probabilities
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> tiny = Classifier("tiny", network, ("cat", "dog"))
        >>> round(float(log_probabilities(tiny, torch.rand(1, 3, 8, 8)).exp().sum()), 4)
        1.0
    """
    with evaluated(classifier.network):
        logits = read_logits(classifier.network(placed(classifier.network, inputs)), "network")
    expected = (len(inputs), len(classifier.categories))
    shape = tuple(logits.shape)
    if shape != expected:
        raise ArgumentError(
            f"Expected the network to return logits of shape {expected}, one per category name; "
            f"got {shape}. Pass as many category names as the network has classes."
        )
    if not bool(torch.isfinite(logits).all()):
        raise ArgumentError(
            f"Expected the network to return finite logits; got NaN or infinity from "
            f"{classifier.name}."
        )
    return torch.log_softmax(logits[0].float(), dim=0)
