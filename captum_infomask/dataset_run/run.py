# run_dataset checks everything, and then computes the missing pictures.
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.utils.data import DataLoader

from captum_infomask._checks import (
    available_device,
    boolean,
    check_initialised,
    one_of,
    positive_int,
)
from captum_infomask._errors import ArgumentError
from captum_infomask._keywords import keywords, told
from captum_infomask._messages import said_once
from captum_infomask.dataset_run.data.data_pictures import find_pictures
from captum_infomask.dataset_run.data.parquet_files import ParquetPictures
from captum_infomask.dataset_run.job import ModelSource
from captum_infomask.dataset_run.loaded import DatasetRun
from captum_infomask.dataset_run.local import only_run, run_locally
from captum_infomask.dataset_run.manifest import now, read_manifest
from captum_infomask.dataset_run.network_input import (
    check_order,
    decoders_of,
    in_words,
    network_input,
)
from captum_infomask.dataset_run.on_ray import run_on_ray
from captum_infomask.dataset_run.page_pictures import keep_pictures
from captum_infomask.dataset_run.planning import begin, checked_folder, end, plan_run
from captum_infomask.dataset_run.progress import Progress, survey
from captum_infomask.dataset_run.run_settings import RunSettings, score_options
from captum_infomask.engines.choose_engine import EngineName
from captum_infomask.engines.engine_protocol import Engine
from captum_infomask.masks import Rule, as_rule
from captum_infomask.models.classifier import Classifier
from captum_infomask.scores.score import Score, score_from

RunEngine = Literal["local", "ray"]


@told(options_of=Score, passes_on=True)
def run_dataset(
    data: Any,
    model: str | nn.Module | Classifier,
    out: str | Path,
    *,
    transform: Callable[[Any], Tensor] | None = None,
    target: str = "prediction",
    weights: str | Path | None = None,
    categories: Sequence[str] | None = None,
    engine: RunEngine = "local",
    address: str | None = None,
    workers: int | None = None,
    rule: Rule | float | None = None,
    view_engine: EngineName | Engine = "auto",
    batch_size: int | None = None,
    shard_size: int | None = None,
    max_errors: int | None = None,
    extend: bool = False,
    verify: bool = False,
    retry_errors: bool = False,
    device: str | None = None,
    show_progress: bool = False,
    score: Score | None = None,
    **options: Any,
) -> DatasetRun:
    r"""Score every picture of a data set; continue where an earlier call stopped.

    Each picture gets the numbers of :meth:`InfoMask.score_regions`: i(y; x), and every region's
    information about the target. A bad picture gets an error instead. The results of ``shard_size``
    pictures become visible together, as one whole Parquet file. If a run is killed, the same call
    continues after the last such file. It ends with the scores of an uninterrupted run, to the bit.

    Args:
        data: A folder of pictures, with or without sub-folders of classes; a glob of pictures; or
            Parquet with pictures as bytes. All may be remote, by any of fsspec's protocols. Or a
            ``Dataset`` that yields (picture, label) or (picture, label, key) by number, or a
            ``DataLoader`` of one. A picture is PIL's, an array or tensor of 8 bits, or a float
            tensor (C, H, W), which is the network's input. Of a loader, its data set and its
            ``collate_fn`` are used, in batches of one. Pictures come in the data set's order, also
            if the loader shuffles. Keys are the third entry; of an ``ImageFolder`` the paths; or
            else the items' numbers, ``"0"``, ``"1"``, ….
        model: The name of a model, ``module:function``, an ``nn.Module`` or a ``Classifier``. The
            run uses a copy in eval mode. Dropout is off, unless the network itself keeps it on.
        out: The folder of the results: a new or empty folder, or the folder of a run to continue.
            With a cluster, a folder that all its machines share.
        transform: A function from a picture to the network's input, a float tensor (C, H, W), such
            as torchvision's ``weights.transforms()``. A module needs it for pictures. It replaces
            the preprocessing of a named model or a ``Classifier``. Files are given to it as RGB, as
            ``ImageFolder`` does, and pictures of a ``Dataset`` as they are. It must not draw random
            numbers.
        target: ``prediction``; ``label``, which is the sub-folder, Parquet's column ``label``, or
            what a ``Dataset`` yields after the picture; or another Parquet column. Sub-folders
            either have the names of categories, or are as many as the categories, in sorted order,
            as in torchvision's ``ImageFolder``. If the name of a sub-folder is a number but not its
            place in that order, it is refused, unless ``categories`` holds it.
        weights: A named model's weights, as in the command line's ``--weights``.
        categories: Names of the classes in the order of the network's outputs, if the model does
            not have them. A module without names takes the ``classes`` of a ``Dataset``, if there
            are as many. Give the names of the sub-folders if their order is not that of the
            outputs.
        engine: ``local`` for this machine, or ``ray`` for a cluster (or the CPUs of this machine).
        address: A Ray cluster's address; None starts Ray here.
        workers: For ``local``, the number of processes that decode pictures while this one
            computes. For ``ray``, the number of processes that compute. None takes the number of
            CPUs, or of GPUs; with ``local`` and a ``DataLoader``, its ``num_workers``.
        rule: The rule for the mask; None for the default of ``InfoMap.mask``.
        view_engine: ``engine`` of :meth:`InfoMask.score_regions`, for views that have several.
        batch_size: Pictures that share forward passes; None chooses a size for the device.
        shard_size: Pictures of a file of results. All of them are lost if a run is killed before
            the file is written. None takes at least 64, and at least a batch.
        max_errors: The run stops if more pictures than this are bad; never if None.
        extend: Let the continued run take pictures that are new in ``data``. Only these are scored,
            after the others.
        verify: Read the files of all scored pictures again, and refuse to continue if the bytes of
            one have changed. Without it, only names and labels are compared.
        retry_errors: Score the bad pictures of the continued run again.
        device: The device of the network. None takes CUDA if it is available.
        show_progress: Show a progress bar on stderr, with pictures per second and the time left.
        score: How the network's outputs are read. If it has groups, labels and ``categories`` are
            still those of the classes. A picture's target is the group of its label. If a label is
            in no group, the picture gets an error.
        **options: The settings of :class:`Score` by name, instead of ``score``; and the other
            keyword arguments of :meth:`InfoMask.attribute`, such as ``view``,
            ``sliding_window_shapes`` and ``strides``, or ``seed``. Without ``view``, all pictures
            get the default view of a test picture. ``contrast`` is one class for all pictures, its
            number or name, or ``runner_up``.

    Returns:
        The run, a mapping from keys to InfoMaps.

    Raises:
        ArgumentError: An argument is wrong; there are no pictures; a module has no ``transform``
            for them; ``data`` or ``transform`` draws random numbers; the run in ``out`` has other
            settings, another network, other pictures or other labels (the message shows the
            difference); or another run writes to ``out``.
        RunStopped: There is no space or memory left, or there are too many bad pictures.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> from captum_infomask import run_dataset
        >>> folder = tempfile.mkdtemp()
        >>> for name in ("a.png", "b.png"):
        ...     Image.new("L", (56, 28)).save(os.path.join(folder, name))
        >>> run = run_dataset(folder, "two_digits", os.path.join(folder, "out"), workers=0)
        >>> list(run), run["a.png"].view
        (['a.png', 'b.png'], 'relay')

        A network and a data set of your own:

        >>> import torch
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> pairs = [(torch.rand(1, 16, 16), 2), (torch.rand(1, 16, 16), 0)]
        >>> run = run_dataset(pairs, network, os.path.join(folder, "own"), target="label")
        >>> run.table.column("target").to_pylist()
        [2, 0]

    Source: the scores are those of arXiv 1910.02629, Sec. 5.
    """
    _check_numbers(batch_size=batch_size, shard_size=shard_size)
    _check_engine(engine, address, workers)
    _check_max_errors(max_errors)
    for name, given in (("extend", extend), ("verify", verify), ("retry_errors", retry_errors)):
        boolean(name, given)
    settings = {name: options.pop(name) for name in keywords(Score) if name in options}
    check_order(data, model)
    check_initialised("model", model.network if isinstance(model, Classifier) else model)
    if rule is not None:
        rule = as_rule(rule)
    asked = RunSettings(
        target=target,
        score=score_from(score, settings).with_classes("a run scores the classes of pictures"),
        rule=rule,
        options=score_options(options, view_engine),
        batch_size=batch_size or 0,
        shard_size=shard_size or 0,
        device=available_device("device", device),
    )
    asked.check_rule()
    folder = checked_folder(out)
    pictures = find_pictures(data, target, folder)
    if isinstance(pictures, ParquetPictures):
        _check_apart(folder, data)
    words = {"data": in_words("data", data), "out": in_words("out", out)}
    shown = network_input(pictures, model, transform, read_manifest(folder), words)
    pictures, decoders = shown.pictures, decoders_of(shown.pictures, workers)
    source = ModelSource(
        model, weights, categories, shown.preprocess, shown.form, pictures.class_names
    )
    with said_once(), ExitStack() as lock:
        is_new = not folder.exists()
        if not is_new:
            lock.enter_context(only_run(folder))
        plan = plan_run(folder, pictures, source, asked, extend=extend)
        if is_new:  # it is made only after all arguments were checked
            lock.enter_context(only_run(folder))
        found = survey(
            plan.job, plan.ended, retry_errors=retry_errors, verify=verify, show=show_progress
        )
        job = replace(plan.job, again=found.again)
        shards = [shard for shard in range(len(job.shards)) if shard not in found.done]
        plan.manifest["data"] = _from_anywhere(data)
        if shards:
            plan.manifest["ended"] = None
        if verify:
            plan.manifest["contents_verified"] = now()
        begin(folder, plan)
        count = len(plan.listing.keys)
        scored = sum(len(each.places) for shard in shards for each in job.batches(shard))
        progress = Progress(count, count - scored, found.errors, max_errors, show=show_progress)
        with progress:
            if engine == "ray":
                run_on_ray(job, shards, address=address, workers=workers, done=progress.whole_shard)
            else:
                run_locally(
                    job,
                    plan.classifier,
                    shards,
                    workers=decoders,
                    progress=progress.pictures,
                    done=progress.shard,
                )
        keep_pictures(folder, pictures, plan.classifier.preprocess)
        end(folder, plan)
    return DatasetRun(folder, pictures, scored)


def _check_numbers(**given: int | None) -> None:
    for name, number in given.items():
        if number is not None:
            positive_int(name, number)


def _check_engine(engine: object, address: str | None, workers: int | None) -> None:
    one_of("engine", engine, get_args(RunEngine))
    if engine == "local" and address is not None:
        raise ArgumentError(
            f"Expected `address` with engine='ray' only; got {address!r} with engine='local'."
        )
    if workers is not None and not (engine == "local" and workers == 0):
        positive_int("workers", workers)


def _check_max_errors(max_errors: object) -> None:
    if max_errors is not None and max_errors != 0:
        positive_int("max_errors", max_errors)


def _check_apart(folder: Path, data: str | Path) -> None:
    """Refuse a folder of results that a continued run would find among the data."""
    parent = Path(_from_anywhere(data)).resolve()
    if parent in folder.resolve().parents:
        raise ArgumentError(
            f"Expected `out` outside of `data`, whose .parquet files hold the pictures; got "
            f"{folder}."
        )


def _from_anywhere(data: Any) -> str:
    """The place of the data, independent of the working folder; of a Dataset its type."""
    if not isinstance(data, str | Path):
        held: Any = data.dataset if isinstance(data, DataLoader) else data
        return f"{type(held).__module__}.{type(held).__qualname__} of {len(held)}"
    words = str(data)
    return words if "://" in words or "::" in words else os.path.abspath(os.path.expanduser(words))
