# Attributions → threshold masks, outlines and boxes.
from captum_infomask.masks.mask_planes import check_clean_up, clean_masks
from captum_infomask.masks.outlines import bounding_boxes, contours
from captum_infomask.masks.rules import (
    AtLeast,
    FalseDiscoveries,
    Hysteresis,
    MaxFraction,
    Otsu,
    Rule,
    TopFraction,
    as_rule,
    check_no_rule,
)
from captum_infomask.masks.threshold import threshold_mask

__all__ = [
    "AtLeast",
    "FalseDiscoveries",
    "Hysteresis",
    "MaxFraction",
    "Otsu",
    "Rule",
    "TopFraction",
    "as_rule",
    "bounding_boxes",
    "check_clean_up",
    "check_no_rule",
    "clean_masks",
    "contours",
    "threshold_mask",
]
