# Pictures to try things on: digits, photos, and pictures whose information is known.
from captum_infomask.datasets.categorical_patches import CategoricalPatches
from captum_infomask.datasets.digits import mnist, sklearn_digits
from captum_infomask.datasets.gaussian_patches import GaussianPatches
from captum_infomask.datasets.independent_patches import IndependentPatches
from captum_infomask.datasets.photos import sample_photo
from captum_infomask.datasets.two_digits import INK_THRESHOLD, TwoDigits, two_digits

__all__ = [
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
