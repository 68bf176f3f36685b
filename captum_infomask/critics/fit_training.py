# The steps of a fit, its state, and its checkpoints.
from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask._files import damaged, part, read, write
from captum_infomask._messages import progress_bar, warn
from captum_infomask.critics.fit_loaders import LoaderPictures, LoaderPlace, seed_of
from captum_infomask.critics.fitted_critic import (
    FittedCritic,
    HeldOut,
    critic_log_posterior,
    divergence,
    weights,
)
from captum_infomask.critics.random_views import RandomViews
from captum_infomask.models.checkpoints import fit_state_dict

_FORMAT = "captum_infomask.fit_critic checkpoint 1"
_CHECKS = 10  # number of times that the held-out divergence is measured and the checkpoint written
_WARM_UP, _START = 0.3, 0.04  # share of the steps in which the rate rises, and its first share


@dataclass(frozen=True)
class FitSettings:
    """The settings of a fit, without the network and the pictures.

    Attributes:
        steps: The number of batches.
        learning_rate: The largest learning rate. The rate rises to it and falls to 0.
        seed: The seed of all draws.
        views: The views that are drawn.
        autocast: Run the copy in bfloat16.
    """

    steps: int
    learning_rate: float
    seed: int
    views: RandomViews
    autocast: bool

    def facts(self, network: FittedCritic) -> dict[str, Any]:
        """The settings and the network as JSON, to decide whether two fits are the same."""
        digest = hashlib.sha256()
        for name, tensor in weights(network.network).items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        views = {
            name: getattr(self.views, name) for name in ("kinds", "sizes", "strides", "crop_size")
        }
        facts = {
            **{name: value for name, value in asdict(self).items() if name != "views"},
            **views,
            "imputer": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(self.views.imputer)),
            "temperature": network.temperature,
            "model": digest.hexdigest()[:16],
        }
        return json.loads(json.dumps(facts))  # type: ignore[no-any-return]


class Training:
    """A running fit.

    Args:
        critic: The copy, changed in place.
        network: The original network; gives the posteriors of whole pictures.
        held_out: Measures the copy.
        settings: The settings of the fit.
        checkpoint: The file to which the state is written, and from which it is read if it exists.
    """

    def __init__(
        self,
        critic: FittedCritic,
        network: FittedCritic,
        held_out: HeldOut,
        settings: FitSettings,
        checkpoint: Path | None,
    ) -> None:
        self.critic, self.network = critic, network
        self.held_out, self.settings, self.checkpoint = held_out, settings, checkpoint
        self.optimiser = torch.optim.AdamW(critic.parameters(), settings.learning_rate)
        self.step, self.place, self.judged = 0, LoaderPlace(), 0
        self.first = self.last = self._judgement()
        self.best, self.best_step, self._best_weights = self.first, 0, _copied(critic)
        self._facts = settings.facts(network)
        # False while weights change. Such a state is never written.
        self._whole = True
        if checkpoint is not None and checkpoint.exists():
            self._restore(checkpoint)

    def run(self, pictures: LoaderPictures, *, show_progress: bool) -> None:
        """Take all remaining steps, and restore the critic's best state."""
        steps, diverged = self.settings.steps, ""
        stream = pictures.over_and_over(self.settings.seed, self.place)
        with progress_bar(
            total=steps, initial=self.step, desc="Fitting critic", show=show_progress
        ) as bar:
            try:
                while self.step < steps:
                    self._judge()
                    loss = self._advance(*next(stream))
                    if not math.isfinite(loss):
                        diverged = f"the loss of step {self.step + 1} is {loss}"
                        break
                    bar.set_postfix(KL=f"{loss / math.log(2):.3f} bits")
                    bar.update()
                self._judge()
            except BaseException:
                self._save()
                raise
            finally:
                stream.close()
        if not diverged and not self.last <= self.first:
            diverged = f"the held-out divergence is {self.last:.3f} bits after the last step"
        if diverged:
            warn(
                f"The fit diverged: {diverged}. The critic is kept as it was after step "
                f"{self.best_step} (held-out divergence {self.best:.3f} bits; {self.first:.3f} "
                f"before the fit). A smaller `learning_rate` may help.",
            )
        fit_state_dict(self.critic.network, self._best_weights, "memory")

    def _advance(self, place: LoaderPlace, images: Tensor) -> float:
        """Take one step on a batch, unless its loss is not finite; return the loss in nats."""
        settings = self.settings
        wanted = critic_log_posterior(self.network, images)
        generator = torch.Generator().manual_seed(seed_of(settings.seed, "views", self.step))
        plan = settings.views.plan(images, generator)
        self.optimiser.param_groups[0]["lr"] = _learning_rate(
            self.step, settings.steps, settings.learning_rate
        )
        with torch.autocast(images.device.type, torch.bfloat16, enabled=settings.autocast):
            loss = divergence(self.critic, plan, wanted) / len(images)
        if math.isfinite(value := float(loss.detach())):
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._whole = False
            self.optimiser.step()
            self.step, self.place = self.step + 1, LoaderPlace(place.epoch, place.batch + 1)
            self._whole = True
        return value

    def _judge(self) -> None:
        """Ten times during the fit: keep the critic if it is the best so far, and save."""
        steps = self.settings.steps
        passed = self.step * _CHECKS // steps
        if self.judged == self.step or passed == (self.step - 1) * _CHECKS // steps:
            return
        self.last = self._judgement()
        if self.last < self.best:
            best, weights_now = self.last, _copied(self.critic)
            self.best, self.best_step, self._best_weights = best, self.step, weights_now
        self.judged = self.step
        self._save()

    def _judgement(self) -> float:
        """The mean held-out divergence over the rows, in bits."""
        return float(self.held_out.divergences(self.critic, all_pictures=False).mean())

    def _save(self) -> None:
        if self.checkpoint is None or not self._whole:
            return
        state = self.optimiser.state_dict()["state"]
        tensors = {
            **{f"critic.{name}": value for name, value in weights(self.critic.network).items()},
            **{f"best.{name}": value for name, value in self._best_weights.items()},
            **{
                f"optimiser.{number}.{name}": value
                for number, values in state.items()
                for name, value in values.items()
            },
        }
        progress = {
            "step": self.step,
            "place": asdict(self.place),
            "judged": self.judged,
            "last": self.last,
            "best": self.best,
            "best_step": self.best_step,
        }
        write(
            "checkpoint",
            self.checkpoint,
            _FORMAT,
            tensors,
            {"settings": self._facts, "progress": progress},
        )

    def _restore(self, path: Path) -> None:
        tensors, facts = read("checkpoint", path, _FORMAT)
        settings = facts.get("settings")
        stored = settings if isinstance(settings, dict) else {}
        differing = [
            f"{name} {stored.get(name)!r} instead of {value!r}"
            for name, value in self._facts.items()
            if stored.get(name) != value
        ]
        if differing:
            raise ArgumentError(
                f"Expected `checkpoint` of a fit with the same settings; {path} has "
                f"{'; '.join(differing)}. Delete it, or pass another path, to begin anew."
            )
        fit_state_dict(self.critic.network, part(tensors, "best."), path)
        self._best_weights = _copied(self.critic)
        fit_state_dict(self.critic.network, part(tensors, "critic."), path)
        try:
            self._restore_optimiser(part(tensors, "optimiser."))
            progress = facts["progress"]
            self.place = LoaderPlace(**{name: int(at) for name, at in progress["place"].items()})
            self.step, self.judged, self.best_step = (
                int(progress[name]) for name in ("step", "judged", "best_step")
            )
            self.last, self.best = float(progress["last"]), float(progress["best"])
            if not 0 <= max(self.best_step, self.judged) <= self.step <= self.settings.steps:
                raise ValueError(f"it is at step {self.step}")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise damaged("checkpoint", path, _FORMAT, what) from error

    def _restore_optimiser(self, tensors: dict[str, Tensor]) -> None:
        """Set AdamW's means, a few per parameter."""
        parameters = self.optimiser.param_groups[0]["params"]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            number, key = name.split(".")
            if value.dim() and value.shape != parameters[int(number)].shape:
                raise ValueError(f"{name} is of shape {tuple(value.shape)}")
            state.setdefault(int(number), {})[key] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})


def _copied(critic: FittedCritic) -> dict[str, Tensor]:
    """A copy of the present weights."""
    return {name: value.detach().clone() for name, value in weights(critic.network).items()}


def _learning_rate(step: int, steps: int, largest: float) -> float:
    """Up and down along cosines: one cycle (Smith & Topin, arXiv 1708.07120)."""
    share = step / steps
    if share < _WARM_UP:
        rise = (1 - math.cos(math.pi * share / _WARM_UP)) / 2
        return largest * (_START + (1 - _START) * rise)
    return largest * (1 + math.cos(math.pi * (share - _WARM_UP) / (1 - _WARM_UP))) / 2
