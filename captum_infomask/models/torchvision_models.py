# torchvision's classifiers by name, with weights by enum name or from a local file.
from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import models

from captum_infomask._checks import one_of
from captum_infomask._errors import ArgumentError
from captum_infomask._random import OwnGenerators
from captum_infomask.models.checkpoints import fit_state_dict, read_state_dict
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.imagenet import default_categories
from captum_infomask.models.pictures import Preprocess

_FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classifiers."""
    return list(models.list_models(module=models))


def torchvision_classifier(name: str, weights: str | Path = "DEFAULT") -> Classifier:
    """Load one of torchvision's classifiers.

    Args:
        name: One of ``torchvision_names()``.
        weights: The name of torchvision's weights, with or without the enum's name in front, or a
            local file. A file gets the preprocessing of the model's default weights, and as many
            classes as its last layer has.

    Returns:
        The classifier.

    Raises:
        ArgumentError: if the weights are unknown, cannot be downloaded, or do not fit.

    Example:
        >>> import os, tempfile, torch, torchvision
        >>> from captum_infomask.models.torchvision_models import torchvision_classifier
        >>> path = os.path.join(tempfile.mkdtemp(), "three.pt")
        >>> torch.save(torchvision.models.squeezenet1_1(num_classes=3).state_dict(), path)
        >>> torchvision_classifier("squeezenet1_1", path).categories
        ('0', '1', '2')
    """
    enum: Any = models.get_model_weights(name)
    short = str(weights).removeprefix(f"{enum.__name__}.")
    path = Path(weights)
    if short not in enum.__members__ and (path.suffix in _FILE_SUFFIXES or path.exists()):
        network, count = _from_file(name, read_state_dict(path), path)
        preprocess = _preprocess_of(enum.DEFAULT)
        return Classifier(name, network.eval(), default_categories(count), preprocess, str(path))
    try:
        member = enum[one_of("weights", short, enum.__members__)]
    except ArgumentError as error:
        raise ArgumentError(f"{error} A local file of weights may be given too.") from None
    try:
        network = models.get_model(name, weights=member)
    except (OSError, RuntimeError) as error:
        raise ArgumentError(
            f"Expected `weights` {member} to be downloaded from {member.url}; got: {error}. "
            "Without a network, pass a local file of weights (safetensors or a state dict)."
        ) from error
    names = tuple(member.meta["categories"])
    return Classifier(name, network.eval(), names, _preprocess_of(member), str(member))


def _from_file(name: str, state: dict[str, Tensor], path: Path) -> tuple[nn.Module, int]:
    """Build a model with as many classes as the file's last layer has, and fill it."""
    settings: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # Their training-time side heads are in some files and not in others.
        has_side_heads = any(key.lower().startswith("aux") for key in state)
        settings = {"aux_logits": has_side_heads, "init_weights": False}
    with OwnGenerators(None):
        network = models.get_model(name, **settings)
        last = [key for key, value in network.state_dict().items() if value.shape[:1] == (1000,)][
            -1
        ]
        count = state[last].shape[0] if last in state else 1000
        if count != 1000:
            network = models.get_model(name, num_classes=count, **settings)
    fit_state_dict(network, state, path)
    return network, count


def _preprocess_of(member: Any) -> Preprocess:
    """Take over the sizes and constants of the transforms that belong to some weights."""
    preset = member.transforms()
    return Preprocess(
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation,
    )
