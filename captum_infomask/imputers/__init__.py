# What stands in for the pixels that a view hides. To add one: a file, a line here, a test row.
from captum_infomask.imputers.base import Imputer, RandomImputer, StandIn
from captum_infomask.imputers.blur import Blur
from captum_infomask.imputers.constant import Constant
from captum_infomask.imputers.inpaint import Inpaint
from captum_infomask.imputers.local_mean import LocalMean
from captum_infomask.imputers.noise import NormalNoise, UniformNoise
from captum_infomask.imputers.noisy_linear import NoisyLinear
from captum_infomask.imputers.patches import ConditionalPatches, MarginalPatches
from captum_infomask.imputers.remove_tokens import RemoveTokens

__all__ = [
    "Blur",
    "ConditionalPatches",
    "Constant",
    "Imputer",
    "Inpaint",
    "LocalMean",
    "MarginalPatches",
    "NoisyLinear",
    "NormalNoise",
    "RandomImputer",
    "RemoveTokens",
    "StandIn",
    "UniformNoise",
]
