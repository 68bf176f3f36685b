# The public names, nothing else.
from captum_infomask._checks import ArgumentError
from captum_infomask.attribution import InfoMask
from captum_infomask.imputers import Blur, Constant
from captum_infomask.masks import (
    AtLeast,
    MaxFraction,
    Otsu,
    TopFraction,
    bounding_boxes,
    threshold_mask,
)
from captum_infomask.regions.labels import from_feature_mask
from captum_infomask.regions.windows import grid, sliding_windows
from captum_infomask.results import InfoMap
from captum_infomask.scores.information import information

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "AtLeast",
    "Blur",
    "Constant",
    "InfoMap",
    "InfoMask",
    "MaxFraction",
    "Otsu",
    "TopFraction",
    "bounding_boxes",
    "from_feature_mask",
    "grid",
    "information",
    "sliding_windows",
    "threshold_mask",
]
