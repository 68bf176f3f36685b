# Image classifiers of Hugging Face's transformers as classifiers.
from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from captum_infomask._checks import check_callable, describe
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import unsaid, warn
from captum_infomask._outputs import logits_of
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.image_processors import preprocess_of_config, preprocess_of_processor

KIND = "ForImageClassification"
_INDEPENDENT = "The labels of"  # how the advice begins to read independent labels by the sigmoid
# Parts of the names of other networks, and what is there for them.
_OTHERS = {
    "ForSemanticSegmentation": "captum_infomask.adapters.area takes segmentation networks.",
    "ForObjectDetection": "captum_infomask.adapters.detection takes detectors.",
    "CLIPModel": "captum_infomask.adapters.zero_shot makes a classifier of it, by prompts.",
    "SiglipModel": "captum_infomask.adapters.zero_shot makes a classifier of it, by prompts.",
    "Siglip2Model": "captum_infomask.adapters.zero_shot makes a classifier of it, by prompts.",
}


class HuggingFaceNetwork(nn.Module):
    """The logits of a classifier of transformers: the network's output is an object around them.

    Args:
        tower: The classifier. It is not copied, and keeps its mode.
    """

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.training = tower.training

    def read(self, output: Any) -> Any:
        """Return the logits of the classifier's output."""
        return logits_of(output)

    def forward(self, pictures: Tensor) -> Any:
        """Return the logits (N, M) of pictures (N, C, H, W)."""
        return self.read(self.tower(pictures))


def huggingface(model: nn.Module, processor: Any = None) -> Classifier:
    r"""Make a classifier of one of transformers' image classifiers.

    .. math::

        f(x) = \mathtt{model}(x).\mathtt{logits}

    The category names are those of ``model.config.id2label``. The engines see through it:
    ``RemoveTokens()`` works for vision transformers, ``engine="incremental"`` for ResNet and
    ConvNeXt.

    Args:
        model: A network ``…ForImageClassification``: ViT, DeiT, BEiT, DINOv2, SigLIP, CLIP, Swin,
            ConvNeXt, ResNet and others. It is not copied, and keeps its mode and its precision.
        processor: Its image processor, such as ``AutoImageProcessor`` loads. Photographs are
            prepared as it says: resized, cut, scaled. One photograph is prepared by both and
            compared. None prepares them as for ImageNet, at the size that the model's config says.

    Returns:
        The classifier. If the labels are independent (``problem_type`` is
        ``"multi_label_classification"``), a warning says that ``head="sigmoid"`` reads its logits.

    Raises:
        ArgumentError: The model is no image classifier of transformers, or a regression; or the
            processor does something else to photographs.

    Example:
        >>> import torch
        >>> from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor
        >>> from captum_infomask import InfoMask
        >>> from captum_infomask.adapters import huggingface
        >>> config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        ...                    intermediate_size=32, image_size=32, patch_size=8,
        ...                    id2label={0: "cat", 1: "dog"})
        >>> processor = ViTImageProcessor(size={"height": 32, "width": 32})
        >>> made = huggingface(ViTForImageClassification(config).eval(), processor)
        >>> made.categories, made.preprocess.shape
        (('cat', 'dog'), (3, 32, 32))
        >>> InfoMask(made.network).attribute(torch.rand(1, 3, 32, 32), target=1).shape
        torch.Size([1, 3, 32, 32])
    """
    check_callable("model", model)
    config: Any = getattr(model, "config", None)
    if not isinstance(model, nn.Module) or not hasattr(config, "id2label"):
        raise ArgumentError(
            f"Expected `model` to be an image classifier of transformers; got {describe(model)}. "
            f"AutoModelForImageClassification.from_pretrained(folder) makes one."
        )
    names = [kind.__name__ for kind in type(model).__mro__]
    if not any(KIND in name for name in names):
        raise no_classifier(f"{type(model).__name__}.{hint_of(names)}")
    labels = _labels(config)
    kind = getattr(config, "problem_type", None)
    # transformers itself trains one output as a regression if the config says nothing.
    if kind == "regression" or (kind is None and len(labels) == 1):
        raise ArgumentError(
            f"Expected `model` to be a classifier; {type(model).__name__} is a regression "
            f"(problem_type={kind!r}, {len(labels)} output). "
            f"InfoMask(model, head=Gaussian(sigma)) reads one."
        )
    if kind == "multi_label_classification":
        warn(
            f"{_INDEPENDENT} {type(model).__name__} are independent (problem_type={kind!r}): "
            "read its logits with head='sigmoid' (--head sigmoid)."
        )
    name = str(getattr(config, "_name_or_path", "") or "") or type(model).__name__
    return Classifier(
        name=name,
        network=HuggingFaceNetwork(model),
        categories=tuple(labels[number] for number in sorted(labels)),
        preprocess=(
            preprocess_of_config(config)
            if processor is None
            else preprocess_of_processor(processor, config)
        ),
        weights=name,
    )


def to_be_read_by(head: object) -> AbstractContextManager[None]:
    """Inside the block, the sigmoid is not advised if outputs are to be read by it anyway."""
    return unsaid(_INDEPENDENT) if head == "sigmoid" else nullcontext()


def is_huggingface(model: object) -> bool:
    """Whether a model is an image classifier of transformers."""
    return hasattr(getattr(model, "config", None), "id2label") and any(
        KIND in kind.__name__ for kind in type(model).__mro__
    )


def names_its_labels(model: object) -> bool:
    """Whether a model is an image classifier of transformers, and its config names its labels."""
    if not is_huggingface(model):
        return False
    labels = _labels(model.config)  # type: ignore[attr-defined]
    return any(name != f"LABEL_{number}" for number, name in labels.items())


def _labels(config: Any) -> dict[int, str]:
    """Return the names of a config's labels, by their numbers."""
    given = config.id2label
    try:
        labels = {int(number): str(name) for number, name in given.items()}
    except (AttributeError, TypeError, ValueError):
        labels = {}
    if not labels:
        raise ArgumentError(
            f"Expected `model.config.id2label` to hold a name for the number of each label, such "
            f"as {{0: 'cat', 1: 'dog'}}; got {describe(given)}."
        )
    return labels


def hint_of(names: Sequence[str]) -> str:
    """What is there for a network of such names, as a sentence."""
    told = (words for part, words in _OTHERS.items() if any(part in name for name in names))
    return "".join(f" {words}" for words in [*told][:1])


def no_classifier(given: str) -> ArgumentError:
    """The error for a network or a folder of another kind, which is described in words."""
    return ArgumentError(
        f"Expected `model` to be an image classifier of transformers, …{KIND}; got {given}"
    )
