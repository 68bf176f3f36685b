# Loads every classifier, by its name (also torchvision's or timm's) or by what makes it.
from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_infomask._batches import placed
from captum_infomask._checks import describe, model_name
from captum_infomask._errors import ArgumentError
from captum_infomask._outputs import read_logits
from captum_infomask.models.checkpoints import fit_state_dict, read_state_dict
from captum_infomask.models.classifier import Classifier, evaluated
from captum_infomask.models.huggingface_folders import huggingface_folder
from captum_infomask.models.huggingface_models import huggingface, is_huggingface
from captum_infomask.models.imagenet import default_categories, efficientnet_lite0
from captum_infomask.models.library_models import (
    is_timms,
    preprocess_of,
    timm_classifier,
    timm_names,
    torchvision_classifier,
    torchvision_names,
)
from captum_infomask.models.preprocessing import Preprocess
from captum_infomask.models.two_digits import load_two_digit_network

LITE0 = "efficientnet_lite0"
TWO_DIGITS = "two_digits"

_LOADED = (nn.Module, Classifier)
_TOLD = 8  # names


def load_classifier(
    spec: str,
    weights: str | Path | None = None,
    categories: Sequence[str] | None = None,
) -> Classifier:
    """Load a classifier by the name of a model, or by the function that makes it.

    Args:
        spec: ``"efficientnet_lite0"``; ``"two_digits"``, the packaged network that finds the digit
            0 in pictures of 28 × 56; the name of a torchvision classifier, such as
            ``"resnet18"``; the name of one of timm's networks, with ``timm/`` in front if
            torchvision has the same name; a folder on this machine that Hugging Face's
            ``save_pretrained`` wrote; or ``"package.module:function"``, which is called
            without arguments and returns an ``nn.Module`` (preprocessed as for ImageNet, at 224
            pixels, or as timm says for its networks) or a ``Classifier`` (with its own
            preprocessing). Instead of a function, the name may also be that of such an object;
            then a copy of it is loaded.
        weights: For a torchvision model, the name of its weights (``"DEFAULT"``, which is what
            None means, ``"IMAGENET1K_V1"``, ``"ResNet18_Weights.IMAGENET1K_V1"``; torchvision
            downloads them). For any model, a local file: safetensors, or a state dict, read
            without running anything in it. timm's networks need one.
        categories: Names of the categories. None takes those of the weights, or ImageNet's if the
            network has 1,000 classes, or else the indices.

    Returns:
        The classifier, in eval mode.

    Raises:
        ArgumentError: if the model, its weights or its function is unknown (the error gives the
            nearest name), cannot be loaded, or does not fit.

    Example:
        >>> from captum_infomask.models.loading import load_classifier
        >>> load_classifier("torchvision.models:squeezenet1_1").categories[967]
        'espresso'
    """
    if spec in _PACKAGED:
        classifier = _filled(_PACKAGED[spec](), weights)
    elif spec in torchvision_names():
        classifier = torchvision_classifier(spec, "DEFAULT" if weights is None else weights)
    elif Path(spec).is_dir():
        classifier = _from_folder(spec, weights)
    elif ":" in spec:
        classifier = _from_function(spec, weights)
    else:
        _check_no_path(spec)
        if not is_timms(spec):
            _check_no_hub(spec)
            names = dict.fromkeys([*_PACKAGED, *torchvision_names(), *timm_names()])
            _one_of_many("a model", spec, list(names))
        classifier = timm_classifier(spec, weights)
    classifier.network.eval()
    return _named(classifier, categories)


def as_classifier(
    model: str | nn.Module | Classifier,
    weights: str | Path | None = None,
    categories: Sequence[str] | None = None,
    preprocess: Any = None,
) -> Classifier:
    """Make a classifier from any form of a model.

    Args:
        model: A name that ``load_classifier`` takes; an ``nn.Module``, whose pictures are
            preprocessed as for ImageNet, at 224 pixels, or as timm says for its networks, and which
            may be an image classifier of transformers; or a ``Classifier``. A module and a
            classifier keep their mode.
        weights: As for ``load_classifier``. They are loaded into a module or classifier in place.
        categories: Names of the categories, as for ``load_classifier``.
        preprocess: Replaces the model's own; it has a ``shape`` (C, H, W), as ``Preprocess`` has.

    Returns:
        The classifier.

    Raises:
        ArgumentError: if ``model`` is something else, or ``load_classifier`` would refuse it.

    Example:
        >>> from torch import nn
        >>> from captum_infomask.models.loading import as_classifier
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> as_classifier(network, categories=["cat", "dog"]).categories
        ('cat', 'dog')
    """
    own = {} if preprocess is None else {"preprocess": preprocess}
    if isinstance(model, str):
        return replace(load_classifier(model, weights, categories), **own)
    if isinstance(model, nn.Module):
        name = model_name(model)
        return _named(_of_module(model, name, weights, name, preprocess), categories)
    if isinstance(model, Classifier):
        return _named(_filled(replace(model, **own) if own else model, weights), categories)
    raise ArgumentError(
        "Expected `model` to be the name of a model, module:function, a torch.nn.Module or a "
        f"Classifier; got {describe(model)}."
    )


def _two_digits() -> Classifier:
    """The packaged two-digit network; its pictures are grey and are not normalised."""
    return Classifier(
        name="two-digit network",
        network=load_two_digit_network(),
        categories=("no 0", "a 0"),
        preprocess=Preprocess(resize=28, crop=(28, 56), mean=(0.0,), std=(1.0,)),
        weights="captum-infomask",
    )


_PACKAGED = {LITE0: efficientnet_lite0, TWO_DIGITS: _two_digits}


def _filled(classifier: Classifier, weights: str | Path | None) -> Classifier:
    """Load a file into a classifier's network, if one is given."""
    if weights is None:
        return classifier
    fit_state_dict(classifier.network, read_state_dict(weights), weights)
    return replace(classifier, weights=str(weights))


def _named(classifier: Classifier, categories: Sequence[str] | None) -> Classifier:
    """Set the names of a classifier's categories, if they are given."""
    if categories is None:
        return classifier
    if len(categories) != len(classifier.categories):
        raise ArgumentError(
            f"Expected `categories` to hold {len(classifier.categories)} names, one per class of "
            f"{classifier.name}; got {len(categories)}."
        )
    return replace(classifier, categories=tuple(categories))


def _check_no_path(spec: str) -> None:
    """Say what to do with a path that is given in a model's place."""
    if Path(spec).is_file():
        raise ArgumentError(
            f"Expected `model` to be a model's name or module:function; {spec} is a file. Give a "
            f"file of weights as `weights` (on the command line, --checkpoint), and as `model` "
            f"what makes the network. module:function may read a file of TorchScript or ONNX."
        )
    if spec.startswith((".", "~", "/")):
        raise ArgumentError(
            f"Expected `model` to be a folder of a Hugging Face model, a model's name or "
            f"module:function; {spec} does not exist."
        )


def _check_no_hub(spec: str) -> None:
    """Say what to do with the name of a model on Hugging Face's hub."""
    owner, _, name = spec.partition("/")
    if name and owner not in ("timm", ""):
        raise ArgumentError(
            f"Expected `model` to be on this machine; got {spec!r}. If it is on Hugging Face's "
            f"hub, save its model and its image processor into one folder with save_pretrained, "
            f"and give the folder: ./{name.rpartition('/')[2]}."
        )


def _from_folder(spec: str, weights: str | Path | None) -> Classifier:
    """Load a folder of Hugging Face's; it has its weights."""
    if weights is not None:
        raise ArgumentError(
            f"Expected no `weights` beside the folder {spec}, which holds its network's own; got "
            f"{weights}."
        )
    return huggingface_folder(Path(spec))


def _from_function(spec: str, weights: str | Path | None) -> Classifier:
    """Call the user's function, load the weights, and count the classes."""
    found = _find(spec)
    try:
        made = deepcopy(found) if isinstance(found, _LOADED) else found()
    except ArgumentError:
        raise
    except Exception as error:
        raise ArgumentError(
            f"Expected `model` {spec} to be callable without arguments, or to be a network that "
            f"can be copied; it raised "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, _LOADED):
        raise ArgumentError(
            f"Expected `model` {spec} to return a torch.nn.Module or a Classifier; "
            f"got {type(made).__name__}."
        )
    if isinstance(made, Classifier):
        return _filled(replace(made, weights=spec), weights)
    return _of_module(made, spec.rpartition(":")[2], weights, spec)


def _of_module(
    network: nn.Module,
    name: str,
    weights: str | Path | None,
    source: str,
    preprocess: Any = None,
) -> Classifier:
    """Load the weights and count the classes; None preprocesses as ``preprocess_of`` says."""
    if weights is not None:
        fit_state_dict(network, read_state_dict(weights), weights)
    if is_huggingface(network):
        made = replace(huggingface(network), name=name, weights=str(weights or source))
        return made if preprocess is None else replace(made, preprocess=preprocess)
    hint = " Return a Classifier to set its preprocessing."
    hint = hint if preprocess is None else _channels_hint(network, preprocess.shape[0])
    preprocess = preprocess or preprocess_of(network)
    names = default_categories(_count_classes(network, source, preprocess.shape, hint))
    return Classifier(name, network, names, preprocess, str(weights or source))


def _find(spec: str) -> Any:
    """Import ``package.module:function``, or a network under such a name."""
    module_name, _, function_name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ArgumentError(
            f"Expected `model` to be module:function; the module {module_name!r} cannot be "
            f"imported ({type(error).__name__}: {error})."
        ) from error
    found = dict(inspect.getmembers(module, lambda one: callable(one) or isinstance(one, _LOADED)))
    public = [name for name in found if not name.startswith("_")]
    own = [name for name in public if getattr(found[name], "__module__", None) == module_name]
    networks = [name for name in public if isinstance(found[name], _LOADED)]
    known = dict.fromkeys([*own, *networks]) or dict.fromkeys(public)
    what = f"a function or network of {module_name}"
    return found[_one_of_many(what, function_name, public, list(known))]


def _one_of_many(
    what: str, given: str, names: Sequence[str], told: Sequence[str] | None = None
) -> str:
    """Return a known name; the error lists only the nearest names.

    If no name is near, the error lists the first names that are useful.
    """
    if given in names:
        return given
    near = difflib.get_close_matches(given, names)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    if told and not near:
        hint = f" It has: {', '.join(told[:_TOLD])}{', …' * (len(told) > _TOLD)}."
    module, dot, function = given.rpartition(".")
    if told is None and dot and not near:
        hint = f" A function of a module has a colon before it: {module}:{function}."
    raise ArgumentError(
        f"Expected `model` to be {what} ({len(names)} are known) or module:function; "
        f"got {given!r}.{hint}"
    )


@torch.no_grad()
def _count_classes(network: nn.Module, spec: str, size: tuple[int, ...], hint: str) -> int:
    """Return the number of logits for a picture of this size, (C, H, W)."""
    shape = (1, *size)
    try:
        with evaluated(network):
            output = network(placed(network, torch.zeros(shape, device="cpu")))
    except Exception as error:
        raise ArgumentError(
            f"Expected `model` {spec} to take inputs of shape {shape}; it raised "
            f"{type(error).__name__}: {error}.{hint}"
        ) from error
    logits = read_logits(output, "model")
    if logits.ndim not in (1, 2) or logits.shape[0] != 1:
        raise ArgumentError(
            f"Expected `model` {spec} to return logits (1, M); got {tuple(logits.shape)}."
        )
    return int(logits.shape[1]) if logits.ndim == 2 else 1


def _channels_hint(network: nn.Module, given: int) -> str:
    """How to make pictures of as many channels as the network's first convolution takes."""
    convolutions = (one for one in network.modules() if isinstance(one, nn.Conv2d))
    wanted = next((one.in_channels for one in convolutions), given)
    if wanted == given or wanted not in (1, 3):
        return ""
    return (
        f" Its first convolution takes {wanted} channel{'s' * (wanted > 1)}: let torchvision's "
        f"Grayscale({wanted}) be the first step of `transform`."
    )
