# Reads how image processors of Hugging Face's transformers prepare photographs.
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import warn
from captum_infomask._process import quiet
from captum_infomask.models.preprocessing import Preprocess

_INTERPOLATIONS = {  # by Pillow's numbers
    0: InterpolationMode.NEAREST,
    1: InterpolationMode.LANCZOS,
    2: InterpolationMode.BILINEAR,
    3: InterpolationMode.BICUBIC,
    4: InterpolationMode.BOX,
    5: InterpolationMode.HAMMING,
}
_LEVELS = 1  # of 255, by which two ways of resizing may differ on average
_PROBE = (217, 301)  # height and width in pixels, odd, so that it shows where the centre begins


def preprocess_of_config(config: Any) -> Preprocess:
    """Return the preprocessing for ImageNet, at the size and with the channels of a config."""
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    channels = _channels(config)
    whole = Preprocess()
    return Preprocess(
        resize=round(min(height, width) * 256 / 224),
        crop=(height, width),
        mean=whole.mean if channels == 3 else (0.5,) * channels,
        std=whole.std if channels == 3 else (0.25,) * channels,
    )


def _channels(config: Any) -> int:
    return int(getattr(getattr(config, "vision_config", config), "num_channels", 3))


def preprocess_of_processor(processor: Any, config: Any) -> Preprocess:
    """Return how an image processor prepares photographs.

    Args:
        processor: An image processor of transformers, or one of pictures and texts.
        config: The network's config.

    Returns:
        The preprocessing, which was compared with the processor on one picture.

    Raises:
        ArgumentError: The processor does something else, or is none.
    """
    own = getattr(processor, "image_processor", processor)  # of a processor of pictures and texts
    if not callable(own) or not hasattr(own, "size"):
        raise ArgumentError(
            f"Expected `processor` to be an image processor of transformers; got "
            f"{describe(processor)}."
        )
    try:
        made = _made_of(own, _channels(config))
        _check_same(own, made)
    except (ArgumentError, MemoryError):
        raise
    except Exception as error:  # processors, and settings that they do not check, raise any kind
        raise _unlike(own, f"it raises {type(error).__name__}: {error}") from error
    return made


def _made_of(own: Any, channels: int) -> Preprocess:
    """The preprocessing that the settings of a processor describe."""
    resize, crop = _sizes(own)
    factor = 255 * float(_given(own, "rescale_factor", 1 / 255)) if _does(own, "rescale") else 255.0
    factor = 1.0 if math.isclose(factor, 1) else factor
    mean, std = (0.0,) * channels, (1.0,) * channels
    if _does(own, "normalize"):
        mean, std = _row(own.image_mean, channels), _row(own.image_std, channels)
    resample = _given(own, "resample", 2)
    return Preprocess(
        resize=resize,
        crop=crop,
        mean=tuple(each / factor for each in mean),
        std=tuple(each / factor for each in std),
        interpolation=(
            resample if isinstance(resample, InterpolationMode) else _INTERPOLATIONS[int(resample)]
        ),
        rounds_down=True,
    )


def _sizes(own: Any) -> tuple[int | tuple[int, int], tuple[int, int]]:
    """What a processor resizes to, and (height, width) of the part that it cuts out."""
    size, cut = _sides(own.size), _sides(_given(own, "crop_size", {}))
    if not _does(own, "resize") or not ({"height", "width"} <= size.keys() or len(size) == 1):
        raise _unlike(own, f"it resizes to {size if _does(own, 'resize') else 'nothing'}")
    if {"height", "width"} <= size.keys():
        resize: int | tuple[int, int] = (size["height"], size["width"])
        crop = (size["height"], size["width"])
    else:
        side = next(iter(size.values()))
        share = getattr(own, "crop_pct", None)  # ConvNeXt's: smaller pictures lose a border
        resize, crop = side if share is None else int(side / share), (side, side)
        if share is not None and side >= 384:
            resize = (side, side)
    if _does(own, "center_crop"):
        crop = (cut["height"], cut["width"]) if "height" in cut else _square(cut)
    elif isinstance(resize, int) and getattr(own, "crop_pct", None) is None:
        warn(
            f"{type(own).__name__} cuts nothing out of pictures, whose shapes then differ; here "
            f"the centre of {crop[0]} × {crop[1]} is cut out."
        )
    return resize, crop


def _square(size: Mapping[str, int]) -> tuple[int, int]:
    (side,) = size.values()
    return side, side


def _sides(size: Any) -> dict[str, int]:
    """The sides that a size names; a number alone is the shortest edge."""
    if isinstance(size, int):
        return {"shortest_edge": size}
    pairs = size.items() if isinstance(size, Mapping) else vars(size).items()
    return {name: int(side) for name, side in pairs if side is not None}


def _does(own: Any, step: str) -> bool:
    return bool(getattr(own, f"do_{step}", False))


def _given(own: Any, name: str, default: Any) -> Any:
    value = getattr(own, name, None)
    return default if value is None else value


def _row(given: Any, channels: int) -> tuple[float, ...]:
    row = [given] * channels if isinstance(given, int | float) else given
    return tuple(map(float, row))


def _check_same(own: Any, made: Preprocess) -> None:
    """Compare a processor with the preprocessing that was read from it, on one picture."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 192, (7, 7, made.shape[0]), dtype=np.uint8)
    blocks = coarse.repeat(_PROBE[0] // 7, axis=0).repeat(_PROBE[1] // 7, axis=1)
    pixels = blocks + generator.integers(0, 64, blocks.shape, dtype=np.uint8)
    cropped = _does(own, "center_crop") or not isinstance(made.resize, int)
    if not cropped and getattr(own, "crop_pct", None) is None:
        pixels = pixels[:, : _PROBE[0]]  # a square has no margin
    is_grey = made.shape[0] == 1
    picture = Image.fromarray(pixels[..., 0] if is_grey else pixels)
    with quiet(""):
        # Processors of version 4 take no grey pictures of Pillow's.
        prepared = own(images=pixels if is_grey else picture, return_tensors="pt")["pixel_values"]
    seen = torch.as_tensor(np.asarray(prepared), device="cpu")
    expected = made(picture)
    if seen.shape != expected.shape:
        raise _unlike(own, f"it makes {tuple(seen.shape[1:])} of a picture")
    std = torch.tensor(made.std, device="cpu")[:, None, None]
    levels = float(((seen - expected) * std * 255).abs().mean())
    if levels > _LEVELS:
        raise _unlike(own, f"its pixels differ by {levels:.0f} of 255 on average")


def _unlike(own: Any, why: str) -> ArgumentError:
    return ArgumentError(
        f"Expected `processor` to resize pictures, cut out the centre and normalise; "
        f"{type(own).__name__} does something else: {why}. Leave it out, and give the classifier "
        f"your own: dataclasses.replace(huggingface(model), preprocess=…)."
    )
