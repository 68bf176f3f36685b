# All that a worker needs, and the worker: shards of pictures → files of rows.
from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from captum_infomask._checks import ArgumentError
from captum_infomask.dataset_run.batches import Batch, read_batches
from captum_infomask.dataset_run.data.labels import label_error
from captum_infomask.dataset_run.data.pictures import Pictures
from captum_infomask.dataset_run.rows import Row, table_of
from captum_infomask.dataset_run.scoring import Scorer
from captum_infomask.dataset_run.settings import RunSettings, tensors_hash
from captum_infomask.dataset_run.shards import write_shard
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.loading import as_classifier


@dataclass(frozen=True, eq=False)
class ModelSource:
    """Where a network comes from, to be loaded wherever it is to run.

    Attributes:
        model: A name, ``module:function``, a Classifier or a module.
        weights: As ``load_classifier`` takes them, with a name.
        categories: Names of the categories, if given.
    """

    model: str | Classifier | nn.Module
    weights: str | Path | None = None
    categories: Sequence[str] | None = None

    def load(self, device: str) -> Classifier:
        """The classifier in eval mode on a device; what the user passed stays as it is."""
        devices = [device] if device.startswith("cuda") else []
        with torch.random.fork_rng(devices=devices):  # what makes a network draws its weights
            model = self.model if isinstance(self.model, str) else copy.deepcopy(self.model)
            classifier = as_classifier(model, self.weights, self.categories)
        return replace(classifier, network=classifier.network.to(device))


def model_hash(classifier: Classifier) -> str:
    """SHA-256 of a network's parameters and buffers."""
    return tensors_hash(classifier.network.state_dict())


@dataclass(frozen=True)
class ShardDone:
    """What is said of a shard that was written.

    Attributes:
        shard: Its number.
        pictures: How many it holds.
        errors: How many of them are bad.
        seconds: That it took.
        first_error: The key and the message of the first bad one; empty where there is none.
    """

    shard: int
    pictures: int
    errors: int
    seconds: float
    first_error: str = ""


@dataclass(frozen=True, eq=False)
class Job:
    """A run, in a form that can be sent to other processes.

    Attributes:
        pictures: The data set.
        classes: Each picture's target, None where the data give none that the network has; None
            for predictions.
        source: The network.
        model_sha256: What its hash must be.
        settings: What is asked of it.
        shape: (C, H, W) of what it takes.
        dtype: Of the scores.
        folder: Where shards are written.
    """

    pictures: Pictures
    classes: Sequence[int | None] | None
    source: ModelSource
    model_sha256: str
    settings: RunSettings
    shape: tuple[int, ...]
    dtype: torch.dtype
    folder: Path

    def shards(self) -> range:
        """The numbers of all shards."""
        return range(-(-len(self.pictures.keys) // self.settings.shard_size))

    def places(self, shard: int) -> range:
        """The places of a shard's pictures."""
        first = shard * self.settings.shard_size
        return range(first, min(first + self.settings.shard_size, len(self.pictures.keys)))

    def batches(self, shard: int) -> list[range]:
        """The places of the pictures of each batch of a shard."""
        places, size = self.places(shard), self.settings.batch_size
        return [places[k : k + size] for k in range(0, len(places), size)]

    def start(self) -> Worker:
        """Load the network, in another process than the one that planned."""
        classifier = self.source.load(self.settings.device)
        found = model_hash(classifier)
        if found != self.model_sha256:
            raise ArgumentError(
                f"Expected `model` to be the same wherever it is loaded; its hash is {found[:16]} "
                f"here and {self.model_sha256[:16]} where the run began."
            )
        return Worker(self, classifier)


class Worker:
    """A process that computes shards, one after another.

    Args:
        job: What to do.
        classifier: On the device of the job.
        decoders: Processes that read and decode pictures for this one; 0 for none.
    """

    def __init__(self, job: Job, classifier: Classifier, decoders: int = 0) -> None:
        self._job = job
        self._scorer = Scorer(classifier, job.settings)
        self._preprocess = classifier.preprocess
        self._categories = classifier.categories
        self._decoders = decoders

    def run(self, shard: int) -> ShardDone:
        """Compute and write one shard."""
        return next(self.run_all([shard]))

    def run_all(
        self, shards: Sequence[int], progress: Callable[[int], object] = lambda _: None
    ) -> Generator[ShardDone, None, None]:
        """Compute and write shards; pictures of the next are decoded meanwhile.

        Args:
            shards: Which.
            progress: Called with the number of pictures after each batch.
        """
        job = self._job
        places = [batch for shard in shards for batch in job.batches(shard)]
        # Closed, because an exception may hold on to this frame, and so to what decodes.
        with closing(
            read_batches(job.pictures, self._preprocess, job.shape, places, self._decoders)
        ) as batches:
            for shard in shards:
                start = time.perf_counter()
                rows: list[Row] = []
                for batch in islice(batches, len(job.batches(shard))):
                    rows += self._rows(batch)
                    progress(len(batch.decoded))
                yield self._write(shard, rows, start)

    def _write(self, shard: int, rows: list[Row], start: float) -> ShardDone:
        write_shard(self._job.folder, shard, table_of(rows, self._job.dtype))
        wrong = [row for row in rows if row.error]
        first = f"{wrong[0].key}: {wrong[0].error}" if wrong else ""
        return ShardDone(shard, len(rows), len(wrong), time.perf_counter() - start, first)

    def _rows(self, batch: Batch) -> list[Row]:
        """A batch's rows, in the order of its keys."""
        job = self._job
        rows: dict[int, Row] = {}
        for one in batch.decoded:
            error = one.error
            if not error and job.classes is not None and job.classes[one.index] is None:
                error = self._no_class(one.index)
            rows[one.index] = Row(job.pictures.keys[one.index], one.sha256, error)
        good = [slot for slot, one in enumerate(batch.decoded) if not rows[one.index].error]
        if good:
            places = [batch.decoded[slot].index for slot in good]
            targets = None if job.classes is None else [job.classes[k] for k in places]
            names = [(rows[k].key, rows[k].sha256) for k in places]
            scored = self._scorer.rows(batch.tensors[good], targets, names, good)  # type: ignore[arg-type]
            rows.update(zip(places, scored, strict=True))
        return list(rows.values())

    def _no_class(self, k: int) -> str:
        """Why a picture has no target."""
        labels = self._job.pictures.labels
        return label_error(None if labels is None else labels[k], self._categories)
