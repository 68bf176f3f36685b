# FittedCritic, a copy of a network fitted to views, and its report on held-out pictures.
from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask._checks import (
    check_callable,
    check_initialised,
    describe,
    finite_number,
    positive_int,
)
from captum_infomask._errors import ArgumentError
from captum_infomask._files import check_input, check_output_file, damaged, read, write
from captum_infomask._outputs import read_logits
from captum_infomask.critics.fit_loaders import LoaderPictures, seed_of
from captum_infomask.critics.random_views import RandomViews
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.isolation import Isolation, check_no_script, own_weight
from captum_infomask.models.checkpoints import fit_state_dict
from captum_infomask.views.view_plan import ViewPlan

_PICTURES, _CHUNK = 512, 64  # the most held-out pictures, and pictures at a time
_FORMAT = "captum_infomask.FittedCritic 1"


@dataclass(frozen=True)
class FitRow:
    """The held-out divergence of one kind of view.

    Attributes:
        view: ``windows``, ``patches``, ``rest``, ``crops``, ``whole`` (the whole picture) or
            ``blank`` (all imputed).
        size: (height, width) of the windows or patches, in pixels; None if there are none.
        before: Mean KL(p(y | x) ‖ q(y | view)) of the network itself, in bits.
        after: The same for the fitted critic.
        views: The number of views in the means.
    """

    view: str
    size: tuple[int, int] | None
    before: float
    after: float
    views: int


@dataclass(frozen=True)
class FitReport:
    """The result of a fit on held-out pictures; ``print`` shows it as a table.

    Attributes:
        rows: One per kind and size of view.
        steps: The number of steps.
        best_step: The step after which the kept state was taken; 0 is the network itself.

    Example:
        >>> from captum_infomask.critics.fitted_critic import FitReport, FitRow
        >>> print(FitReport((FitRow("windows", (7, 7), 3.2, 0.6, 512),), 1000, 900))
        view     size     KL before  KL after  views
        windows  7 × 7         3.20      0.60    512
        KL to the whole picture's posterior in bits; step 900 of 1000 is kept.
    """

    rows: tuple[FitRow, ...]
    steps: int
    best_step: int

    def __str__(self) -> str:
        """The rows as a table."""
        lines = [f"{'view':<9}{'size':<9}{'KL before':>9}{'KL after':>10}{'views':>7}"]
        for row in self.rows:
            size = "" if row.size is None else f"{row.size[0]} × {row.size[1]}"
            lines.append(
                f"{row.view:<9}{size:<9}{row.before:>9.2f}{row.after:>10.2f}{row.views:>7}"
            )
        kept = f"step {self.best_step} of {self.steps} is kept"
        return "\n".join([*lines, f"KL to the whole picture's posterior in bits; {kept}."])


def stored_report(stored: Any) -> FitReport:
    """Restore a report from the JSON of its ``asdict``.

    Raises:
        ValueError, TypeError, KeyError: The JSON is not such a report.
    """
    rows = tuple(_stored_row(**row) for row in stored["rows"])
    counts = stored["steps"], stored["best_step"], *(row.views for row in rows)
    if not all(isinstance(count, int) and not isinstance(count, bool) for count in counts):
        raise ValueError(f"its report counts {counts[0]!r} steps")
    return FitReport(rows, stored["steps"], stored["best_step"])


def _stored_row(view: str, size: Any, before: float, after: float, views: int) -> FitRow:
    if size is not None:
        height, width = size
        size = positive_int("size", height), positive_int("size", width)
    if not isinstance(view, str) or not isinstance(before, float) or not isinstance(after, float):
        raise ValueError(f"its report has a row of {view!r}")
    return FitRow(view, size, before, after, views)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out pictures and the network's answers for the whole pictures.

    Attributes:
        images: (n, C, H, W).
        log_posterior: log p(y | x), (n, M).
        views: The views that are drawn.
        seed: The seed of the draws; the same views for every critic.
    """

    images: Tensor
    log_posterior: Tensor
    views: RandomViews
    seed: int

    @torch.no_grad()
    def divergences(self, critic: nn.Module, *, all_pictures: bool) -> Tensor:
        """Mean KL of each row of the views, in bits, on all pictures or on the first few."""
        chunks = torch.arange(len(self.images)).split(_CHUNK)
        chunks = chunks if all_pictures else chunks[:1]
        sums = [
            sum(self._divergence(critic, number, chunk) for chunk in chunks)
            for number in range(len(self.views.rows()))
        ]
        return torch.tensor(sums) / sum(map(len, chunks))

    def _divergence(self, critic: nn.Module, number: int, chunk: Tensor) -> float:
        """The sum over a chunk's views of one row."""
        seed = seed_of(self.seed, "held out", number, int(chunk[0]))
        row = self.views.rows()[number]
        plan = self.views.plan_row(self.images[chunk], row, torch.Generator().manual_seed(seed))
        try:
            return float(divergence(critic, plan, self.log_posterior[chunk])) / math.log(2)
        except (RuntimeError, ValueError) as error:
            raise ArgumentError(
                f"Expected `model` to take every view; shown {row[0]} of size {row[1]} it raised "
                f"{type(error).__name__}: {error} Pass other `window_shapes`, `crop_size` or "
                f"`views`."
            ) from error


def divergence(critic: nn.Module, plan: ViewPlan, critic_log_posterior: Tensor) -> Tensor:
    r"""Sum over a plan's views of :math:`\mathrm{KL}(p(y \mid x) \| q(y \mid v))`, in nats."""
    total = critic_log_posterior.new_zeros(())
    plain = Batched(folded=False)  # the critic itself may be training
    for rows, output in plain.start(Call(critic, perturbations_per_eval=1)).run(plan):
        shown = output.to(critic_log_posterior.dtype).log_softmax(1)
        wanted = critic_log_posterior[rows.to(critic_log_posterior.device)]
        total = total + (wanted.exp() * (wanted - shown)).sum()
    return total


def first_pictures(pictures: LoaderPictures) -> Tensor:
    """The held-out pictures, at most 512: (n, C, H, W)."""
    kept: list[Tensor] = []
    for images in pictures.once():
        kept.append(images[: _PICTURES - sum(map(len, kept))])
        if sum(map(len, kept)) == _PICTURES:
            break
    return torch.cat(kept)


def hold_out(images: Tensor, network: nn.Module, views: RandomViews, seed: int) -> HeldOut:
    """Held-out pictures with the network's answer for each."""
    posteriors = [critic_log_posterior(network, chunk) for chunk in images.split(_CHUNK)]
    return HeldOut(images, torch.cat(posteriors), views, seed)


@torch.no_grad()
def critic_log_posterior(network: nn.Module, images: Tensor) -> Tensor:
    """The log posterior log p(y | x) of whole pictures, (n, M), in float32 at least."""
    output = read_logits(network(images), "model")
    if (
        output.dim() != 2
        or len(output) != len(images)
        or (output.shape[1] < 2 or not output.dtype.is_floating_point)
    ):
        raise ArgumentError(
            f"Expected `model` to return logits (N, M) of M ≥ 2 classes, N = {len(images)}; got "
            f"{tuple(output.shape)}."
        )
    if not bool(output.isfinite().all()):
        raise ArgumentError(
            "Expected `model` to return finite logits for finite pictures; got NaN or infinity."
        )
    wide = output if output.dtype == torch.float64 else output.float()
    return wide.log_softmax(1)


class FittedCritic(nn.Module):
    r"""A copy of a network, fitted to views by :func:`fit_critic`.

    .. math::

        \mathrm{softmax}(\text{critic}(v))_y \approx \mathbb{E}[p_\theta(y \mid x) \mid v]

    for a view v of a picture x. ``InfoMask(critic)``, with the default ``head`` and
    ``temperature``, reads i(y; v) for views on which the network itself was never trained.

    Attributes:
        network: The fitted copy.
        temperature: The divisor of the network's outputs.
        report: The result of the fit on held-out pictures.

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
        return read_logits(self.network(inputs)) / self.temperature

    def save(self, path: str | PathLike[str]) -> None:
        """Write weights and report to one safetensors file.

        Raises:
            ArgumentError: ``path`` cannot be written.
        """
        facts = {"temperature": self.temperature, "report": asdict(self.report)}
        write("path", check_output_file("path", path), _FORMAT, weights(self.network), facts)

    @classmethod
    def load(cls, path: str | PathLike[str], model: nn.Module) -> FittedCritic:
        """Load a file that ``save`` wrote into a copy of a network.

        Args:
            path: The file.
            model: The network from which the critic was fitted, or one with the same architecture.
                It is not changed.

        Raises:
            ArgumentError: The file is missing, is damaged, has another kind, or does not fit.
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
    """A copy of a network, detached from autograd."""
    check_callable("model", model)
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
