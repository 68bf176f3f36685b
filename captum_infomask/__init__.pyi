# The public names, by the file that each is loaded from when it is first used.
from ._errors import ArgumentError as ArgumentError, RunStopped as RunStopped
from .attribution.infomask import InfoMask as InfoMask
from .comparison.compare import compare as compare
from .comparison.methods import default_methods as default_methods
from .critics.estimate_prior import estimate_prior as estimate_prior
from .critics.fit import fit_critic as fit_critic
from .critics.fitted_critic import FittedCritic as FittedCritic
from .critics.measure_bounds import measure_bounds as measure_bounds
from .critics.temperature import (
    FittedTemperature as FittedTemperature,
    fit_temperature as fit_temperature,
)
from .dataset_run.loaded import DatasetRun as DatasetRun, load_run as load_run
from .dataset_run.run import run_dataset as run_dataset
from .engines.batched import Batched as Batched
from .engines.dropout import keep_dropout as keep_dropout
from .engines.incremental.incremental_engine import Incremental as Incremental
from .engines.tokens.tokens_engine import Tokens as Tokens
from .evaluation.bits_reliability import bits_reliability as bits_reliability
from .evaluation.fill_disagreement import (
    FillDisagreement as FillDisagreement,
    fill_disagreement as fill_disagreement,
)
from .evaluation.localisation_metrics import (
    AveragePrecision as AveragePrecision,
    BestBoxIoU as BestBoxIoU,
    MaskIoU as MaskIoU,
    MaxBoxAcc as MaxBoxAcc,
    PointingGame as PointingGame,
    RelevanceMass as RelevanceMass,
    RelevanceRank as RelevanceRank,
)
from .evaluation.metric_adapters import infomask_explain_func as infomask_explain_func
from .evaluation.network_metrics import (
    Deletion as Deletion,
    Infidelity as Infidelity,
    Insertion as Insertion,
    Sensitivity as Sensitivity,
)
from .evaluation.object_localisation import max_box_acc as max_box_acc
from .evaluation.randomisation import (
    RandomisationCheck as RandomisationCheck,
    randomisation_check as randomisation_check,
)
from .imputers import (
    Blur as Blur,
    ConditionalPatches as ConditionalPatches,
    Constant as Constant,
    Inpaint as Inpaint,
    LocalMean as LocalMean,
    MarginalPatches as MarginalPatches,
    NoisyLinear as NoisyLinear,
    NormalNoise as NormalNoise,
    RemoveTokens as RemoveTokens,
    UniformNoise as UniformNoise,
)
from .masks import (
    AtLeast as AtLeast,
    FalseDiscoveries as FalseDiscoveries,
    Hysteresis as Hysteresis,
    MaxFraction as MaxFraction,
    Otsu as Otsu,
    TopFraction as TopFraction,
    bounding_boxes as bounding_boxes,
    contours as contours,
    threshold_mask as threshold_mask,
)
from .regions.box_regions import from_boxes as from_boxes
from .regions.label_regions import (
    from_feature_mask as from_feature_mask,
    from_label_map as from_label_map,
)
from .regions.mask_regions import from_masks as from_masks, from_run_lengths as from_run_lengths
from .regions.superpixels import superpixels as superpixels
from .regions.windows import grid as grid, sliding_windows as sliding_windows
from .results import ClassMaps as ClassMaps, Comparison as Comparison, InfoMap as InfoMap
from .results.combine_evidence import combine_evidence as combine_evidence
from .results.combined_evidence import CombinedEvidence as CombinedEvidence
from .results.reliability_of_bits import BitsReliability as BitsReliability
from .results.show import show as show
from .scores.bounds import (
    Sandwich as Sandwich,
    donsker_varadhan as donsker_varadhan,
    log_softmax_sandwich as log_softmax_sandwich,
)
from .scores.information import information as information
from .scores.pc_softmax import pc_cross_entropy as pc_cross_entropy
from .scores.score import Score as Score
from .scores.torchmetrics_metric import ConditionalMutualInformation as ConditionalMutualInformation
from .scores.value_heads import Gaussian as Gaussian, Laplace as Laplace, Normal as Normal
from .views.evidence import HalfCrops as HalfCrops

__version__: str
