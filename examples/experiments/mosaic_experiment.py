# The mosaic experiment: how much attribution lies in the photograph asked about, at what cost?
from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from captum.attr import LayerAttribution, LayerGradCam, Occlusion
from torch import Tensor, nn

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.comparison.methods import centred_blob, uniform_noise
from captum_infomask.evaluation.ground_truth import (
    Estimate,
    average_precision,
    bootstrap,
    positive_share,
)
from captum_infomask.evaluation.method_calls import Forward, target_log_probabilities
from captum_infomask.report.page_content import density


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Four photographs in one picture, row by row.

    Attributes:
        picture: (1, C, 2h, 2w).
        names: The photographs' names: upper left, upper right, lower left, lower right.
    """

    picture: Tensor
    names: tuple[str, str, str, str]

    @property
    def quarters(self) -> Tensor:
        """Where each photograph lies: bool (4, 2h, 2w)."""
        height, width = self.picture.shape[2:]
        places = torch.arange(4).reshape(2, 2)
        rows = places.repeat_interleave(height // 2, 0)
        place_of_pixel = rows.repeat_interleave(width // 2, 1)
        return place_of_pixel == torch.arange(4)[:, None, None]


def photo_mosaics(photos: Mapping[str, Tensor]) -> list[Mosaic]:
    """Every choice of four photographs, in two arrangements: the second is the first turned round.

    Args:
        photos: At least four photographs by name, (1, C, h, w) each, all of one shape.

    Returns:
        The mosaics; the two arrangements of one choice stand side by side.

    Raises:
        ArgumentError: There are fewer than four photographs, or they differ in shape.

    Example:
        >>> import torch
        >>> from experiments.mosaic_experiment import photo_mosaics
        >>> photos = {name: torch.rand(1, 3, 8, 8) for name in "abcde"}
        >>> mosaics = photo_mosaics(photos)
        >>> len(mosaics), mosaics[0].picture.shape, mosaics[0].names, mosaics[1].names
        (10, torch.Size([1, 3, 16, 16]), ('a', 'b', 'c', 'd'), ('d', 'c', 'b', 'a'))
    """
    shapes = {tuple(photo.shape) for photo in photos.values()}
    if len(photos) < 4 or len(shapes) > 1 or any(len(s) != 4 or s[0] != 1 for s in shapes):
        raise ArgumentError(
            "Expected `photos` to be at least four tensors (1, C, h, w) of one shape; got "
            f"{', '.join(f'{name}: {describe(photo)}' for name, photo in photos.items())}."
        )
    made = []
    for chosen in itertools.combinations(photos, 4):
        for names in (chosen, chosen[::-1]):
            a, b, c, d = (photos[name] for name in names)
            made.append(Mosaic(torch.cat([torch.cat([a, b], 3), torch.cat([c, d], 3)], 2), names))
    return made


AttributeAll: TypeAlias = Callable[[Forward, Tensor, Sequence[int]], Tensor]


@dataclass(frozen=True)
class MosaicMethod:
    """An attribution method that answers for several classes of one picture.

    Args:
        name: What tables and figures call it.
        unit: What its values are counted in.
        attribute: ``(forward, picture, targets)`` → (K, H, W); ``forward`` maps (N, C, H, W) to
            logits and is the only way in which it may call the network.
    """

    name: str
    unit: str
    attribute: AttributeAll


def info_mask_classes(**settings: Any) -> AttributeAll:
    """InfoMask with some of ``attribute``'s settings, all classes from one set of passes."""

    def attribute(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
        maps = InfoMask(forward).score_classes(picture, classes=list(targets), **settings)
        planes = [maps.rank(k).attributions()[0, 0] for k in range(len(targets))]
        return torch.stack(planes)

    return attribute


def info_mask_each(**settings: Any) -> AttributeAll:
    """InfoMask with some of ``attribute``'s settings, a class at a time."""

    def attribute(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
        found = [InfoMask(forward).attribute(picture, target=t, **settings) for t in targets]
        return torch.cat(found)[:, 0]

    return attribute


def occlusion_classes(
    window: int, stride: int, read: Callable[[Tensor], Tensor] = lambda logits: logits
) -> AttributeAll:
    """Captum's Occlusion of what ``read`` makes of the logits, all classes from the same passes."""

    def attribute(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
        def several(shown: Tensor) -> Tensor:
            return read(forward(shown))[0, list(targets)]

        channels = picture.shape[1]
        with torch.no_grad():
            # One vector for one picture: Captum then attributes each of its entries.
            found: Tensor = Occlusion(several).attribute(
                picture, (channels, window, window), strides=(channels, stride, stride)
            )
        return found[:, 0]

    return attribute


def grad_cam_classes(layer: nn.Module) -> AttributeAll:
    """Captum's LayerGradCam, its positive part, brought to the picture's size."""

    def attribute(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
        size = (picture.shape[2], picture.shape[3])
        planes = []
        for target in targets:
            with torch.enable_grad():
                coarse = LayerGradCam(forward, layer).attribute(
                    picture, target, relu_attributions=True
                )
            planes.append(LayerAttribution.interpolate(coarse.detach(), size, "bilinear")[0, 0])
        return torch.stack(planes)

    return attribute


def blob_classes(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
    """The control that lies in the middle, whatever the class."""
    return centred_blob(*picture.shape[2:]).expand(len(targets), -1, -1)


def noise_classes(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
    """The control that lies anywhere."""
    return uniform_noise(len(targets), *picture.shape[2:])


def mosaic_methods(
    layers: Mapping[str, nn.Module], *, side: int, sizes: tuple[int, int, int]
) -> tuple[MosaicMethod, ...]:
    """Return the experiment's methods: InfoMask's default and other views, Grad-CAM, and so on.

    Windows are InfoMask's default, a quarter of the mosaic's side, an eighth apart; half as far
    apart in the fine setting.

    Args:
        layers: What Grad-CAM looks at, by the names of its rows.
        side: The side of the mosaics in pixels.
        sizes: Three sides that crops are resized to: that of the pictures which the network was
            trained on, a smaller and a still smaller one; the last two are also used together.

    Returns:
        The methods, in the order of the table.

    Example:
        >>> from torch import nn
        >>> from experiments.mosaic_experiment import mosaic_methods
        >>> layers = {"convolution": nn.Conv2d(3, 2, 3)}
        >>> mosaic_methods(layers, side=16, sizes=(8, 6, 4))[4].name
        'InfoMask crop, size 6'
    """
    window, stride = side // 4, side // 8
    squares = [(size, size) for size in sizes]
    trained, smaller, smallest = sizes
    fine = info_mask_classes(
        sliding_window_shapes=(3, window, window),
        strides=(3, stride // 2, stride // 2),
        crop_size=squares[1],
    )
    own, cheap = (info_mask_classes(crop_size=square) for square in squares[:2])
    both = info_mask_classes(crop_size=squares[1:])
    log_p = occlusion_classes(window, stride, target_log_probabilities)
    return (
        MosaicMethod("InfoMask", density("bits"), info_mask_each()),
        MosaicMethod("InfoMask evidence", density("bits"), info_mask_classes(view="evidence")),
        MosaicMethod("InfoMask crop, no size given", "bits", info_mask_classes(view="crop")),
        MosaicMethod(f"InfoMask crop, size {trained}", "bits", own),
        MosaicMethod(f"InfoMask crop, size {smaller}", "bits", cheap),
        MosaicMethod(f"InfoMask crop, size {smaller}, fine", "bits", fine),
        MosaicMethod(f"InfoMask crop, sizes {smaller} and {smallest}", "bits", both),
        MosaicMethod("InfoMask keep", "bits", info_mask_classes(view="keep")),
        MosaicMethod("InfoMask drop", "bits", info_mask_classes(view="drop")),
        *(
            MosaicMethod(f"Grad-CAM, {name}", "a.u.", grad_cam_classes(layer))
            for name, layer in layers.items()
        ),
        MosaicMethod("Occlusion, logits", "logits", occlusion_classes(window, stride)),
        MosaicMethod("Occlusion, log-probabilities", "nats", log_p),
        MosaicMethod("centred blob (control)", "a.u.", blob_classes),
        MosaicMethod("uniform noise (control)", "a.u.", noise_classes),
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
        >>> from experiments.mosaic_experiment import measure_maps
        >>> from experiments.mosaic_experiment import photo_mosaics
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
        >>> from experiments.mosaic_experiment import MosaicMethod, blob_classes
        >>> from experiments.mosaic_experiment import mosaic_experiment
        >>> from experiments.mosaic_experiment import photo_mosaics
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
        >>> from experiments.mosaic_experiment import mosaic_table
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
