# Chooses how the pictures of a run become the network's input, and says what to write if it cannot.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet
from captum_infomask.dataset_run.data.data_pictures import DataPictures
from captum_infomask.dataset_run.data.own_dataset import DatasetPictures
from captum_infomask.dataset_run.data.own_input import AsTensors, OwnTransform, PictureForm
from captum_infomask.dataset_run.scoring import some_noise
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.library_models import preprocess_of_preset
from captum_infomask.models.preprocessing import Preprocess

_PRESET = type(ResNet18_Weights.DEFAULT.transforms())  # of nearly all weights of torchvision

# For networks of these packages, the lines that give the transform of their weights.
_LINES = {
    "torchvision": (
        "weights = ResNet18_Weights.DEFAULT  # those that the model has",
        "model = resnet18(weights=weights)",
        "run_dataset({data}, model, {out}, transform=weights.transforms())",
    ),
    "timm": (
        "config = timm.data.resolve_model_data_config(model)",
        "transform = timm.data.create_transform(**config, is_training=False)",
        "run_dataset({data}, model, {out}, transform=transform)",
    ),
}
_OWN_LINES = (
    "from torchvision.transforms import Compose, Normalize, Resize, ToTensor",
    "transform = Compose([Resize(size), ToTensor(), Normalize(mean, std)])  # as in training",
    "run_dataset({data}, model, {out}, transform=transform)",
)


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """How the pictures of a data set become a network's input.

    Attributes:
        pictures: The data set, whose pictures have the form that the preprocessing takes.
        preprocess: The preprocessing; None for the model's own.
        form: The form of our own test pictures.
    """

    pictures: DataPictures
    preprocess: Any
    form: PictureForm


def network_input(
    pictures: DataPictures,
    model: object,
    transform: Any,
    before: Mapping[str, Any] | None,
    words: Mapping[str, str],
) -> NetworkInput:
    """Choose the preprocessing of a run.

    Args:
        pictures: The data set.
        model: The model, as ``run_dataset`` takes it.
        transform: The user's transform, or None.
        before: The manifest of the continued run, if any. Its test pictures are used again.
        words: The arguments ``data`` and ``out`` as they would be written, for errors.

    Raises:
        ArgumentError: A module has no transform; or the transform does not take the pictures.
    """
    first = pictures.first if isinstance(pictures, DatasetPictures) else None
    if isinstance(first, Tensor):
        if transform is not None:
            raise ArgumentError(
                f"Expected no `transform` for {words['data']}, which yields tensors; they are "
                f"the network's input already. Write run_dataset({words['data']}, model, "
                f"{words['out']}), or take the transform out of the data set."
            )
        return NetworkInput(pictures, AsTensors(tuple(first.shape)), PictureForm())
    if transform is None:
        if isinstance(model, nn.Module):
            raise _no_transform(model, words)
        return NetworkInput(pictures, None, PictureForm())
    if not callable(transform) or isinstance(transform, type):
        raise ArgumentError(
            f"Expected `transform` to be a function from a picture of PIL to a tensor (C, H, W); "
            f"got {describe(transform)}."
        )
    known = _as_preprocess(transform)
    if known is not None:
        return NetworkInput(pictures, known, PictureForm())
    if isinstance(pictures, DatasetPictures):
        pictures = replace(pictures, as_rgb=False)
    found = {} if before is None else before["settings"]
    if "test_picture" in found:
        form = PictureForm.from_words(found["test_picture"])
    else:
        picture = _first_picture(pictures) if first is None else first
        form = PictureForm(picture.mode, picture.size)
    return NetworkInput(pictures, OwnTransform(transform, form.of(some_noise())), form)


def _as_preprocess(transform: Any) -> Preprocess | None:
    """Our own preprocessing that gives the same tensors; we can show what it does."""
    if type(transform) is Preprocess:
        return transform
    return preprocess_of_preset(transform) if type(transform) is _PRESET else None


def _first_picture(pictures: DataPictures) -> Image.Image:
    """The first file that is a picture; a test picture if there is none."""
    for k in range(len(pictures.keys)):
        try:
            with quiet(""):
                picture = pictures.load(k).decode()
        except MemoryError:
            raise
        except Exception:  # it will be a bad picture of the run
            continue
        if isinstance(picture, Image.Image):
            return picture
    return some_noise()


def _no_transform(model: nn.Module, words: Mapping[str, str]) -> ArgumentError:
    """The error for a module without a transform, with the lines that give one."""
    package = type(model).__module__.partition(".")[0]
    lines = "".join(f"\n    {line.format(**words)}" for line in _LINES.get(package, _OWN_LINES))
    return ArgumentError(
        f"Expected `transform`, which makes the input of {type(model).__name__} of a picture, as "
        f"in its training; a module does not have it. Write:{lines}"
    )


def in_words(name: str, given: Any) -> str:
    """An argument as the user may have written it, for the lines of an error."""
    if isinstance(given, str):
        return repr(given)
    return f'"{given}"' if isinstance(given, Path) else name


def check_order(data: object, model: object) -> None:
    """Refuse a network in the place of the data."""
    if isinstance(data, nn.Module | Classifier):
        name = in_words("data", model)
        raise ArgumentError(
            f"Expected `data` first and `model` second; got {type(data).__name__} first. Write "
            f"run_dataset({name}, model, out, transform=transform)."
        )


def decoders_of(pictures: DataPictures, workers: int | None) -> int | None:
    """The number of decoding processes: the one that was given, or the data set's own."""
    own = pictures.decoders if isinstance(pictures, DatasetPictures) else None
    if own == 0 and workers:
        raise ArgumentError(
            f"Expected `workers` 0 for data on a GPU, which other processes cannot read; got "
            f"{workers}."
        )
    return own if workers is None else workers
