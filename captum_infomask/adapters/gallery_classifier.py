# A network of embeddings as a classifier: which of K references is it?
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_infomask._batches import placed
from captum_infomask._checks import check_callable, describe
from captum_infomask._errors import ArgumentError
from captum_infomask._keywords import told
from captum_infomask.adapters.similarity_logits import SimilarityLogits
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.library_models import preprocess_of
from captum_infomask.models.preprocessing import Preprocess
from captum_infomask.scores.heads import widen
from captum_infomask.scores.score_settings import checked_temperature


@told({"categories": " `names` are the references' names."})
def gallery(
    model: nn.Module,
    embeddings: Tensor,
    temperature: SupportsFloat | None = None,
    *,
    names: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
) -> Classifier:
    r"""Return a classifier of pictures among K references, by the cosine of their embeddings.

    With the picture's embedding g(x) and the references :math:`e_k`, the logits are

    .. math::

        f_k(x) = (\cos(g(x), e_k) - 1) / \tau.

    The 1 changes no posterior. A network that was trained to find a picture's partner among others
    (InfoNCE: faces, products, scans, SimCLR, MoCo) is a critic of this form. Its softmax over the
    references, which count as equally likely, says which one it is. So the maps say which part of
    the picture tells "it is reference k", in bits: at most :math:`\log_2 K`. They depend on all
    the references: a part that all of them share tells nothing.

    The bits mean as much as τ. Pass the τ that the network was trained with, such as 0.07 for MoCo
    and 1/64 for ArcFace with its usual scale. Or leave it out, which takes the cosines as they are
    (τ = 1, and far too few bits), and fit it on labelled pictures:
    ``fitted = fit_temperature(found, loader)`` and ``InfoMask(found, temperature=fitted)``.

    Args:
        model: From pictures to embeddings (N, D), of any length but 0.
        embeddings: The references' embeddings, (K, D): ``model(pictures)`` of K pictures.
        temperature: τ > 0; a number, or what :func:`fit_temperature` returns. None is 1.
        names: The references' names, (K,); their numbers if None. References of one name count as
            one: the mean of their embeddings, each of length 1.
        preprocess: How pictures are prepared; None takes what timm's network says, else ImageNet's.

    Returns:
        The classifier; its categories are the names.

    Raises:
        ArgumentError: An argument is out of range. When the network runs: it returns something
            other than embeddings of the references' size.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask
        >>> from captum_infomask.adapters import gallery
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
        >>> known = torch.rand(4, 3, 16, 16)
        >>> with torch.no_grad():
        ...     embeddings = model(known)
        >>> faces = gallery(model, embeddings, 0.07, names=["Ada", "Bob", "Ada", "Cem"])
        >>> faces.categories
        ('Ada', 'Bob', 'Cem')
        >>> bits = InfoMask(faces).attribute(torch.rand(1, 3, 16, 16), target="Bob")

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", arXiv
    1807.03748, Section 2.3; Poole et al., "On Variational Bounds of Mutual Information", arXiv
    1905.06922, Eq. 10; the mean of several: Snell et al., arXiv 1703.05175.
    """
    check_callable("model", model)
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"Expected `model` to be a torch.nn.Module that returns embeddings; got "
            f"{describe(model)}."
        )
    references, categories = _named(_checked_embeddings(embeddings), names)
    tau = 1.0 if temperature is None else checked_temperature(temperature)
    network = SimilarityLogits(
        model,
        references.to(placed(model, references).device),
        scale=torch.tensor(1 / tau, dtype=torch.float64, device="cpu"),
        # Without it, cosines look like probabilities.
        bias=torch.tensor(-1 / tau, dtype=torch.float64, device="cpu"),
    )
    prepared = preprocess_of(model) if preprocess is None else preprocess
    return Classifier(type(model).__name__, network, categories, prepared)


def _checked_embeddings(embeddings: Any) -> Tensor:
    """Return the references' embeddings, in single precision at least."""
    if (
        not isinstance(embeddings, Tensor)
        or embeddings.dim() != 2
        or not embeddings.is_floating_point()
    ):
        words, hint = describe(embeddings), ""
        if isinstance(embeddings, np.ndarray):
            hint = " torch.from_numpy(embeddings).float() makes a tensor of it."
        elif isinstance(embeddings, Mapping):
            words = type(embeddings).__name__
            hint = " Pass torch.stack(list(embeddings.values())), and names=list(embeddings)."
        elif isinstance(embeddings, Tensor) and embeddings.dim() == 4:
            hint = " model(pictures) are the embeddings of pictures."
        raise ArgumentError(
            f"Expected `embeddings` to be a floating-point tensor (K, D), one embedding per "
            f"reference; got {words}.{hint}"
        )
    return widen(embeddings.detach())  # squares of half precision overflow


def _named(references: Tensor, names: Sequence[str] | None) -> tuple[Tensor, tuple[str, ...]]:
    """Return the references and their names; those of one name are one."""
    given = range(len(references)) if names is None else names
    own = tuple(map(str, given)) if isinstance(given, Iterable) else ()
    if isinstance(names, str) or len(own) != len(references):
        raise ArgumentError(
            f"Expected `names` to hold {len(references)} names, one per reference; got "
            f"{describe(names)}."
        )
    places: dict[str, list[int]] = {}
    for place, name in enumerate(own):
        places.setdefault(name, []).append(place)
    if len(places) < 2:
        raise ArgumentError(
            f"Expected `embeddings` of at least two references to choose among; got {len(places)}. "
            f"Add those of others that the picture could show instead."
        )
    unit = F.normalize(references, dim=1)
    return torch.stack([unit[some].mean(0) for some in places.values()]), tuple(places)
