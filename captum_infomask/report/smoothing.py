# What pictures show for the eye: windows that run into each other, and masks with round outlines.
from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from captum_infomask.report.colour_planes import Starts, cell_starts
from captum_infomask.report.page_content import BoolArray, FloatArray

SMOOTHED = "smoothed between window centres"
_SMALLEST = 0.005  # of the picture: a shown mask has no smaller part, and no smaller hole
_ROUNDING = 60  # parts of the shorter side: half the width of the box that rounds a shown mask


def window_steps(plane: FloatArray) -> tuple[int, ...]:
    """Return the distance between a plane's windows, down and across; 1 if it is not of windows.

    Windows and grids paint cells whose edges are multiples of one step, or equal parts of the side.
    Most such edges show. The outlines of superpixels and masks do not fit this.

    Args:
        plane: (H, W), float32, or a volume (D, H, W).

    Returns:
        A step for each axis in pixels, all of them above 1; or 1 for all.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.smoothing import window_steps
        >>> windows = np.arange(16, dtype=np.float32).reshape(4, 4)
        >>> window_steps(windows.repeat(8, 0).repeat(4, 1)), window_steps(windows)
        ((8, 4), (1, 1))
    """
    none = (1,) * plane.ndim
    if not np.isfinite(plane).all():
        return none
    starts = cell_starts(plane)
    steps = tuple(_step(*each) for each in zip(starts, plane.shape, strict=True))
    is_flat = all(len(each) == 1 for each in starts)
    return steps if min(steps) > 1 and not is_flat else none


def _step(starts: Starts, size: int) -> int:
    """Return the step of the cells along one side, 1 if they have none; one cell is one step."""
    edges = starts[1:]
    if not len(edges):
        return size
    parts = max(1, round(size / int(np.diff(starts).min())))
    shared = int(np.gcd.reduce(edges))
    for step, lattice in (
        (shared, np.arange(shared, size, shared)),
        (round(size / parts), np.arange(1, parts) * size // parts),
    ):
        if 2 * len(edges) >= len(lattice) and bool(np.isin(edges, lattice).all()):
            return step
    return 1


def shown_plane(plane: FloatArray, steps: Sequence[int] | None = None) -> FloatArray:
    """Return the plane that pictures show: windows run into each other, other planes do not change.

    It is the mean over one step around each pixel. For a grid this is the bilinear interpolation
    between the centres of its windows. It is for the eye alone; masks, numbers and files have the
    plane itself.

    Args:
        plane: (H, W), float32.
        steps: The distance between windows along each axis, for a slice of a volume of windows;
            None finds them in the plane.

    Returns:
        (H, W), float32, within the plane's own range; the plane itself if it has no windows.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.smoothing import shown_plane
        >>> shown_plane(np.array([[0.0, 1.0]], np.float32).repeat(4, 0).repeat(4, 1))[0].tolist()
        [0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0]
    """
    from scipy.ndimage import correlate1d

    shown = plane
    for axis, step in enumerate(window_steps(plane) if steps is None else steps):
        if step > 1:
            # Around an even number of pixels, the two at the ends count half.
            weights = np.ones(step + 1 - step % 2)
            weights[[0, -1]] /= 2 - step % 2
            shown = correlate1d(shown, weights / step, axis=axis, mode="nearest")
    return shown


def smoothed_note(planes: Iterable[FloatArray | None]) -> str:
    """Return a note for pictures if ``shown_plane`` changes some of their planes; else nothing."""
    steps = [window_steps(plane) for plane in planes if plane is not None]
    if all(max(step) == 1 for step in steps):
        return ""
    return f"Colours are {SMOOTHED}; masks and numbers are not."


def limit_of(plane: FloatArray) -> float:
    """Return the magnitude of full colour: the plane's largest finite magnitude; 1 if it is 0."""
    return float(np.abs(plane, where=np.isfinite(plane), out=np.zeros_like(plane)).max()) or 1.0


def smooth_plane(plane: FloatArray, steps: Sequence[int] | None = None) -> FloatArray:
    """Return a plane as the eye wants it: windows run into each other, and edges are soft.

    Colours and outlines have it. Masks, numbers and files have the plane itself.

    Args:
        plane: (H, W), float32.
        steps: As for :func:`shown_plane`.

    Returns:
        (H, W), within the plane's own range. NaN counts as 0.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.smoothing import smooth_plane
        >>> edge = smooth_plane(np.tri(440, dtype=np.float32))
        >>> edge[220, [0, 215, 225, 439]].astype(float).round(1).tolist()
        [1.0, 0.8, 0.2, 0.0]
    """
    from scipy.ndimage import gaussian_filter

    known = shown_plane(finite_plane(plane, limit_of(plane)), steps)
    soft: FloatArray = gaussian_filter(known, min(plane.shape) / 110, mode="nearest", truncate=3)
    return soft


def peak_of(values: FloatArray) -> tuple[int, ...]:
    """Return the place of the largest magnitude; of several, that nearest to their middle.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.smoothing import peak_of
        >>> peak_of(np.array([[0, 2, -2, 2, 1]], np.float32))
        (0, 2)
    """
    magnitudes = np.abs(finite_plane(values, limit_of(values)))
    places = np.argwhere(magnitudes == magnitudes.max())
    nearest = int(((places - places.mean(0)) ** 2).sum(1).argmin())
    return tuple(int(place) for place in places[nearest])


def finite_plane(values: FloatArray, limit: float) -> FloatArray:
    """Return values without NaN, which count as 0, and without infinite ones."""
    return np.nan_to_num(values, nan=0.0, posinf=limit, neginf=-limit)


def shown_mask(mask: BoolArray) -> BoolArray:
    """Return a mask as pictures show it: round outlines, no specks, no holes.

    Parts and holes below 0.5% of the picture are gone. A mask of nothing but specks keeps them.

    Args:
        mask: (H, W), boolean.

    Returns:
        (H, W), boolean.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.smoothing import shown_mask
        >>> mask = np.zeros((100, 100), bool)
        >>> mask[20:60, 20:60] = True
        >>> mask[40, 40], mask[90, 90] = False, True
        >>> shown_mask(mask)[[40, 90, 20, 30], [40, 90, 20, 30]].tolist()
        [True, False, False, True]
    """
    from scipy.ndimage import correlate1d, label

    # Three box sums are nearly a Gaussian. They are whole numbers, so the viewer cuts as this does.
    width = 2 * (min(mask.shape) // _ROUNDING) + 1
    sums = mask.astype(np.int64)
    for axis in (0, 1) * 3:
        sums = correlate1d(sums, np.ones(width), axis=axis, mode="nearest")
    soft = 2 * sums > width**6

    def large_parts(part: BoolArray, neighbours: npt.NDArray[np.int64] | None) -> BoolArray:
        numbers, _ = label(part, neighbours)
        kept: BoolArray = part & (np.bincount(numbers.ravel()) >= _SMALLEST * mask.size)[numbers]
        return kept

    parts = large_parts(soft, np.ones((3, 3), np.int64))
    whole = ~large_parts(~parts, None) if parts.any() else parts
    return whole if whole.any() else mask


def resized(plane: FloatArray | BoolArray, size: tuple[int, ...], mode: str) -> FloatArray:
    """Return a plane or a volume in another size, float32."""
    values = torch.from_numpy(np.ascontiguousarray(plane, np.float32))[None, None]
    made: FloatArray = torch.nn.functional.interpolate(values, size, mode=mode)[0, 0].numpy()
    return made
