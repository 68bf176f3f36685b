# Dropout kept on in a network that is otherwise in evaluation mode: a stochastic network.
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from captum_infomask._checks import ArgumentError, describe

_DROPOUT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


@contextmanager
def keep_dropout(model: nn.Module) -> Iterator[None]:
    """Keep a model's dropout layers dropping inside a ``with`` block, and nothing else in training.

    The model becomes a stochastic network, whose samples give bounds of its information. Only the
    ``training`` flag of dropout layers changes: batch normalisation stays as it is. The flags are
    put back afterwards, also after an exception; blocks may be nested. Dropout that is no layer of
    its own is not reached: ``torch.nn.functional.dropout`` in a ``forward``, and the dropout inside
    ``nn.MultiheadAttention`` and ``nn.LSTM``.

    Args:
        model: A network with dropout layers, in any mode.

    Raises:
        ArgumentError: The model is no module, or has no dropout layer.

    Example:
        >>> import torch
        >>> from captum_infomask import keep_dropout
        >>> model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(3)).eval()
        >>> with keep_dropout(model):
        ...     [module.training for module in model]
        [True, False]
        >>> model[0].training
        False

    Source: Qin & Kim, arXiv 1910.02629, Section 3.2 (stochastic networks).
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"Expected `model` to be a torch.nn.Module; got {describe(model)}.")
    layers = [module for module in model.modules() if isinstance(module, _DROPOUT)]
    if not layers:
        raise ArgumentError(
            f"Expected `model` to have a dropout layer (torch.nn.Dropout and its kin); "
            f"{type(model).__name__} has none."
        )
    before = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.training = True
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.training = training
