# Imputers replace hidden pixels. To add one: a file, a line here, a row in the tests.
from captum_infomask.imputers.constant import Constant
from captum_infomask.imputers.imputer_protocol import Imputer, RandomImputer, StandIn
from captum_infomask.imputers.noise import NormalNoise, UniformNoise
from captum_infomask.imputers.noisy_linear import NoisyLinear
from captum_infomask.imputers.patches import ConditionalPatches, MarginalPatches
from captum_infomask.imputers.remove_tokens import RemoveTokens
from captum_infomask.imputers.surroundings import Blur, Inpaint, LocalMean

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
