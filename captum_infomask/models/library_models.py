# Loads the networks of libraries by their names: torchvision's and timm's classifiers.
from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import InterpolationMode

from captum_infomask._checks import one_of
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import warn
from captum_infomask._random import OwnGenerators
from captum_infomask.models.checkpoints import fit_state_dict, read_state_dict
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.imagenet import default_categories
from captum_infomask.models.preprocessing import Preprocess

_FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classifiers."""
    return list(models.list_models(module=models))


def torchvision_classifier(name: str, weights: str | Path = "DEFAULT") -> Classifier:
    """Load one of torchvision's classifiers.

    Args:
        name: One of ``torchvision_names()``.
        weights: The name of torchvision's weights, with or without the enum's name in front, or a
            local file. With a file, the preprocessing is that of the model's default weights, and
            the number of classes is that of the file's last layer.

    Returns:
        The classifier.

    Raises:
        ArgumentError: if the weights are unknown, cannot be downloaded, or do not fit.

    Example:
        >>> import os, tempfile, torch, torchvision
        >>> from captum_infomask.models.loading import torchvision_classifier
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
        preprocess = preprocess_of_preset(enum.DEFAULT.transforms())
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
    preprocess = preprocess_of_preset(member.transforms())
    return Classifier(name, network.eval(), names, preprocess, str(member))


def _from_file(name: str, state: dict[str, Tensor], path: Path) -> tuple[nn.Module, int]:
    """Build a model with the number of classes of the file's last layer, and load the file."""
    settings: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # Some files hold the side heads for training, and others do not.
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


def preprocess_of_preset(preset: Any) -> Preprocess:
    """The sizes and constants of the transforms that belong to some weights."""
    return Preprocess(
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation,
    )


_TIMMS = "timm/"  # in front of a name that torchvision has too


def timm_names() -> list[str]:
    """Return the names of timm's networks; none if timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        return []
    import timm

    return list(timm.list_models())


def is_timms(name: str) -> bool:
    """Whether a name is one of timm's networks, with or without a tag of weights behind it.

    Raises:
        ArgumentError: The name begins with ``timm/``, and timm is not installed.
    """
    if importlib.util.find_spec("timm") is None:
        if name.startswith(_TIMMS):
            raise ArgumentError(
                f"Expected `model` to be a network that can be made here; {name!r} needs the "
                f"package timm: pip install timm"
            )
        return False
    import timm

    return bool(timm.is_model(name.removeprefix(_TIMMS)))


def timm_classifier(name: str, weights: str | Path | None) -> Classifier:
    """Make one of timm's networks, with the weights from a local file.

    Args:
        name: One of ``timm_names()``; it may begin with ``timm/``.
        weights: A local file. The number of classes is that of the file's last layer.

    Returns:
        The classifier. Its pictures are prepared as timm prepares them for this network.

    Raises:
        ArgumentError: if there is no file, or if its weights do not fit.

    Example:
        >>> import os, tempfile, timm, torch
        >>> from captum_infomask.models.library_models import timm_classifier
        >>> path = os.path.join(tempfile.mkdtemp(), "three.pt")
        >>> torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), path)
        >>> made = timm_classifier("test_vit", path)
        >>> made.categories, made.preprocess.shape
        (('0', '1', '2'), (3, 160, 160))
    """
    import timm

    short = name.removeprefix(_TIMMS)
    if weights is None:
        raise ArgumentError(
            f"Expected `weights` to be a local file of weights for timm's {short}; got None. "
            f"For timm's own weights, give module:function, of a function that returns "
            f"timm.create_model({short!r}, pretrained=True)."
        )
    state = read_state_dict(weights)
    try:
        with OwnGenerators(None):
            network: Any = timm.create_model(short)
            last = network.pretrained_cfg.get("classifier")
            # Distilled networks have two last layers, of as many classes.
            biases = (f"{layer}.bias" for layer in (last if isinstance(last, tuple) else (last,)))
            counts = {state[bias].shape[0] for bias in biases if bias in state}
            if counts and counts != {network.num_classes}:
                network = timm.create_model(short, num_classes=min(counts))
    except RuntimeError as error:  # such as an unknown tag
        raise ArgumentError(f"Expected `model` {name} to be made by timm; got: {error}") from error
    fit_state_dict(network, state, weights)
    names = default_categories(network.num_classes)
    return Classifier(short, network.eval(), names, preprocess_of(network), str(weights))


def preprocess_of(network: nn.Module) -> Preprocess:
    """Return how a network's pictures are prepared: as timm's networks say, else as for ImageNet.

    Example:
        >>> import timm
        >>> from captum_infomask.models.library_models import preprocess_of
        >>> made = preprocess_of(timm.create_model("test_vit"))
        >>> made.resize, made.crop, made.mean
        (168, (160, 160), (0.5, 0.5, 0.5))
    """
    if not type(network).__module__.startswith("timm.models."):
        return Preprocess()
    from timm.data import config

    told: dict[str, Any] = config.resolve_data_config(model=network)  # type: ignore[no-untyped-call]
    if told["crop_mode"] != "center":
        warn(
            f"timm prepares pictures for {type(network).__name__} with crop_mode="
            f"{told['crop_mode']!r}; here the centre is cut out, as with 'center'."
        )
    height, width = told["input_size"][1:]
    return Preprocess(
        resize=math.floor(min(height, width) / told["crop_pct"]),
        crop=(height, width),
        mean=tuple(told["mean"]),
        std=tuple(told["std"]),
        interpolation=InterpolationMode(told["interpolation"]),
    )
