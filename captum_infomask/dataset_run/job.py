# A job, with everything that a worker needs; and the worker, which turns shards into files.
from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask._errors import ArgumentError
from captum_infomask.dataset_run.batches import Batch, Wanted, read_batches
from captum_infomask.dataset_run.data.data_pictures import DataPictures
from captum_infomask.dataset_run.data.own_input import PictureForm
from captum_infomask.dataset_run.in_flight import ends_process, in_network
from captum_infomask.dataset_run.listing import label_error
from captum_infomask.dataset_run.result_rows import Row, table_of, with_rows
from captum_infomask.dataset_run.run_settings import RunSettings, tensors_hash
from captum_infomask.dataset_run.scoring import Probe, Scorer, probe_inputs
from captum_infomask.dataset_run.shards import read_shard, write_shard
from captum_infomask.engines.isolation import Isolation, own_weight
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.huggingface_models import names_its_labels, to_be_read_by
from captum_infomask.models.loading import as_classifier

_DEATHS = 2  # ended processes of a batch in the network; fewer may be an accident


@dataclass(frozen=True, eq=False)
class ModelSource:
    """The source of a network; any process can load the network from it.

    Attributes:
        model: A name, ``module:function``, a Classifier or a module.
        weights: The weights for ``load_classifier``, if the model is a name.
        categories: Names of the categories, if given.
        preprocess: Replaces the model's own preprocessing, if given.
        form: The form of our own test pictures.
        class_names: The data set's names of the classes, which a module takes for its outputs if
            their number is the same.
    """

    model: str | Classifier | nn.Module
    weights: str | Path | None = None
    categories: Sequence[str] | None = None
    preprocess: Any = None
    form: PictureForm = field(default_factory=PictureForm)
    class_names: Sequence[str] | None = None

    def test_inputs(self, classifier: Classifier, device: str) -> list[Tensor]:
        """The classifier's inputs of our own test pictures."""
        return probe_inputs(classifier.preprocess, device, self.form)

    def load(self, device: str) -> Classifier:
        """The classifier in eval mode on a device; the user's own object does not change."""
        model = self.model
        if isinstance(model, Classifier):
            model = replace(model, network=Isolation(own_weight).copy(model.network))
        elif isinstance(model, nn.Module):
            model = Isolation(own_weight).copy(model)
        devices = [device] if device.startswith("cuda") else []
        with torch.random.fork_rng(devices=devices):  # a function that makes a network may seed it
            classifier = as_classifier(model, self.weights, self.categories, self.preprocess)
        names = self.class_names or ()
        has_none = isinstance(model, nn.Module) and self.categories is None
        has_none = has_none and not names_its_labels(model)
        if has_none and len(names) == len(classifier.categories):
            classifier = replace(classifier, categories=tuple(names))
        return replace(classifier, network=classifier.network.eval().to(device))


def model_hash(classifier: Classifier) -> str:
    """SHA-256 of a network's parameters and buffers, also those that a state dict leaves out."""
    network = classifier.network
    parameters = network.named_parameters(remove_duplicate=False)
    buffers = network.named_buffers(remove_duplicate=False)
    return tensors_hash({**dict(parameters), **dict(buffers), **network.state_dict()})


@dataclass(frozen=True)
class ShardDone:
    """The facts about a written shard.

    Attributes:
        shard: The shard's number.
        pictures: The number of its pictures.
        errors: The number of bad pictures.
        seconds: The time that it took.
        first_error: The key and the message of the first bad picture; empty if there is none.
    """

    shard: int
    pictures: int
    errors: int
    seconds: float
    first_error: str = ""


@dataclass(frozen=True, eq=False)
class Job:
    """A run in a form that can be sent to other processes.

    Attributes:
        run: The run's name in its files.
        pictures: The data set, in the run's order.
        classes: Each picture's target, or None if its label names no class of the network. None for
            predictions.
        shards: The places of each shard's pictures.
        source: The network.
        model_sha256: The expected hash of the network.
        probe: The expected answers of the network.
        settings: The settings of the run.
        shape: (C, H, W) of the network's input.
        dtype: The scores' type.
        folder: The folder for the shards.
        again: The places that are scored again in existing shards, by shard number.
    """

    run: str
    pictures: DataPictures
    classes: Sequence[int | None] | None
    shards: Sequence[range]
    source: ModelSource
    model_sha256: str
    probe: Probe
    settings: RunSettings
    shape: tuple[int, ...]
    dtype: torch.dtype
    folder: Path
    again: Mapping[int, Collection[int]] = field(default_factory=dict)

    def keys(self, shard: int) -> list[str]:
        """The keys of a shard's pictures."""
        places = self.shards[shard]
        return list(self.pictures.keys[places.start : places.stop])

    def batches(self, shard: int) -> list[Wanted]:
        """The pictures to score in each batch of a shard."""
        places, size = self.shards[shard], self.settings.batch_size
        batches = [places[k : k + size] for k in range(0, len(places), size)]
        if shard not in self.again:
            return [Wanted(batch, batch) for batch in batches]
        bad = [(batch, [k for k in batch if k in self.again[shard]]) for batch in batches]
        return [Wanted(batch, places, apart=True) for batch, places in bad if places]

    def start(self) -> Worker:
        """Load the network in a process that did not plan the run."""
        with to_be_read_by(self.settings.score.head):
            classifier = self.source.load(self.settings.device)
        found = model_hash(classifier)
        if found != self.model_sha256:
            raise ArgumentError(
                f"Expected `model` to be the same wherever it is loaded; its hash is {found[:16]} "
                f"here and {self.model_sha256[:16]} where the run began."
            )
        scorer = Scorer(classifier, self.settings)
        outputs = map(scorer.outputs, self.source.test_inputs(classifier, self.settings.device))
        for name, both in self.probe.differences(Probe.made(list(outputs))).items():
            raise ArgumentError(
                f"Expected `model` to be the same wherever it is loaded; {name}: {both}, in "
                f"another process."
            )
        return Worker(self, classifier)


class Worker:
    """A process that computes shards, one after another.

    Args:
        job: The job.
        classifier: The classifier, on the device of the job.
        decoders: The number of processes that read and decode pictures for this one; 0 for none.
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
        """Compute and write shards; pictures of the next shard are decoded at the same time.

        Args:
            shards: The numbers of the shards.
            progress: Called with the number of pictures after each batch.
        """
        job = self._job
        wanted = [batch for shard in shards for batch in job.batches(shard)]
        # Closed here, because an exception may keep this frame, and so the decoding processes.
        with closing(
            read_batches(
                job.pictures, self._preprocess, job.shape, wanted, self._decoders, job.folder
            )
        ) as batches:
            for shard in shards:
                start = time.perf_counter()
                rows: list[Row] = []
                for batch in islice(batches, len(job.batches(shard))):
                    rows += self._rows(batch)
                    progress(len(batch.decoded))
                yield self._write(shard, rows, start)

    def _write(self, shard: int, rows: list[Row], start: float) -> ShardDone:
        job = self._job
        table = table_of(rows, job.dtype, job.settings.further)
        if shard in job.again:
            before = read_shard(job.folder, shard, job.run, job.keys(shard))
            table = with_rows(before, table)
        write_shard(job.folder, shard, table, job.run)
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
        places = [one.index for one in batch.decoded if not rows[one.index].error]
        with in_network(job.folder, batch.first) as deaths:
            if deaths >= _DEATHS and job.settings.device == "cpu":  # others do not survive a fork
                for k, why in self._deadly(batch, rows, places).items():
                    rows[k] = Row(rows[k].key, rows[k].sha256, f"It could not be scored: {why}.")
                    places.remove(k)
            rows.update(zip(places, self._scored(batch, rows, places), strict=True))
        return list(rows.values())

    def _scored(
        self, batch: Batch, rows: Mapping[int, Row], places: Sequence[int]
    ) -> Sequence[Row]:
        """The rows of good pictures of a batch."""
        if not places:
            return []
        classes, slots = self._job.classes, [k - batch.first for k in places]
        targets = None if classes is None else [classes[k] for k in places]
        names = [(rows[k].key, rows[k].sha256) for k in places]
        return self._scorer.rows(batch.tensors[slots], targets, names, slots)  # type: ignore[arg-type]

    def _deadly(
        self, batch: Batch, rows: Mapping[int, Row], places: Sequence[int]
    ) -> dict[int, str]:
        """The pictures that end a process in the network, and how they end it; found by halving."""
        why = ends_process(lambda: self._scored(batch, rows, places)) if places else ""
        if not why or len(places) == 1:
            return {places[0]: why} if why else {}
        half = len(places) // 2
        return {
            **self._deadly(batch, rows, places[:half]),
            **self._deadly(batch, rows, places[half:]),
        }

    def _no_class(self, k: int) -> str:
        """Why a picture has no target."""
        labels = self._job.pictures.labels
        grouped = self._job.settings.score.groups is not None
        return label_error(None if labels is None else labels[k], self._categories, grouped=grouped)
