# The effects of training mode: dropout that is kept on, a stochastic network, and warnings.
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import warn
from captum_infomask.scores.targets import Named, network_of

_DROPOUT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)

_PATHS = ("DropPath", "StochasticDepth")  # timm's and torchvision's layers that drop whole branches


@contextmanager
def keep_dropout(model: nn.Module | Named) -> Iterator[None]:
    """Keep a model's dropout layers on inside a ``with`` block, and nothing else in training mode.

    The model becomes a stochastic network, whose samples give bounds of its information. Only the
    ``training`` flag of dropout layers changes: batch normalisation stays as it is. The flags are
    restored afterwards, also after an exception. Blocks may be nested. Dropout that is not a layer
    of its own is not reached: ``torch.nn.functional.dropout`` in a ``forward``, and the dropout
    inside ``nn.MultiheadAttention`` and ``nn.LSTM``.

    Args:
        model: A network with dropout layers, in any mode; or a ``Classifier``.

    Raises:
        ArgumentError: The model is not a module, or has no dropout layer.

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
    network = network_of(model)
    if not isinstance(network, nn.Module):
        raise ArgumentError(f"Expected `model` to be a torch.nn.Module; got {describe(network)}.")
    layers = [module for module in network.modules() if isinstance(module, _DROPOUT)]
    if not layers:
        raise ArgumentError(
            f"Expected `model` to have a dropout layer (torch.nn.Dropout and its kin); "
            f"{type(network).__name__} has none."
        )
    before = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.training = True
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.training = training


def warn_of_mode(forward_func: object, *, is_sampled: bool) -> None:
    """Warn if a view's output depends on other views, or is drawn although nobody asked for it.

    Batch norms that use a batch's own statistics see a chunk of views. If the user asks for
    samples, dropout is meant. If not, the output is one draw among many.

    Args:
        forward_func: A network, its method, or another function, about which nothing is known.
        is_sampled: Whether the user asks for samples of a stochastic network.
    """
    network = getattr(forward_func, "__self__", forward_func)
    if not isinstance(network, nn.Module):
        return
    modules = dict(network.named_modules())
    norms = [name for name, one in modules.items() if _uses_batch(one)]
    noisy = [] if is_sampled else [name for name, one in modules.items() if _draws(one)]
    troubles, in_training = [], any(modules[name].training for name in (*norms, *noisy))
    if norms:
        troubles.append(f"batch normalisation ({_named(norms)}) uses each chunk's own statistics")
    if noisy:
        troubles.append(f"dropout ({_named(noisy)}) draws anew in each")
    if not troubles:
        return
    cure = (
        "Call model.eval() first; for a stochastic network use keep_dropout(model) and n_samples."
        if in_training
        else "Its running statistics are not kept: eval() does not help, other normalisation does."
    )
    warn(
        f"The network's answers change with the size of chunks, and so do all numbers: "
        f"{' and '.join(troubles)}. {cure}"
    )


def _uses_batch(module: nn.Module) -> bool:
    is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return is_norm and (module.training or module.running_mean is None)


def _draws(module: nn.Module) -> bool:
    """Whether a layer draws: dropout with a rate above 0, by itself or inside another layer."""
    if not getattr(module, "training", False):  # frozen TorchScript has no modes
        return False
    if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
        return module.dropout > 0 and getattr(module, "num_layers", 2) > 1
    if isinstance(module, _DROPOUT):
        return module.p > 0
    if type(module).__name__ in _PATHS:
        rate = getattr(module, "p", getattr(module, "drop_prob", 0.0))
        return isinstance(rate, float) and rate > 0
    return isinstance(module, nn.RReLU)


def _named(names: list[str]) -> str:
    first = repr(names[0]) if names[0] else "the network itself"
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
