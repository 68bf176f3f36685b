# CLIP, SigLIP and their like as classifiers whose categories are prompts.
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms

from captum_infomask._batches import placed
from captum_infomask._checks import check_callable, describe, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.adapters.similarity_logits import SimilarityLogits
from captum_infomask.models.classifier import Classifier, evaluated
from captum_infomask.models.image_processors import preprocess_of_processor
from captum_infomask.models.preprocessing import Preprocess

Prompts = Sequence[str] | Mapping[str, str | Sequence[str]]

_TEXTS = 256  # texts that are encoded together


def zero_shot(
    model: nn.Module, processor: Any, prompts: Prompts, *, preprocess: Any = None
) -> Classifier:
    r"""Return a classifier of pictures among prompts: CLIP, SigLIP, and models that work like them.

    With the picture's embedding g(x), the prompts' embeddings :math:`t_k` and the model's own scale
    s and bias b (0 for CLIP), the logits are

    .. math::

        f_k(x) = s \cos(g(x), t_k) + b.

    CLIP was trained to find a picture's text among others, so :math:`f_k` estimates
    :math:`\log p(t_k \mid x) / p(t_k)` plus a number that depends on x only. The default head reads
    it as the posterior over the K prompts, which count as equally likely, and as exclusive:
    "it is one of these; which?". A view holds at most :math:`\log_2 K` bits about a prompt, and the
    bits depend on the whole list.

    SigLIP was trained to tell pairs from non-pairs, each by a sigmoid. ``head="sigmoid"`` reads
    each prompt by itself: "does this text fit?". In training one of B texts fitted a picture,
    so ``prior=1 / B``, such as 1/32768, is the share of pairs; the limit is then
    :math:`\log_2 B` bits. The default head reads SigLIP among the prompts, as CLIP; b cancels.

    The prompts are encoded here, once. The network holds the picture's side of ``model`` (its
    weights are shared, not copied), and not the side of texts.

    Args:
        model: ``CLIPModel``, ``SiglipModel`` or another model of ``transformers`` with
            ``get_text_features``, ``vision_model`` and ``logit_scale``; or a model of
            ``open_clip`` (or OpenAI's ``clip``), with ``encode_text``, ``visual`` and
            ``logit_scale``.
        processor: The model's processor or tokenizer of ``transformers``; for ``open_clip``, what
            ``open_clip.get_tokenizer`` returns, which cuts long texts off.
        prompts: The K texts, which become the categories. Or a mapping from the categories to their
            text, or to several texts, such as one per template; the mean of their embeddings, each
            of length 1, then stands for the category.
        preprocess: How pictures are prepared: a ``Preprocess``, an image processor of
            ``transformers``, or the transform for evaluation that
            ``open_clip.create_model_and_transforms`` returns. None takes the processor's.

    Returns:
        The classifier. ``InfoMask(classifier).attribute(x, target="a photo of a cat")``.

    Raises:
        ArgumentError: The model or the preprocessing is of no known form, or the prompts are not
            texts, are too few, too long, or alike.

    Example:
        >>> import open_clip, torch
        >>> from captum_infomask import InfoMask
        >>> from captum_infomask.adapters import zero_shot
        >>> vision = open_clip.CLIPVisionCfg(
        ...     layers=1, width=32, head_width=16, patch_size=8, image_size=32)
        >>> text = open_clip.CLIPTextCfg(width=32, heads=2, layers=1)
        >>> model = open_clip.CLIP(16, vision, text).eval()  # random weights
        >>> transform = open_clip.image_transform(32, is_train=False)
        >>> tokenizer = open_clip.SimpleTokenizer()
        >>> clip = zero_shot(
        ...     model, tokenizer, ["a photo of a cat", "a photo of a dog"], preprocess=transform)
        >>> x = torch.rand(1, 3, 32, 32)
        >>> bits = InfoMask(clip).attribute(x, target="a photo of a cat")

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
    arXiv 2103.00020 (templates: Section 3.1.4); Zhai et al., "Sigmoid Loss for Language Image
    Pre-Training", arXiv 2303.15343; the InfoNCE bound: van den Oord et al., arXiv 1807.03748.
    """
    check_callable("model", model)
    towers = _towers_of(model)
    texts = _texts_by_name(prompts)
    bias = getattr(model, "logit_bias", None)
    if bias is None and len(texts) < 2:
        raise ArgumentError(
            f"Expected `prompts` to hold at least two texts, among which {type(model).__name__} "
            f"chooses; got {len(texts)}. Add what the picture could show instead."
        )
    prepared = _preprocess_of(processor if preprocess is None else preprocess, model)
    _check_reads_texts(processor)
    with torch.inference_mode(False), torch.no_grad():
        with evaluated(model):
            references = _references(
                towers, processor, texts, placed(model, torch.empty(0, device="cpu")).device
            )
        network = SimilarityLogits(
            towers.pictures,
            references,
            scale=towers.model.logit_scale.exp(),
            bias=torch.zeros((), device="cpu") if bias is None else bias,
            embed=towers.embed,
        )
        with evaluated(model):
            _check_pictures(towers, network, prepared)
    return Classifier(type(model).__name__, network, tuple(texts), prepared)


@dataclass(frozen=True, eq=False)
class _Towers:
    """The parts of a model of pictures and texts.

    Attributes:
        model: The model.
        pictures: The tower of pictures.
        embed: From what this tower returns to embeddings.
        encode_pictures: The model's own function from pictures to embeddings.
        encode_texts: From the processor and texts to embeddings.
    """

    model: Any
    pictures: nn.Module
    embed: nn.Module
    encode_pictures: Callable[[Tensor], Any]
    encode_texts: Callable[[Any, list[str], torch.device], Any]


def _towers_of(model: Any) -> _Towers:
    """Return the parts of a model, by the names of its members."""
    has_scale = isinstance(getattr(model, "logit_scale", None), Tensor)
    if isinstance(model, nn.Module) and has_scale:
        for members, parts in _FAMILIES.items():
            if all(hasattr(model, member) for member in members):
                return parts(model)
    raise ArgumentError(
        f"Expected `model` to be a module with `logit_scale`, and with `get_text_features` and "
        f"`vision_model` (transformers) or `encode_text` and `visual` (open_clip); got "
        f"{type(model).__name__}. gallery(image_encoder, embeddings) takes the embeddings of "
        f"prompts, (K, D), from any encoder."
    )


def _of_transformers(model: Any) -> _Towers:
    return _Towers(
        model,
        model.vision_model,
        _Pooled(getattr(model, "visual_projection", None)),
        lambda pictures: _pooled(model.get_image_features(pixel_values=pictures)),
        lambda processor, texts, device: _pooled(
            model.get_text_features(**_tokens(model, processor, texts, device))
        ),
    )


def _of_open_clip(model: Any) -> _Towers:
    return _Towers(
        model,
        model.visual,
        _First(),
        model.encode_image,
        lambda tokenizer, texts, device: model.encode_text(tokenizer(texts).to(device)),
    )


_FAMILIES: dict[tuple[str, ...], Callable[[Any], _Towers]] = {
    ("get_text_features", "vision_model"): _of_transformers,
    ("encode_text", "visual"): _of_open_clip,
}


class _Pooled(nn.Module):
    """From the output of a tower of transformers to embeddings."""

    def __init__(self, projection: nn.Module | None) -> None:
        super().__init__()
        self.projection = nn.Identity().eval() if projection is None else projection
        self.training = False  # the projection keeps the user's mode

    def forward(self, output: Any) -> Tensor:
        """Project the output's pooled features."""
        embeddings: Tensor = self.projection(output.pooler_output)
        return embeddings


class _First(nn.Module):
    """From the output of a tower of open_clip to embeddings; CoCa's returns its tokens too."""

    def __init__(self) -> None:
        super().__init__()
        self.training = False

    def forward(self, output: Any) -> Tensor:
        """Take the first of several outputs."""
        embeddings: Tensor = output[0] if isinstance(output, tuple) else output
        return embeddings


def _pooled(features: Any) -> Any:
    """Return the embeddings: transformers 4 returns them, and 5 an object that holds them."""
    return getattr(features, "pooler_output", features)


def _tokens(
    model: Any, processor: Any, texts: list[str], device: torch.device
) -> Mapping[str, Tensor]:
    """Return tokens of the length that the model was trained with.

    SigLIP needs this length, and CLIP reads nothing after the end of a text.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    places = int(model.config.text_config.max_position_embeddings)
    longest = min(places, getattr(tokenizer, "model_max_length", places))
    # As lists: texts of which one is too long make no tensor.
    tokens = processor(text=texts, padding="max_length", max_length=longest)
    length = max(len(row) for row in tokens["input_ids"])
    if length > longest:
        raise ArgumentError(
            f"Expected `prompts` of at most {longest} tokens, as {type(model).__name__} takes; "
            f"the longest has {length}."
        )
    return {name: torch.as_tensor(rows, device=device) for name, rows in tokens.items()}


def _texts_by_name(prompts: object) -> dict[str, list[str]]:
    """Return each category's texts."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(prompts, Mapping):
        pairs = list(prompts.items())
    elif isinstance(prompts, Sequence) and not isinstance(prompts, str):
        pairs = [(text, text) for text in prompts]
    found = [(name, [texts] if isinstance(texts, str) else texts) for name, texts in pairs]
    if not found or not all(isinstance(name, str) and _are_texts(texts) for name, texts in found):
        raise ArgumentError(
            f"Expected `prompts` to be a list of texts, or a mapping from names to a text or "
            f"several; got {describe(prompts)}."
        )
    if twice := [name for name, count in Counter(name for name, _ in found).items() if count > 1]:
        raise ArgumentError(f"Expected `prompts` to differ; {twice[0]!r} comes again.")
    return {name: list(texts) for name, texts in found}


def _are_texts(texts: object) -> bool:
    is_list = isinstance(texts, Sequence) and len(texts) > 0
    return is_list and all(isinstance(text, str) for text in texts)  # type: ignore[attr-defined]


def _check_reads_texts(processor: Any) -> None:
    """Refuse what prepares pictures alone, before it meets texts."""
    is_of_pictures = isinstance(processor, transforms.Compose | Preprocess) or (
        hasattr(processor, "image_mean") and not hasattr(processor, "tokenizer")
    )
    if is_of_pictures or not callable(processor):
        raise ArgumentError(
            f"Expected `processor` to read texts too: CLIPProcessor or the like, a tokenizer of "
            f"transformers, or what open_clip.get_tokenizer returns; got "
            f"{type(processor).__name__}. With a tokenizer, pass what prepares pictures as "
            f"`preprocess`."
        )


def _references(
    towers: _Towers, processor: Any, texts: dict[str, list[str]], device: torch.device
) -> Tensor:
    """Return each category's embedding, (K, D): the mean of its texts' own, each of length 1."""
    rows = list(chain(*texts.values()))
    parts = [
        towers.encode_texts(processor, rows[start : start + _TEXTS], device)
        for start in range(0, len(rows), _TEXTS)
    ]
    embeddings = torch.cat(parts)
    wide = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    own = F.normalize(wide, dim=1).split([len(some) for some in texts.values()])
    return torch.stack([each.mean(0) for each in own])


def _check_pictures(towers: _Towers, network: SimilarityLogits, preprocess: Preprocess) -> None:
    """Refuse a model that embeds a picture otherwise than by its tower alone."""
    weight = next(towers.pictures.parameters(), towers.model.logit_scale)
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, *preprocess.shape, generator=generator, device="cpu")
    picture = picture.to(weight)
    kind = type(towers.model).__name__
    try:
        logits = network(picture)
        expected = network.compare(towers.encode_pictures(picture))
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        words = short_repr(str(error))
        raise ArgumentError(
            f"Expected `model` to embed a picture {tuple(picture.shape)}, as `preprocess` makes "
            f"it; {kind} raised {type(error).__name__}: {words}"
        ) from error
    if not torch.allclose(logits, expected, rtol=1e-3, atol=1e-3 * float(network.scale)):
        raise ArgumentError(
            f"Expected `model` to embed a picture by {type(towers.pictures).__name__} alone; "
            f"{kind} does more. gallery(image_encoder, embeddings) takes a module of your own that "
            f"embeds pictures."
        )


# The steps of a transform for evaluation that Preprocess makes anyway.
_CONVERSIONS = ("ToTensor", "MaybeToTensor", "MaybeConvertMode", "_convert_image_to_rgb")


def _preprocess_of(given: Any, model: Any) -> Preprocess:
    """Return how pictures are prepared, from what the user has for it."""
    if isinstance(given, Preprocess):
        return given
    if isinstance(given, transforms.Compose):
        return _preprocess_of_steps(given.transforms)
    pictures = getattr(given, "image_processor", given)
    if not hasattr(pictures, "size"):
        raise ArgumentError(
            f"Expected `preprocess` to be a Preprocess, an image processor of transformers, or the "
            f"transform for evaluation that open_clip made with the model; got "
            f"{type(given).__name__}, which prepares no pictures."
        )
    return preprocess_of_processor(pictures, getattr(model, "config", None))


def _preprocess_of_steps(steps: Sequence[Any]) -> Preprocess:
    """Read torchvision's steps: resize, cut out the centre, normalise."""
    named = {getattr(step, "__name__", type(step).__name__): step for step in steps}
    resize, crop, norm = (named.get(name) for name in ("Resize", "CenterCrop", "Normalize"))
    known = {"Resize", "CenterCrop", "Normalize", *_CONVERSIONS}
    if resize is None or norm is None or named.keys() - known or len(named) < len(steps):
        raise ArgumentError(
            f"Expected `preprocess` to resize, to cut out the centre and to normalise; got the "
            f"steps {', '.join(named)}. Preprocess(resize=..., crop=..., mean=..., std=...) says "
            f"what the network needs."
        )
    sides = resize.size if isinstance(resize.size, int) else tuple(resize.size)
    return Preprocess(
        resize=sides if isinstance(sides, int) or len(sides) > 1 else sides[0],
        crop=tuple((resize if crop is None else crop).size),
        mean=tuple(norm.mean),
        std=tuple(norm.std),
        interpolation=resize.interpolation,
    )
