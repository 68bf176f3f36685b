# Masks as run lengths, in the form of COCO's annotations.
from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError

# A character holds 5 bits of a number, one bit that says whether more follow, and this offset.
FIRST, BITS, SIGN, MORE = 48, 5, 0x10, 0x20
_LAST = FIRST + 63
_LONGEST = 13  # characters of a number: more than 64 bits


def encode(mask: Tensor) -> dict[str, Any]:
    """Write a mask as COCO's compressed run lengths.

    Pixels are read column by column; the first run counts False. The string holds, for each run
    after the third, the difference from the run before the last one.

    Args:
        mask: Bool (H, W), at least one pixel.

    Returns:
        ``{"size": [H, W], "counts": str}``, ready for JSON and for pycocotools.

    Raises:
        ArgumentError: ``mask`` is not such a tensor.

    Example:
        >>> import torch
        >>> from captum_infomask._run_length import encode
        >>> encode(torch.tensor([[False, True], [True, True]]))
        {'size': [2, 2], 'counts': '13'}

    Source: the form is that of COCO's annotations (Lin et al., ECCV 2014) and its ``maskApi``.
    """
    if (
        not isinstance(mask, Tensor)
        or mask.dtype != torch.bool
        or mask.dim() != 2
        or not mask.numel()
    ):
        raise ArgumentError(f"Expected `mask` to be a boolean tensor (H, W); got {describe(mask)}.")
    pixels = mask.detach().cpu().numpy().ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts = [0, *changes.tolist()] if not pixels[0] else [0, 0, *changes.tolist()]
    counts = [stop - start for start, stop in itertools.pairwise([*starts, len(pixels)])]
    return {"size": list(mask.shape), "counts": _compressed(counts)}


def decode(
    run_lengths: object, *, name: str = "run_lengths", size: tuple[int, int] | None = None
) -> Tensor:
    """Read a mask that COCO's run lengths describe.

    Args:
        run_lengths: ``{"size": [H, W], "counts": ...}`` with a list of run lengths, column by
            column, the first one counting False; or their compressed form, a str or bytes.
        name: What messages call the argument.
        size: The (height, width) that the mask must have; any if None.

    Returns:
        The mask, bool (H, W), on the CPU.

    Raises:
        ArgumentError: It is not such a dict, has another size, has characters that COCO does not
            use, or has runs that do not add up to H · W. Without ``size``, also if it has more
            pixels than Pillow's ``MAX_IMAGE_PIXELS``.

    Example:
        >>> from captum_infomask._run_length import decode
        >>> decode({"size": [2, 2], "counts": [1, 3]})
        tensor([[False,  True],
                [ True,  True]])
    """
    if not isinstance(run_lengths, Mapping) or not {"size", "counts"} <= set(run_lengths):
        raise ArgumentError(
            f"Expected `{name}` in COCO's form, {{'size': [H, W], 'counts': ...}}; got "
            f"{describe(run_lengths)}."
        )
    height, width = _checked_size(run_lengths["size"], name, size)
    if size is None:
        check_pixels(name, height, width)
    counts = _checked_counts(run_lengths["counts"], name)
    if any(count < 0 for count in counts) or sum(counts) != height * width:
        fault = f"a run of {min(counts)}" if min(counts, default=0) < 0 else f"{sum(counts)} in all"
        raise ArgumentError(
            f"Expected the counts of `{name}` to be at least 0 and to add up to {height} × {width} "
            f"= {height * width} pixels; got {fault}."
        )
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return torch.from_numpy(np.ascontiguousarray(pixels.reshape(height, width, order="F")))


def check_pixels(name: str, height: int, width: int) -> None:
    """Refuse masks with more pixels than a picture can have; a few bytes may claim any number."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and height * width > most:
        raise ArgumentError(
            f"Expected `{name}` of at most {most} pixels (Pillow's MAX_IMAGE_PIXELS); got "
            f"{height} × {width}."
        )


def _checked_size(given: Any, name: str, size: tuple[int, int] | None) -> tuple[int, int]:
    sides = list(given) if isinstance(given, list | tuple) else []
    if len(sides) != 2 or not all(_is_integer(side) and side > 0 for side in sides):
        raise ArgumentError(
            f"Expected the size of `{name}` to be [H, W], two integers of at least 1; got "
            f"{describe(given)}."
        )
    if size is not None and tuple(sides) != tuple(size):
        raise ArgumentError(f"Expected `{name}` of size {list(size)}, as the images; got {sides}.")
    return int(sides[0]), int(sides[1])


def _checked_counts(given: Any, name: str) -> list[int]:
    """The run lengths, from either form."""
    if isinstance(given, list) and all(_is_integer(count) for count in given):
        return [int(count) for count in given]
    if not isinstance(given, str | bytes):
        raise ArgumentError(
            f"Expected the counts of `{name}` to be a list of integers, or a str or bytes of the "
            f"compressed form; got {describe(given)}."
        )
    codes = given if isinstance(given, bytes) else [ord(character) for character in given]
    wrong = [place for place, code in enumerate(codes) if not FIRST <= code <= _LAST]
    if wrong:
        raise ArgumentError(
            f"Expected the counts of `{name}` in COCO's characters, '0' to 'o'; got "
            f"{given[wrong[0] : wrong[0] + 1]!r} at place {wrong[0]}."
        )
    if codes and (codes[-1] - FIRST) & MORE:
        raise ArgumentError(
            f"Expected the counts of `{name}` to end with a whole number; the string is cut off "
            f"after {len(codes)} characters."
        )
    counts = _decompressed([code - FIRST for code in codes])
    if counts is None:
        raise ArgumentError(
            f"Expected the counts of `{name}` to be numbers of at most {_LONGEST} characters; got "
            "a longer one."
        )
    return counts


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _compressed(counts: list[int]) -> str:
    codes = []
    for k, count in enumerate(counts):
        number = count - counts[k - 2] if k > 2 else count
        more = True
        while more:
            low = number & (MORE - 1)
            number >>= BITS
            # The highest written bit is the sign, so a number ends when only copies of it remain.
            more = number != (-1 if low & SIGN else 0)
            codes.append(FIRST + low + (MORE if more else 0))
    return bytes(codes).decode("ascii")


def _decompressed(codes: list[int]) -> list[int] | None:
    """The numbers; None if one is longer than any number of a picture."""
    counts: list[int] = []
    number = shift = 0
    for code in codes:
        number |= (code & (MORE - 1)) << shift
        shift += BITS
        if shift > BITS * _LONGEST:
            return None
        if code & MORE:
            continue
        if code & SIGN:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number = shift = 0
    return counts
