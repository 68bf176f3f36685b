# The mosaic experiment: how much attribution lies in the photograph asked about, at what cost?
from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_infomask.comparison.mosaic_methods import MosaicMethod
from captum_infomask.datasets.mosaics import Mosaic
from captum_infomask.evaluation.ground_truth import (
    Estimate,
    average_precision,
    bootstrap,
    positive_share,
)

_EVERY = 4  # average precision ranks every fourth row and column: windows are far coarser


class CountedPixels:
    """A network's forward pass that counts the pixels sent through it.

    A wrapper, not a hook, so that the network is left as it is.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.pixels = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        """Count the batch and run it."""
        self.pixels += len(inputs) * inputs.shape[-2] * inputs.shape[-1]
        return self.network(inputs)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class MosaicRow:
    """What one method gave on M mosaics, each photograph of which was the target once.

    Args:
        method: The method's name.
        unit: What its attributions are counted in.
        shares: (M, 4), share of positive attribution in the target's quarter.
        precisions: (M, 4), average precision of the quarter's pixels, ranked by attribution.
        maps: (4, H, W), the attributions of the first mosaic, in ``unit``.
        pixels: Pixels sent through the network per mosaic, for all four targets.
        seconds: Processor time per mosaic, for all four targets.
    """

    method: str
    unit: str
    shares: Tensor
    precisions: Tensor
    maps: Tensor
    pixels: float
    seconds: float

    @property
    def share(self) -> Estimate:
        """Mean share; the interval is over mosaics, so that a mosaic's targets stay together."""
        return bootstrap(self.shares.mean(1))

    @property
    def precision(self) -> Estimate:
        """Mean average precision, with its interval over mosaics."""
        return bootstrap(self.precisions.mean(1))


def measure_maps(maps: Tensor, mosaic: Mosaic) -> tuple[Tensor, Tensor]:
    """Share of positive attribution in each target's quarter, and its average precision.

    Args:
        maps: (4, H, W), the attributions for the mosaic's photographs in order.
        mosaic: The mosaic, (1, C, H, W).

    Returns:
        Two tensors (4,), from 0 to 1.

    Raises:
        ArgumentError: ``maps`` does not fit the mosaic.

    Example:
        >>> import torch
        >>> from captum_infomask.comparison.mosaics import measure_maps
        >>> from captum_infomask.datasets.mosaics import photo_mosaics
        >>> mosaic = photo_mosaics({name: torch.rand(1, 3, 8, 8) for name in "abcd"})[0]
        >>> measure_maps(mosaic.quarters.float(), mosaic)
        (tensor([1., 1., 1., 1.]), tensor([1., 1., 1., 1.]))
    """
    right = mosaic.quarters
    shares = positive_share(maps, right)
    coarse = maps[:, ::_EVERY, ::_EVERY], right[:, ::_EVERY, ::_EVERY]
    return shares, average_precision(*coarse)


def mosaic_experiment(
    network: nn.Module,
    mosaics: Sequence[Mosaic],
    classes: Mapping[str, int],
    methods: Sequence[MosaicMethod],
) -> list[MosaicRow]:
    """Run methods on mosaics, each photograph of which is the target once.

    Args:
        network: Maps (N, C, H, W), of any height and width, to logits (N, M).
        mosaics: At least one.
        classes: The class of each photograph, by its name.
        methods: What to run, such as :func:`mosaic_methods`.

    Returns:
        One row per method, in the same order.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_infomask.comparison.mosaic_methods import MosaicMethod, blob_classes
        >>> from captum_infomask.comparison.mosaics import mosaic_experiment
        >>> from captum_infomask.datasets.mosaics import photo_mosaics
        >>> mosaics = photo_mosaics({name: torch.rand(1, 3, 8, 8) for name in "abcd"})
        >>> blob = MosaicMethod("blob", "a.u.", blob_classes)
        >>> classes = {name: index for index, name in enumerate("abcd")}
        >>> (row,) = mosaic_experiment(nn.Identity(), mosaics, classes, [blob])
        >>> str(row.share)
        '0.250'
    """
    rows = []
    for method in methods:
        counted = CountedPixels(network)
        seconds = 0.0
        measured = []
        kept: list[Tensor] = []
        for mosaic in mosaics:
            targets = [classes[name] for name in mosaic.names]
            start = time.process_time()
            maps = method.attribute(counted, mosaic.picture, targets)
            seconds += time.process_time() - start
            measured.append(measure_maps(maps, mosaic))
            kept = kept or [maps]
        shares, precisions = (torch.stack(values) for values in zip(*measured, strict=True))
        rows.append(
            MosaicRow(
                method=method.name,
                unit=method.unit,
                shares=shares,
                precisions=precisions,
                maps=kept[0],
                pixels=counted.pixels / len(mosaics),
                seconds=seconds / len(mosaics),
            )
        )
    return rows


def mosaic_table(rows: Sequence[MosaicRow]) -> str:
    """Write rows as a Markdown table: means with 95% bootstrap intervals, from ten mosaics on.

    Args:
        rows: What :func:`mosaic_experiment` returned.

    Returns:
        The table's lines.

    Example:
        >>> from captum_infomask.comparison.mosaics import mosaic_table
        >>> len(mosaic_table([]).splitlines())
        2
    """
    lines = [
        "| method | unit | share in the right quarter | lowest | average precision | megapixels "
        "| seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.method} | {row.unit} | {row.share} | {row.shares.min():.3f} | {row.precision} "
        f"| {row.pixels / 1e6:.2f} | {row.seconds:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)
