# Pictures to try things on: digits, photos, and pictures whose information is known.
from captum_infomask.datasets.digits import (
    HOLDS_TARGET,
    INK_THRESHOLD,
    TwoDigits,
    mnist,
    sklearn_digits,
    two_digits,
)
from captum_infomask.datasets.independent_patches import IndependentPatches
from captum_infomask.datasets.patch_families import CategoricalPatches, GaussianPatches
from captum_infomask.datasets.photos import sample_photo

__all__ = [
    "HOLDS_TARGET",
    "INK_THRESHOLD",
    "CategoricalPatches",
    "GaussianPatches",
    "IndependentPatches",
    "TwoDigits",
    "mnist",
    "sample_photo",
    "sklearn_digits",
    "two_digits",
]
