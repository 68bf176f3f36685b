# Attributions → the score maps that the WSOL evaluation code reads.
from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path, PurePosixPath

import numpy as np
from torch import Tensor

from captum_infomask._checks import describe, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._files import output_file
from captum_infomask._types import TensorOrTensors
from captum_infomask.masks.planes import attribution_planes, normalised


def export_wsol(
    attributions: TensorOrTensors | list[Tensor],
    keys: Sequence[str],
    folder: str | PathLike[str],
) -> list[Path]:
    """Write attributions as the .npy files that ``wsolevaluation`` reads.

    Each picture's map (the mean over channels) is brought to [0, 1] by its own minimum and maximum,
    a constant one to 0, and stands in ``folder/key.npy`` as float64 (H, W). Keys are the image ids
    of the data set's ``image_ids.txt``, suffix and all: ``val2/0/1.jpeg`` becomes
    ``val2/0/1.jpeg.npy``. For its boxes the code expects maps of 224 × 224 pixels of the resized
    whole picture.

    Args:
        attributions: Floating-point (N, C, H, W), a tensor or a 1-tuple of one; for pictures of
            several sizes a list of N tensors (C, H, W).
        keys: N different image ids; ``/`` makes sub-folders.
        folder: Where to write (``--scoremap_root``); it is made if need be, and files of the same
            names are replaced.

    Returns:
        The N paths.

    Raises:
        ArgumentError: Attributions with NaN or infinity or of another shape; keys that are not N
            different paths inside the folder; a folder that cannot be written.

    Example:
        >>> import numpy as np, tempfile, torch
        >>> from captum_infomask.comparison.wsol import export_wsol
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path] = export_wsol(torch.tensor([[[[-1.0, 0.0, 3.0]]]]), ["val/1.jpeg"], folder)
        ...     np.load(path)
        array([[0.  , 0.25, 1.  ]])

    Source: Choe et al., CVPR 2020, whose code is clovaai/wsolevaluation on GitHub.
    """
    planes = attribution_planes(attributions)
    files = [Path(folder, f"{key}.npy") for key in _checked_keys(keys, len(planes))]
    for plane, file in zip(planes, files, strict=True):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(f"Expected `folder` to be writable; got {error}.") from error
        with output_file("folder", file) as beside, beside.open("wb") as content:
            np.save(content, normalised(plane))
    return files


def _checked_keys(keys: object, count: int) -> list[str]:
    """Return the keys; refuse those that lead out of the folder or onto each other."""
    if not isinstance(keys, list | tuple) or len(keys) != count:
        raise ArgumentError(
            f"Expected `keys` to be a list of {count} image ids, one per picture; got "
            f"{describe(keys)}."
        )
    for key in keys:
        path = PurePosixPath(key) if isinstance(key, str) else None
        if path is None or path.is_absolute() or not path.name or ".." in path.parts:
            raise ArgumentError(
                f"Expected `keys` to be paths inside the folder, such as 'val/1.jpeg'; got "
                f"{short_repr(key)}."
            )
    if len(set(keys)) != count:
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ArgumentError(f"Expected `keys` that differ; got {twice!r} twice.")
    return list(keys)
