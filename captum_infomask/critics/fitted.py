# FittedCritic: a copy of a network whose softmax estimates the posterior given a view.
from __future__ import annotations

from dataclasses import asdict
from os import PathLike

from torch import Tensor, nn

from captum_infomask._checks import check_initialised, describe, finite_number
from captum_infomask._errors import ArgumentError
from captum_infomask._files import check_input, check_output, damaged, read, write
from captum_infomask.critics.fit_report import FitReport, stored_report
from captum_infomask.engines.isolation import Isolation, check_no_script, own_weight
from captum_infomask.models.checkpoints import fit_state_dict

_FORMAT = "captum_infomask.FittedCritic 1"


class FittedCritic(nn.Module):
    r"""A copy of a network, fitted to views by :func:`fit_critic`.

    .. math::

        \mathrm{softmax}(\text{critic}(v))_y \approx \mathbb{E}[p_\theta(y \mid x) \mid v]

    for a view v of a picture x: an ``InfoMask`` of it, with its defaults for ``head`` and
    ``temperature``, reads i(y; v) off views that the network itself was never trained on.

    Attributes:
        network: The fitted copy.
        temperature: What the network's outputs are divided by.
        report: What the fit changed on held-out pictures.

    Example:
        >>> import torch
        >>> from captum_infomask import fit_critic
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        >>> critic = fit_critic(model, [torch.rand(8, 1, 8, 8) for _ in range(4)], steps=20)
        >>> critic(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 3])
    """

    def __init__(self, network: nn.Module, temperature: float, report: FitReport) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.report = report

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, M) of views (N, C, H, W)."""
        return self.network(inputs) / self.temperature  # type: ignore[no-any-return]

    def save(self, path: str | PathLike[str]) -> None:
        """Write weights and report to one safetensors file.

        Raises:
            ArgumentError: ``path`` cannot be written.
        """
        facts = {"temperature": self.temperature, "report": asdict(self.report)}
        write("path", check_output("path", path), _FORMAT, weights(self.network), facts)

    @classmethod
    def load(cls, path: str | PathLike[str], model: nn.Module) -> FittedCritic:
        """Read what ``save`` wrote into a copy of a network.

        Args:
            path: The file.
            model: The network that the critic was fitted from, or one built like it; unchanged.

        Raises:
            ArgumentError: The file is missing, damaged or of another kind, or does not fit.
        """
        network = copy_of(model)
        file = check_input("path", path)
        tensors, facts = read("path", file, _FORMAT)
        try:
            report = stored_report(facts["report"])
            temperature = finite_number("temperature", facts["temperature"], above=0)
        except (ValueError, TypeError, KeyError) as error:
            raise damaged("path", file, _FORMAT, f"{type(error).__name__}: {error}") from error
        fit_state_dict(network, tensors, file)
        return cls(network, temperature, report).eval()


def copy_of(model: object) -> nn.Module:
    """A copy of a network, out of autograd."""
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"Expected `model` to be a torch.nn.Module, whose weights can be copied and fitted; "
            f"got {describe(model)}. Wrap a function of a network in a Module that holds the "
            f"network."
        )
    check_initialised("model", model)
    check_no_script("model", model)
    copied: nn.Module = Isolation(own_weight).copy(model)
    return copied.requires_grad_(False)


def weights(network: nn.Module) -> dict[str, Tensor]:
    """A network's tensors by name."""
    return {
        name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)
    }
