# The public names, nothing else.
from captum_infomask._checks import ArgumentError
from captum_infomask.attribution import InfoMask
from captum_infomask.critics.bounds import measure_bounds
from captum_infomask.critics.calibration import FittedTemperature
from captum_infomask.critics.fit import fit_critic
from captum_infomask.critics.fitted import FittedCritic
from captum_infomask.critics.temperature import fit_temperature
from captum_infomask.engines.dropout import keep_dropout
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
from captum_infomask.scores.bounds import donsker_varadhan, log_softmax_sandwich
from captum_infomask.scores.information import information
from captum_infomask.scores.metric import ConditionalMutualInformation
from captum_infomask.scores.priors import estimate_prior, pc_cross_entropy
from captum_infomask.scores.sandwich import Sandwich

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "AtLeast",
    "Blur",
    "ConditionalMutualInformation",
    "Constant",
    "FittedCritic",
    "FittedTemperature",
    "InfoMap",
    "InfoMask",
    "MaxFraction",
    "Otsu",
    "Sandwich",
    "TopFraction",
    "bounding_boxes",
    "donsker_varadhan",
    "estimate_prior",
    "fit_critic",
    "fit_temperature",
    "from_feature_mask",
    "grid",
    "information",
    "keep_dropout",
    "log_softmax_sandwich",
    "measure_bounds",
    "pc_cross_entropy",
    "sliding_windows",
    "threshold_mask",
]
