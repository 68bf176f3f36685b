# What a run will do, all checked on a blank picture before the first real one.
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from captum_infomask._checks import ArgumentError, describe
from captum_infomask._files import check_folder
from captum_infomask.dataset_run.data.labels import label_classes
from captum_infomask.dataset_run.data.pictures import Pictures
from captum_infomask.dataset_run.errors import in_one_line
from captum_infomask.dataset_run.job import Job, ModelSource, model_hash
from captum_infomask.dataset_run.manifest import (
    check_same,
    new_manifest,
    read_manifest,
    write_manifest,
)
from captum_infomask.dataset_run.rows import one_picture
from captum_infomask.dataset_run.scoring import Scorer, stop_without_memory
from captum_infomask.dataset_run.settings import RunSettings
from captum_infomask.dataset_run.shards import (
    TEMPLATE,
    is_leftover,
    remove_leftovers,
    stops_without_space,
)
from captum_infomask.engines.chunks import WORTH_A_COPY, default_views
from captum_infomask.models.classifier import Classifier
from captum_infomask.results import InfoMap

_PICTURES = (8, 32, 256)  # of a batch: at least, at most, and at most where they are small
_LEAST_SHARD = 64  # pictures: more lose more when a worker is lost (docs/results/paper_scale.md)


def checked_folder(out: object) -> Path:
    """Return ``out`` as the folder of a run, or of one to be."""
    if not isinstance(out, str | os.PathLike) or not str(out):
        raise ArgumentError(f"Expected `out` to be a path; got {describe(out)}.")
    if "://" in str(out):
        raise ArgumentError(
            f"Expected `out` to be a folder of this machine or of a file system that is mounted, "
            f"where files can be renamed; got {out}."
        )
    with stops_without_space(Path(out)):
        folder = check_folder("out", out)  # absolute: workers may be elsewhere
    if folder.exists() and read_manifest(folder) is None:
        _check_new(folder)
    return folder


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run will do, and what it was planned with.

    Attributes:
        job: What to do.
        classifier: The network, loaded.
        manifest: The job's.
        template: A blank picture's InfoMap, which has the regions and settings of all others.
    """

    job: Job
    classifier: Classifier
    manifest: dict[str, Any]
    template: InfoMap


def plan_run(folder: Path, pictures: Pictures, source: ModelSource, asked: RunSettings) -> Plan:
    """Load the network once, score a blank picture, and settle what was left open.

    Args:
        folder: Of the results; nothing is written yet.
        pictures: The data set.
        source: The network.
        asked: The settings; what is open is taken from the run that goes on, or from the device.
    """
    classifier = source.load(asked.device)
    with _blamed("preprocessing"):
        blank = _blank(classifier, asked.device)
    asked = _with_engine(asked, blank)
    scorer = Scorer(classifier, asked)
    classes = None
    if pictures.labels is not None:
        classes = label_classes(
            pictures.labels,
            classifier.categories,
            folders=pictures.labels_are_folders,
            given=source.categories is not None,
        )
    target = 0 if asked.prior is None else int(torch.as_tensor(asked.prior).argmax())
    with _blamed("network"):
        _check_classes(scorer, blank, classifier)
        scored = scorer.infomap(blank, torch.tensor([target], device=blank.device))
    template = one_picture(scored, 0)
    settings = _settled(asked, blank, template, read_manifest(folder))
    job = Job(
        pictures=pictures,
        classes=classes,
        source=source,
        model_sha256=model_hash(classifier),
        settings=settings,
        shape=tuple(blank.shape[1:]),
        dtype=template.scores.dtype,
        folder=folder,
    )
    return Plan(job, classifier, new_manifest(job, classifier), template)


def begin(folder: Path, manifest: dict[str, Any], template: InfoMap) -> None:
    """Write what is to be there before the first shard; refuse to mix it with another run's."""
    before = read_manifest(folder)
    if before is not None:
        check_same(folder, before, manifest)
        manifest = {**manifest, "started": before["started"]}
    remove_leftovers(folder)
    with stops_without_space(folder):
        write_manifest(folder, manifest)
        template.save(folder / TEMPLATE)


def _check_new(folder: Path) -> None:
    """Refuse a folder that holds something else than a run."""
    others = [name for name in os.listdir(folder) if name != ".lock" and not is_leftover(name)]
    if others:
        raise ArgumentError(
            f"Expected `out` to be a new or empty folder, or that of a run; {folder} has no "
            f"manifest.json, and holds {min(others)!r}."
        )


@contextmanager
def _blamed(part: str) -> Iterator[None]:
    """What a part of the model raises for a blank picture is the argument's fault."""
    try:
        yield
    except ArgumentError:
        raise
    except Exception as error:
        stop_without_memory(error)
        raise ArgumentError(
            f"Expected the {part} of `model` to take a grey picture; it raised "
            f"{in_one_line(error)}."
        ) from error


def _blank(classifier: Classifier, device: str) -> Tensor:
    """A grey picture as the network takes it, (1, C, H, W)."""
    made = classifier.preprocess(Image.new("RGB", (640, 480), (128, 128, 128)))
    if not isinstance(made, Tensor) or made.dim() != 4 or len(made) != 1:
        raise ArgumentError(
            f"Expected the preprocessing of `model` to give a tensor (1, C, H, W); got "
            f"{describe(made)}."
        )
    return made.to(device, torch.float32)


def _with_engine(asked: RunSettings, blank: Tensor) -> RunSettings:
    """The settings with an engine."""
    if asked.options["engine"] is not None:
        return asked
    # On other devices `auto` chooses by the clock, which would not give the same bits twice.
    engine = "auto" if blank.device.type == "cpu" else "batched"
    return replace(asked, options={**asked.options, "engine": engine})


def _settled(
    asked: RunSettings, blank: Tensor, template: InfoMap, before: dict[str, Any] | None
) -> RunSettings:
    """The settings with sizes that suit the device, or those of the run that goes on."""
    known = {} if before is None else before["settings"]
    size = asked.batch_size or known.get("batch_size")
    if size is None:
        suited = _suited(blank, len(template.regions))
        size = min(suited, asked.shard_size or suited)
    shard = asked.shard_size or known.get("shard_size") or max(size, _LEAST_SHARD)
    options = dict(asked.options)
    if options.get("perturbations_per_eval") is None:
        views = max(1, default_views(blank.numel(), blank.device) // size)
        # The incremental engine has chunks of its own, for each picture's changes.
        suited_views = None if template.engine == "incremental" else views
        options["perturbations_per_eval"] = known.get("perturbations_per_eval", suited_views)
    return replace(asked, batch_size=size, shard_size=shard, options=options)


def _suited(blank: Tensor, regions: int) -> int:
    """Pictures of a batch: small ones come in larger batches, which are worth a faster network."""
    least, usual, most = _PICTURES
    size = least
    while 2 * size <= min(usual, default_views(blank.numel(), blank.device)):
        size *= 2
    while size < most and size * regions * blank.numel() < WORTH_A_COPY:
        size *= 2
    return size


def _check_classes(scorer: Scorer, blank: Tensor, classifier: Classifier) -> None:
    """The network must give as many numbers as there are categories."""
    found, count = scorer.outputs(blank).shape[1], len(classifier.categories)
    if found != count:
        raise ArgumentError(
            f"Expected `model` to have as many outputs as categories, {count}; it has {found}."
        )
