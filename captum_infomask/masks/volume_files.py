# Writes attributions and masks as NIfTI and NumPy files.
from __future__ import annotations

import gzip
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import describe, one_of
from captum_infomask._errors import ArgumentError, with_extra
from captum_infomask._files import check_output_file, output_file
from captum_infomask.masks.png import save_png

VoxelAxes = Literal["zyx", "xyz"]
_UNITS = ("bits", "nats")


def save_nifti(
    attributions: Tensor,
    path: str | PathLike[str],
    *,
    unit: Literal["bits", "nats"] = "bits",
    affine: Any = None,
    like: Any = None,
    axes: VoxelAxes = "zyx",
) -> None:
    r"""Write one volume's attributions, or its mask, as a NIfTI file that viewers lay over a scan.

    NIfTI's array is indexed (x, y, z), and its affine maps these indices to millimetres. So

    .. math::

        \text{array}[x, y, z] = a[z, y, x]

    for a volume read as (D, H, W), slice by slice (``axes="zyx"``), and array = a for a volume that
    keeps NIfTI's own order (``axes="xyz"``), as nibabel, MONAI and TorchIO read them.

    Args:
        attributions: Floating-point (1, C, D, H, W) with equal channels, like InfoMask's, written
            in float32; or a boolean mask, written as 0 and 1 in one byte.
        path: Where to write: a name that ends in ``.nii`` or ``.nii.gz``.
        unit: The unit of the attributions. The header's description says it: "captum_infomask,
            bits".
        affine: 4 × 4 numbers, from voxel indices (x, y, z, 1) to millimetres; one millimetre a
            voxel if None.
        like: A nibabel image on the same grid, such as the scan itself: its affine, its codes of
            space and its units are kept.
        axes: The order of the attributions' places: ``zyx`` or ``xyz``.

    Raises:
        ArgumentError: ``attributions`` have another shape, channels that differ, NaN or infinity;
            ``affine`` is no such matrix; ``like`` is on another grid; both are given; ``path`` has
            another ending or cannot be written.
        ModuleNotFoundError: nibabel is not installed; the message has the command.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> from captum_infomask.masks.volume_files import save_nifti
        >>> bits = torch.arange(24.0).reshape(1, 1, 2, 3, 4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_nifti(bits, Path(folder, "bits.nii.gz"))
        ...     (file,) = Path(folder).iterdir()
        ...     file.name
        'bits.nii.gz'

    Source: NIfTI-1 (nifti.nimh.nih.gov), written by nibabel.
    """
    one_of("unit", unit, _UNITS)
    one_of("axes", axes, ("zyx", "xyz"))
    file = Path(check_output_file("path", path))
    if not file.name.endswith((".nii", ".nii.gz")):
        raise ArgumentError(f"Expected `path` to end in .nii or .nii.gz; got {file.name}.")
    volume = _one_volume(attributions)
    array = volume.transpose(2, 1, 0) if axes == "zyx" else volume
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise with_extra(error) from None
    if like is not None:
        _check_grid(like, affine, array.shape)
    image = nibabel.Nifti1Image(array, _checked_affine(affine) if like is None else like.affine)
    image.header.set_xyzt_units("mm")
    if isinstance(getattr(like, "header", None), nibabel.Nifti1Header):
        image.header.set_xyzt_units(*like.header.get_xyzt_units())
        image.set_qform(*like.get_qform(coded=True))
        image.set_sform(*like.get_sform(coded=True))
    what = "mask" if array.dtype == np.uint8 else unit
    image.header["descrip"] = f"captum_infomask, {what}".encode()
    content = image.to_bytes()
    if file.name.endswith(".gz"):
        content = gzip.compress(content, mtime=0)  # equal maps make equal files
    with output_file("path", file) as beside:
        beside.write_bytes(content)


def save_npy(attributions: Tensor, path: str | PathLike[str]) -> None:
    """Write one example's attributions, or its mask, as a NumPy file: the array as it is.

    Args:
        attributions: (1, ...), of any type that NumPy has; the file holds (...).
        path: Where to write: a name that ends in ``.npy``.

    Raises:
        ArgumentError: ``attributions`` are of no single example; ``path`` has another ending or
            cannot be written.

    Example:
        >>> import tempfile, torch
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from captum_infomask.masks.volume_files import save_npy
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_npy(torch.ones(1, 1, 5), Path(folder, "bits.npy"))
        ...     np.load(Path(folder, "bits.npy")).shape
        (1, 5)
    """
    file = Path(check_output_file("path", path))
    if file.suffix != ".npy":
        raise ArgumentError(f"Expected `path` to end in .npy; got {file.name}.")
    if not isinstance(attributions, Tensor) or not attributions.dim() or len(attributions) != 1:
        raise ArgumentError(
            f"Expected `attributions` of one example, (1, ...); got {describe(attributions)}."
        )
    with output_file("path", file) as beside, beside.open("wb") as stream:
        np.save(stream, attributions[0].detach().cpu().numpy())


def export_map(
    attributions: Tensor,
    path: str | PathLike[str],
    unit: str,
    *,
    affine: Any = None,
    like: Any = None,
    axes: VoxelAxes = "zyx",
) -> None:
    """Write attributions (1, ...) in the form of the file's ending: .nii, .nii.gz, .png or .npy."""
    name = Path(path).name
    chosen: Literal["bits", "nats"] = "nats" if unit == "nats" else "bits"
    if name.endswith((".nii", ".nii.gz")):
        save_nifti(attributions, path, unit=chosen, affine=affine, like=like, axes=axes)
        return
    if affine is not None or like is not None or axes != "zyx":
        raise ArgumentError(
            f"Expected `affine`, `like` and `axes` with a NIfTI file, .nii or .nii.gz; got {name}."
        )
    if name.endswith(".npy"):
        save_npy(attributions, path)
    elif name.endswith(".png"):
        save_png(attributions, path, unit=chosen)
    else:
        raise ArgumentError(
            f"Expected `path` to end in .nii, .nii.gz, .npy or .png; got {name}. save(path) keeps "
            f"the whole InfoMap."
        )


def _one_volume(given: object) -> npt.NDArray[Any]:
    """The values of one volume, (D, H, W): float32, or the bytes of a mask."""
    if (
        not isinstance(given, Tensor)
        or given.dim() != 5
        or len(given) != 1
        or not given.numel()
        or not (given.is_floating_point() or given.dtype == torch.bool)
    ):
        raise ArgumentError(
            f"Expected `attributions` of one volume, (1, C, D, H, W); got {describe(given)}. "
            f"attributions[i : i + 1] is the i-th of a batch; .npy files take signals and pictures."
        )
    volume = given.detach().cpu()
    if given.is_floating_point() and not bool(volume.isfinite().all()):
        raise ArgumentError("Expected `attributions` without NaN or infinity; got some.")
    if bool((volume != volume[:, :1]).any()):
        raise ArgumentError(
            "Expected `attributions` whose channels are alike; got channels that differ. "
            "attributions.sum(1, keepdim=True) adds them."
        )
    values: npt.NDArray[Any] = volume[0, 0].float().numpy()
    return values if given.is_floating_point() else values.astype(np.uint8)


def _checked_affine(affine: object) -> npt.NDArray[np.float64]:
    """The affine as a matrix; the identity for None."""
    try:
        matrix = np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if (
        matrix.shape != (4, 4)
        or not np.isfinite(matrix).all()
        or matrix[3].tolist() != [0, 0, 0, 1]
        or np.linalg.det(matrix) == 0
    ):
        raise ArgumentError(
            f"Expected `affine` to be an invertible 4 × 4 matrix whose last row is 0, 0, 0, 1; got "
            f"{describe(affine)}."
        )
    return matrix


def _check_grid(like: Any, affine: object, shape: tuple[int, ...]) -> None:
    """Refuse an image on another grid, or an affine beside it."""
    if affine is not None:
        raise ArgumentError("Expected one of `affine` and `like`; got both.")
    if getattr(like, "affine", None) is None or not hasattr(like, "header"):
        raise ArgumentError(f"Expected `like` to be a nibabel image; got {describe(like)}.")
    if tuple(like.shape[:3]) != shape:
        turned = " Pass the other `axes`." if tuple(like.shape[:3]) == shape[::-1] else ""
        raise ArgumentError(
            f"Expected `like` on the map's grid, {shape} in x, y and z; got an image of "
            f"{tuple(like.shape)}.{turned}"
        )
