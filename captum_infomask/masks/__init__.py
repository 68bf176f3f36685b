# Attributions → threshold masks and boxes.
from captum_infomask.masks.boxes import bounding_boxes
from captum_infomask.masks.rules import AtLeast, MaxFraction, Otsu, Rule, TopFraction, check_rule
from captum_infomask.masks.threshold import threshold_mask

__all__ = [
    "AtLeast",
    "MaxFraction",
    "Otsu",
    "Rule",
    "TopFraction",
    "bounding_boxes",
    "check_rule",
    "threshold_mask",
]
