# Plans a run, and checks everything on our own test pictures before the first real picture.
from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_infomask._checks import describe, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._files import check_folder
from captum_infomask._messages import unsaid, warn
from captum_infomask.dataset_run.data.data_pictures import DataPictures
from captum_infomask.dataset_run.data.reading import in_one_line
from captum_infomask.dataset_run.job import Job, ModelSource, model_hash
from captum_infomask.dataset_run.listing import Label, Listing, Ordered, groups_of, label_classes
from captum_infomask.dataset_run.manifest import (
    check_same,
    new_manifest,
    now,
    read_manifest,
    write_manifest,
)
from captum_infomask.dataset_run.result_rows import one_picture, without_numbers
from captum_infomask.dataset_run.run_settings import RunSettings
from captum_infomask.dataset_run.scoring import Probe, Scorer, stop_without_memory
from captum_infomask.dataset_run.shards import (
    TEMPLATE,
    DamagedError,
    is_leftover,
    remove_leftovers,
    shards_done,
    stops_without_space,
)
from captum_infomask.engines.evidence_passes import SHORT
from captum_infomask.engines.memory import WORTH_A_COPY, default_views
from captum_infomask.masks import MaxFraction, Rule
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.huggingface_models import to_be_read_by
from captum_infomask.regions.windows import sliding_windows
from captum_infomask.results import InfoMap
from captum_infomask.results.map_pictures import suited_rule
from captum_infomask.scores.targets import group_names

_MANY_VIEWS = 5000  # views of a picture; the default has 49
_PICTURES = (8, 32, 256)  # pictures of a batch: at least, at most, and at most if they are small
_KEPT = ("run", "started", "ended", "contents_verified")  # entries that a continued run keeps
_LEAST_SHARD = 64  # pictures; larger ones lose more (docs/results/paper_scale.md)


def checked_folder(out: object) -> Path:
    """Return ``out`` as the folder of a run, which need not exist yet."""
    if not isinstance(out, str | os.PathLike) or not str(out):
        raise ArgumentError(f"Expected `out` to be a path; got {describe(out)}.")
    if "://" in str(out):
        raise ArgumentError(
            f"Expected `out` to be a folder of this machine or of a file system that is mounted, "
            f"where files can be renamed; got {out}."
        )
    with stops_without_space(Path(out)):
        folder = check_folder("out", out)  # absolute, because workers may run elsewhere
    if folder.exists() and read_manifest(folder) is None:
        _check_new(folder)
    return folder


@dataclass(frozen=True, eq=False)
class Plan:
    """The plan of a run.

    Attributes:
        job: The job.
        classifier: The network, loaded.
        listing: The list of the job's pictures.
        manifest: The job's manifest.
        template: An InfoMap, which has the regions and settings of all others.
        ended: The number of pictures of the continued run when it ended; 0 if it has not ended.
    """

    job: Job
    classifier: Classifier
    listing: Listing
    manifest: dict[str, Any]
    template: InfoMap
    ended: int


def plan_run(
    folder: Path, pictures: DataPictures, source: ModelSource, asked: RunSettings, *, extend: bool
) -> Plan:
    """Load the network once, score a test picture, and choose the settings that were left open.

    Args:
        folder: The folder of the results; nothing is written yet.
        pictures: The data set.
        source: The network.
        asked: The settings. Open settings are taken from the continued run, or chosen for the
            device.
        extend: Whether the continued run may get more pictures.

    Raises:
        ArgumentError: An argument is wrong, or differs from the existing run.
    """
    before = read_manifest(folder)
    with to_be_read_by(asked.score.head):
        classifier = source.load(asked.device)
    with _blamed("preprocessing"):
        inputs = source.test_inputs(classifier, asked.device)
    _tell_of_many_views(inputs[0], asked.options)
    asked = asked.numbered(group_names(classifier.categories, asked.score.groups))
    scorer = Scorer(classifier, asked)
    classes = None
    if pictures.labels is not None:
        if not pictures.labels_are_folders:  # which may hold some of the classes alone
            _check_class_names(pictures.class_names, classifier)
        classes = label_classes(
            pictures.labels,
            classifier.categories,
            folders=pictures.labels_are_folders,
            given=source.categories is not None,
        )
        _check_labels(asked.target, pictures.labels, classes, classifier.categories)
        classes = groups_of(classes, asked.score.groups)
    with _blamed("network"), unsaid(SHORT):
        outputs = [scorer.outputs(shown) for shown in inputs]
        _check_classes(outputs[0], classifier)
        scorer.check_groups(outputs[0])
        target = torch.tensor([scorer.some_target()], device=asked.device)
        asked = _with_view(asked, classifier, inputs[0], target)
        asked.check_rule()
        scored = Scorer(classifier, asked).infomap(inputs[0], target)
    template = without_numbers(one_picture(scored, 0))
    settings = _settled(asked, inputs[0], template, before)
    shape = tuple(inputs[0].shape[1:])
    model_sha256, probe = model_hash(classifier), Probe.made(outputs, scored)
    manifest = new_manifest(
        pictures.skipped,
        settings,
        classifier,
        shape=shape,
        form=source.form,
        model_sha256=model_sha256,
        probe=probe,
        template=template,
    )
    listing, order = Listing.of(pictures, classes), list(range(len(pictures.keys)))
    ended = 0
    if before is not None:
        check_same(folder, before, manifest)
        manifest = {**manifest, **{name: before[name] for name in _KEPT}}
        ended = before["pictures"] if before["ended"] else 0
        listing, order = _gone_on_with(folder, before["run"], listing, extend=extend)
    job = Job(
        run=manifest["run"],
        pictures=Ordered.of(pictures, order),
        classes=listing.classes or None,
        shards=listing.shards(settings.shard_size),
        source=source,
        model_sha256=model_sha256,
        probe=probe,
        settings=settings,
        shape=shape,
        dtype=template.scores.dtype,
        folder=folder,
    )
    manifest["pictures"] = len(listing.keys)
    return Plan(job, classifier, listing, manifest, template, ended)


def begin(folder: Path, plan: Plan) -> None:
    """Write the files that must exist before the first shard.

    If there is no manifest, it is written first, because a folder with a manifest belongs to a run.
    If there is one, it is written last, so the old run stays valid until then.
    """
    remove_leftovers(folder, notes=False)
    steps: list[Callable[[], object]] = [
        lambda: write_manifest(folder, plan.manifest),
        lambda: plan.listing.save(folder, plan.job.run),
        lambda: plan.template.save(folder / TEMPLATE),
    ]
    with stops_without_space(folder):
        for step in steps if read_manifest(folder) is None else reversed(steps):
            step()


def end(folder: Path, plan: Plan) -> None:
    """Write that the run has ended, and remove leftovers of lost workers."""
    with stops_without_space(folder):
        write_manifest(folder, {**plan.manifest, "ended": plan.manifest["ended"] or now()})
    remove_leftovers(folder)


def _gone_on_with(
    folder: Path, run: str, listing: Listing, *, extend: bool
) -> tuple[Listing, list[int]]:
    """The pictures of the continued run, and the place of each in the data."""
    try:
        before = Listing.load(folder, run)
    except DamagedError as error:
        # The list is missing or damaged. Shards with other pictures are computed again.
        if shards_done(folder):
            warn(f"Made again from `data`, in {folder}: {error}.")
        return listing, list(range(len(listing.keys)))
    return before.going_on(listing, folder, extend=extend)


def _check_new(folder: Path) -> None:
    """Refuse a folder that holds anything but a run."""
    others = [name for name in os.listdir(folder) if name != ".lock" and not is_leftover(name)]
    if shards_done(folder):
        raise ArgumentError(
            f"Expected `out` to be a new or empty folder, or that of a run; {folder} holds a run's "
            f"results and no manifest.json, without which it cannot go on. Put it back, or begin a "
            f"new `out`."
        )
    if others:
        raise ArgumentError(
            f"Expected `out` to be a new or empty folder, or that of a run; {folder} has no "
            f"manifest.json, and holds {min(others)!r}."
        )


def _tell_of_many_views(shown: Tensor, options: Mapping[str, Any]) -> None:
    """Warn if windows overlap so much that a run takes many times longer than needed."""
    windows, strides = options["sliding_window_shapes"], options["strides"]
    if windows is None:
        return
    count = len(sliding_windows(shown, windows, strides))
    if count > _MANY_VIEWS:
        window = windows[0] if isinstance(windows[0], tuple) else windows
        half = tuple(max(1, side // 2) for side in window)
        fewer = len(sliding_windows(shown, window, half))
        given = "1 (Captum's, where none are given)" if strides is None else short_repr(strides)
        warn(
            f"Each picture is shown in {count:,} views: `sliding_window_shapes` {window} with "
            f"`strides` {given}. strides={half}, half a window, are {fewer:,}."
        )


def _check_labels(
    target: str,
    labels: Sequence[Label],
    classes: Sequence[int | None],
    categories: Sequence[str],
) -> None:
    """Refuse a run that would have only bad rows, because no label names a class."""
    if all(index is None for index in classes):
        first = next((label for label in labels if label is not None), None)
        raise ArgumentError(
            f"Expected `target` {target!r} to say the class of some picture; of {len(labels)} "
            f"labels none is a category's name or an index from 0 to {len(categories) - 1}: the "
            f"first is {short_repr(first)}. Pass `categories`, the labels' names in the order of "
            f"the network's outputs (a file for --categories), or the target 'prediction'."
        )


def _check_class_names(names: Sequence[str] | None, classifier: Classifier) -> None:
    """Refuse labels that number other classes than the network's."""
    count = len(classifier.categories)
    if names is not None and len(names) != count:
        raise ArgumentError(
            f"Expected the labels of `data` to number the {count} classes of {classifier.name}; "
            f"its `classes` are {len(names)}, {short_repr(names[0])} first. Yield labels that are "
            f"indices of the network's outputs, or names in `categories`; or take the target "
            f"'prediction'."
        )


@contextmanager
def _blamed(part: str) -> Iterator[None]:
    """Turn errors of a part of the model on our test pictures into argument errors."""
    try:
        yield
    except ArgumentError:
        raise
    except Exception as error:
        stop_without_memory(error)
        raise ArgumentError(
            f"Expected the {part} of `model` to take a picture; for one of ours it raised "
            f"{in_one_line(error)}."
        ) from error


def _with_view(
    asked: RunSettings, classifier: Classifier, shown: Tensor, target: Tensor
) -> RunSettings:
    """The settings with the default view for this network, the same for all pictures."""
    if asked.options["view"] is not None:
        return asked
    found = Scorer(classifier, asked).infomap(shown, target)
    sharpen = asked.options["sharpen"] if found.superpixels is None else "superpixels"
    return replace(asked, options={**asked.options, "view": found.view, "sharpen": sharpen})


def _settled(
    asked: RunSettings, shown: Tensor, template: InfoMap, before: dict[str, Any] | None
) -> RunSettings:
    """The settings with sizes that suit the device, or with those of the continued run."""
    known = {} if before is None else before["settings"]
    size = asked.batch_size or known.get("batch_size")
    if size is None:
        suited = _suited(shown, len(template.regions))
        size = min(suited, asked.shard_size or suited)
    shard = asked.shard_size or known.get("shard_size") or max(size, _LEAST_SHARD)
    options = dict(asked.options)
    if options.get("perturbations_per_eval") is None:
        views = max(1, default_views(shown.numel(), shown.device) // size)
        # The incremental engine has its own chunks for each picture's changes.
        suited_views = None if template.engine == "incremental" else views
        options["perturbations_per_eval"] = known.get("perturbations_per_eval", suited_views)
    rule = asked.rule or _defaults().get(known.get("rule"), suited_rule(template.regions))
    return replace(asked, batch_size=size, shard_size=shard, rule=rule, options=options)


def _defaults() -> dict[str | None, Rule]:
    """The default rules of runs, by their names in manifests."""
    return {str(rule): rule for rule in (MaxFraction(0.2), MaxFraction(0.5))}


def _suited(shown: Tensor, regions: int) -> int:
    """The number of pictures of a batch; small pictures get larger batches, which are faster."""
    least, usual, most = _PICTURES
    size = least
    while 2 * size <= min(usual, default_views(shown.numel(), shown.device)):
        size *= 2
    while size < most and size * regions * shown.numel() < WORTH_A_COPY:
        size *= 2
    return size


def _check_classes(outputs: Tensor, classifier: Classifier) -> None:
    """Refuse a network whose outputs and categories differ in number."""
    found, count = outputs.shape[1], len(classifier.categories)
    if found != count:
        raise ArgumentError(
            f"Expected `model` to have as many outputs as categories, {count}; it has {found}."
        )
