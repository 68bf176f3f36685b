# The public names, nothing else.
from captum_infomask._checks import ArgumentError
from captum_infomask.attribution import InfoMask
from captum_infomask.comparison.compare import compare
from captum_infomask.comparison.localisation import max_box_acc
from captum_infomask.comparison.methods import default_methods
from captum_infomask.comparison.metrics.boxes import BestBoxIoU, MaxBoxAcc
from captum_infomask.comparison.metrics.captums import Infidelity, Sensitivity
from captum_infomask.comparison.metrics.curves import Deletion, Insertion
from captum_infomask.comparison.metrics.localisation import (
    AveragePrecision,
    MaskIoU,
    PointingGame,
    RelevanceMass,
    RelevanceRank,
)
from captum_infomask.comparison.missingness import FillDisagreement, fill_disagreement
from captum_infomask.comparison.quantus_functions import infomask_explain_func
from captum_infomask.comparison.randomisation import RandomisationCheck, randomisation_check
from captum_infomask.critics.bounds import measure_bounds
from captum_infomask.critics.calibration import FittedTemperature
from captum_infomask.critics.fit import fit_critic
from captum_infomask.critics.fitted import FittedCritic
from captum_infomask.critics.temperature import fit_temperature
from captum_infomask.dataset_run.errors import RunStopped
from captum_infomask.dataset_run.loaded import DatasetRun, load_run
from captum_infomask.dataset_run.run import run_dataset
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.dropout import keep_dropout
from captum_infomask.engines.incremental.engine import Incremental
from captum_infomask.engines.tokens.engine import Tokens
from captum_infomask.imputers import (
    Blur,
    ConditionalPatches,
    Constant,
    Inpaint,
    LocalMean,
    MarginalPatches,
    NoisyLinear,
    NormalNoise,
    RemoveTokens,
    UniformNoise,
)
from captum_infomask.masks import (
    AtLeast,
    Hysteresis,
    MaxFraction,
    Otsu,
    TopFraction,
    bounding_boxes,
    contours,
    threshold_mask,
)
from captum_infomask.regions.from_boxes import from_boxes
from captum_infomask.regions.label_maps import from_label_map
from captum_infomask.regions.labels import from_feature_mask
from captum_infomask.regions.mask_regions import from_masks
from captum_infomask.regions.run_lengths import from_run_lengths
from captum_infomask.regions.superpixels import superpixels
from captum_infomask.regions.windows import grid, sliding_windows
from captum_infomask.results import ClassMaps, Comparison, InfoMap
from captum_infomask.scores.bounds import donsker_varadhan, log_softmax_sandwich
from captum_infomask.scores.information import information
from captum_infomask.scores.metric import ConditionalMutualInformation
from captum_infomask.scores.priors import estimate_prior, pc_cross_entropy
from captum_infomask.scores.sandwich import Sandwich
from captum_infomask.views.evidence import HalfCrops

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "AtLeast",
    "AveragePrecision",
    "Batched",
    "BestBoxIoU",
    "Blur",
    "ClassMaps",
    "Comparison",
    "ConditionalMutualInformation",
    "ConditionalPatches",
    "Constant",
    "DatasetRun",
    "Deletion",
    "FillDisagreement",
    "FittedCritic",
    "FittedTemperature",
    "HalfCrops",
    "Hysteresis",
    "Incremental",
    "Infidelity",
    "InfoMap",
    "InfoMask",
    "Inpaint",
    "Insertion",
    "LocalMean",
    "MarginalPatches",
    "MaskIoU",
    "MaxBoxAcc",
    "MaxFraction",
    "NoisyLinear",
    "NormalNoise",
    "Otsu",
    "PointingGame",
    "RandomisationCheck",
    "RelevanceMass",
    "RelevanceRank",
    "RemoveTokens",
    "RunStopped",
    "Sandwich",
    "Sensitivity",
    "Tokens",
    "TopFraction",
    "UniformNoise",
    "bounding_boxes",
    "compare",
    "contours",
    "default_methods",
    "donsker_varadhan",
    "estimate_prior",
    "fill_disagreement",
    "fit_critic",
    "fit_temperature",
    "from_boxes",
    "from_feature_mask",
    "from_label_map",
    "from_masks",
    "from_run_lengths",
    "grid",
    "infomask_explain_func",
    "information",
    "keep_dropout",
    "load_run",
    "log_softmax_sandwich",
    "max_box_acc",
    "measure_bounds",
    "pc_cross_entropy",
    "randomisation_check",
    "run_dataset",
    "sliding_windows",
    "superpixels",
    "threshold_mask",
]
