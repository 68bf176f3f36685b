# fit_critic: a copy of a network learns the information of views about the network's answer.
from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any, SupportsFloat

import torch
from torch import Tensor, nn

from captum_infomask._checks import boolean, finite_number, positive_int, random_seed
from captum_infomask._errors import ArgumentError
from captum_infomask._files import check_output_file
from captum_infomask._outputs import read_logits
from captum_infomask._random import OwnGenerators
from captum_infomask._types import Baselines
from captum_infomask.critics.fit_loaders import LoaderPictures, fit_and_held_out
from captum_infomask.critics.fit_training import FitSettings, Training
from captum_infomask.critics.fitted_critic import (
    FitReport,
    FitRow,
    FittedCritic,
    copy_of,
    first_pictures,
    hold_out,
)
from captum_infomask.critics.random_views import (
    VIEWS,
    RandomViews,
    check_kinds,
    check_strides,
    check_window_shapes,
    sizes_for,
)
from captum_infomask.engines.feature_maps import about_a_place
from captum_infomask.imputers.choose_imputer import ImputerName, choose_imputer
from captum_infomask.imputers.imputer_protocol import Imputer
from captum_infomask.scores.heads import Doubt
from captum_infomask.scores.score import Score
from captum_infomask.scores.targets import Named, network_of
from captum_infomask.views.choose_view import CropSize, check_crop_size
from captum_infomask.views.region_views import check_sides


def fit_critic(
    model: nn.Module | Named,
    loader: Iterable[Any],
    *,
    held_out: Iterable[Any] | None = None,
    views: Sequence[str] = VIEWS,
    window_shapes: Sequence[int | tuple[int, int]] | None = None,
    strides: int | tuple[int, int] = 1,
    crop_size: CropSize = None,
    imputer: Imputer | ImputerName | None = None,
    baselines: Baselines = None,
    temperature: SupportsFloat = 1.0,
    steps: int = 1000,
    learning_rate: float = 3e-3,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    autocast: bool = False,
    show_progress: bool = False,
) -> FittedCritic:
    r"""Fit a copy of a network to random views, so that small patches can be scored.

    A network has seldom seen a lone patch on an empty canvas, so its answer for one is a guess. The
    copy q sees a view v of a picture x, and is fitted to the answer of the network p for the whole
    picture:

    .. math::

        \min_q \mathbb{E}_{x, v} \, \mathrm{KL}(p_\theta(y \mid x) \,\|\, q(y \mid v)),
        \qquad q^*(y \mid v) = \mathbb{E}[p_\theta(y \mid x) \mid v].

    The minimum of the divergence is not 0: it is the information about y that the view lacks. The
    copy is fitted in evaluation mode, with batch statistics and dropout as in use. So the answer
    for a view does not depend on other views of the batch.

    Args:
        model: A network from images (N, C, H, W) to logits (N, M), trained by cross-entropy, or its
            ``Classifier``. It is not changed.
        loader: Yields images (N, C, H, W), floating-point, or (images, labels), whose labels are
            not used. A batch is one step. The loader is read again and again. If its order comes
            from PyTorch's global generator, the order depends on ``seed``.
        held_out: A loader for the pictures of the report; the first 512 count. If None, a tenth of
            ``loader`` is held out, which must be a DataLoader or a list of batches.
        views: The kinds of views, drawn in equal shares: ``windows`` (a window in place, all else
            imputed, as in ``keep``), ``patches`` (a random set of patches, of a density uniform in
            [0, 1], as in ``chain``), ``rest`` (a window imputed, as in ``drop``), ``crops`` (a
            window cut out, as in ``crop``).
        window_shapes: The sides, or (height, width), of windows and patches in pixels; 1/8, 1/4,
            3/8, 1/2 and 3/4 of the pictures' shorter side if None.
        strides: Steps between the places of windows and patches, down and across, in pixels. If
            your attributions use windows on a grid, use the same grid here: fewer different views
            need fewer steps.
        crop_size: The size of crops, as in ``attribute``: (height, width), ``native``, or None for
            the pictures' own size.
        imputer: Replaces hidden pixels. Use the imputer of your attributions.
        baselines: Hidden pixels' value, instead of ``imputer``; 0 if None.
        temperature: τ, by which the network's logits are divided. The critic itself divides by it.
        steps: The number of batches.
        learning_rate: The largest learning rate of AdamW. The rate rises to it and falls to 0 along
            cosines.
        seed: The seed of the split and of all draws.
        checkpoint: A file for the state of the fit, written ten times and on an interrupt. If it
            exists, the fit continues from it and ends as if it had not been interrupted.
        autocast: Run the copy in bfloat16 for the operations of PyTorch's autocast.
        show_progress: Show a progress bar with the loss on stderr.

    Returns:
        The critic, in evaluation mode, with a ``report`` of the held-out divergence for every kind
        and size of view. It is the state with the smallest divergence, among ten states of the fit
        and the unfitted one.

    Raises:
        ArgumentError: An argument is wrong, a loader is empty or yields something else, no batch is
            finite, or ``checkpoint`` belongs to another fit.

    Warns:
        UserWarning: The fit diverged, or a batch holds NaN or infinity and is left out.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask
        >>> from captum_infomask import fit_critic
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        >>> batches = [torch.rand(16, 1, 8, 8) for _ in range(4)]
        >>> critic = fit_critic(model, batches, window_shapes=[2, 4], steps=20)
        >>> bits = InfoMask(critic).attribute(batches[0], target=1, view="keep",
        ...                                   sliding_window_shapes=(1, 2, 2), strides=2)
        >>> bits.shape
        torch.Size([16, 1, 8, 8])

    Source: the surrogate of Frye et al., arXiv 2006.01272, and Jethani et al., arXiv 2107.07436,
    who use it for explanations. Here its posterior is read as information.
    """
    network = copy_of(network_of(model))
    parameter = next(network.parameters(), None)
    if parameter is None:
        raise ArgumentError("Expected `model` to have weights to fit; it has none.")
    kinds, shapes = check_kinds(views), check_window_shapes(window_shapes)
    if "crops" in kinds and about_a_place(network):
        raise ArgumentError(
            f"Expected `views` that leave every part of the picture in its place, for an answer "
            f"about one place; got {kinds}. Leave out 'crops'."
        )
    steps_apart = check_strides(strides)
    size, chosen = check_crop_size(crop_size), choose_imputer(baselines, imputer)
    check_sides(size, places=2)
    divisor = Score(temperature=temperature).temperature
    steps, seed = positive_int("steps", steps), random_seed(seed)
    learning_rate = finite_number("learning_rate", learning_rate, above=0)
    autocast, show_progress = boolean("autocast", autocast), boolean("show_progress", show_progress)
    path = None if checkpoint is None else check_output_file("checkpoint", checkpoint)
    fit_to, judged_on = fit_and_held_out(loader, held_out, seed)

    unfitted = FitReport((), steps, 0)
    original = FittedCritic(network, divisor, unfitted).eval()
    critic = FittedCritic(copy_of(network_of(model)), divisor, unfitted).eval().requires_grad_(True)
    device = parameter.device
    generators = OwnGenerators(seed)
    with generators, torch.inference_mode(False), torch.enable_grad():
        name = "loader" if held_out is None else "held_out"
        images = first_pictures(LoaderPictures(judged_on, name, device, generators))
        shape = tuple(images.shape[1:])
        drawn = RandomViews(kinds, sizes_for(shape, shapes), size, chosen, steps_apart)
        _doubt(network, images)
        held = hold_out(images, original, drawn, seed)
        before = held.divergences(original, all_pictures=True)
        settings = FitSettings(steps, learning_rate, seed, drawn, autocast)
        training = Training(critic, original, held, settings, path)
        pictures = LoaderPictures(fit_to, "loader", device, generators, shape)
        training.run(pictures, show_progress=show_progress)
        after = held.divergences(critic, all_pictures=True)
    pairs = zip(drawn.rows(), before.tolist(), after.tolist(), strict=True)
    rows = tuple(FitRow(*row, start, end, len(images)) for row, start, end in pairs)
    critic.report = FitReport(rows, steps, training.best_step)
    critic.requires_grad_(False).zero_grad(set_to_none=True)
    return critic


def _doubt(network: nn.Module, images: Tensor) -> None:
    """Warn if a network ends in a softmax, because the fit takes logits."""
    doubt = Doubt("logits")
    with torch.no_grad():
        output = read_logits(network.eval()(images[:2]), "model")
    doubt.see(output)
    doubt.say("Fit a network that returns logits, or their logarithms.")
