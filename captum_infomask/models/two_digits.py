# The small network of the two-digit experiment: does the picture hold the target digit?
from __future__ import annotations

import collections
import itertools
from pathlib import Path

from torch import nn

from captum_infomask.models.checkpoints import fit_state_dict, read_state_dict

_CHECKPOINT = Path(__file__).with_suffix(".safetensors")
_CHANNELS = (1, 16, 32, 64, 96)


def two_digit_network() -> nn.Sequential:
    """Build the untrained two-class network: four convolutions, a global pooling, one linear map.

    Returns:
        A network from (N, 1, H, W), any H and W of at least 8, to logits (N, 2); class 1 says
        that the picture holds the target digit. Its layer ``features`` gives the last feature
        map (N, 96, H/8, W/8), the one for Grad-CAM.

    Example:
        >>> import torch
        >>> from captum_infomask.models.two_digits import two_digit_network
        >>> two_digit_network()(torch.zeros(1, 1, 20, 20)).shape
        torch.Size([1, 2])

    Source: the task of Qin & Kim, arXiv 1910.02629, Section 5.3.
    """
    blocks: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(_CHANNELS):
        blocks += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        blocks += [nn.MaxPool2d(2)]
    layers = {
        "features": nn.Sequential(*blocks[:-1]),
        # The mean over places suits Grad-CAM. With the maximum, its ink IoU on MNIST falls from
        # 0.98 to 0.79, and a comparison on such a network would not be fair.
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classify": nn.Linear(_CHANNELS[-1], 2),
    }
    return nn.Sequential(collections.OrderedDict(layers))


def load_two_digit_network(path: str | Path | None = None) -> nn.Sequential:
    """Load the trained two-class network, by default the packaged one (digit 0).

    Args:
        path: a safetensors file that ``examples/two_digits.py --save-checkpoint`` wrote. None takes
            the file in the package, trained on scikit-learn's digits with target 0.

    Returns:
        The network in evaluation mode.

    Raises:
        ArgumentError: if the file is missing or does not hold such a network.

    Example:
        >>> from captum_infomask.models.two_digits import load_two_digit_network
        >>> load_two_digit_network().training
        False

    Source: the task of Qin & Kim, arXiv 1910.02629, Section 5.3.
    """
    file = _CHECKPOINT if path is None else Path(path)
    network = two_digit_network()
    fit_state_dict(network, read_state_dict(file), file)
    return network.eval()
