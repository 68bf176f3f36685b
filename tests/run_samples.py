# Small data sets and networks for runs over whole data sets, and what a run of them must give.
from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from tiny import Net, randomise
from torch import Tensor, nn

from captum_infomask import DatasetRun, InfoMap, InfoMask, keep_dropout, run_dataset
from captum_infomask.dataset_run.manifest import read_manifest, write_manifest
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.preprocessing import Preprocess, read_image

SIDE = 16
SEEN = Preprocess(resize=SIDE, crop=SIDE, mean=(0.5,) * 3, std=(0.25,) * 3)
NAMES = ("ant", "bee", "cat", "dog", "elk")
WINDOWS: dict[str, Any] = {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8)}
QUICK: dict[str, Any] = {"workers": 0, "batch_size": 4, "shard_size": 4, **WINDOWS}


def save_pictures(
    folder: Path, count: int, *, seed: int = 0, folders: Sequence[str] = ("",)
) -> list[str]:
    """Write pictures of coloured blocks, all different, in sub-folders by turns; their keys."""
    rng = np.random.default_rng(seed)
    keys = []
    for number in range(count):
        blocks = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        key = f"{folders[number % len(folders)]}/{number:03}.png".strip("/")
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(blocks.repeat(SIDE // 4, 0).repeat(SIDE // 4, 1)).save(folder / key)
        keys.append(key)
    return sorted(keys)


def tiny(network: nn.Module | None = None, **fields: Any) -> Classifier:
    """Five classes of pictures of 16 × 16."""
    made = Net() if network is None else network
    return Classifier("tiny", made, NAMES, **{"preprocess": SEEN, **fields})


def run_tiny(data: Path, out: Path, model: Any = None, **settings: Any) -> DatasetRun:
    """A run that takes a blink."""
    return run_dataset(data, tiny() if model is None else model, out, **{**QUICK, **settings})


class Wide(nn.Module):
    """The same answers in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net().double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.double())


class Drawing(nn.Module):
    """A network that draws random numbers in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor) -> Tensor:
        with keep_dropout(self.net):
            return self.net(x)


class Uneven(nn.Module):
    """A network whose last bits depend on the place in the batch, as matrix products may."""

    def __init__(self) -> None:
        super().__init__()
        self.net = randomise(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 5)), 0.05)

    def forward(self, x: Tensor) -> Tensor:
        place = torch.arange(len(x), dtype=x.dtype)[:, None]
        return self.net(x) + 1e-3 * place


class Failing(nn.Module):
    """A network that does something else where the first pixel is white.

    Args:
        do: From the outputs and which pictures are meant to the outputs.
        net: Gives the outputs.
    """

    def __init__(
        self, do: Callable[[Tensor, Tensor], Tensor], net: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.net = Net() if net is None else net
        self.do = do

    def forward(self, x: Tensor) -> Tensor:
        meant = x[:, 0, 0, 0] == 2  # white, after SEEN
        return self.do(self.net(x), meant)


def spoil(folder: Path, key: str) -> None:
    """Make a picture's first pixel white: ``Failing`` means it."""
    with Image.open(folder / key) as image:
        pixels = np.array(image)
    pixels[0, 0] = 255
    Image.fromarray(pixels).save(folder / key)


def plain(table: pa.Table, without: Sequence[str] = ("seconds",)) -> dict[str, list[Any]]:
    """Columns as Python's values, floats to the bit."""
    return {
        name: [_exact(value) for value in table[name].to_pylist()]
        for name in table.column_names
        if name not in without
    }


def rows_of(table: pa.Table) -> dict[str, dict[str, Any]]:
    """By key, all of its row but the seconds."""
    columns = plain(table)
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return {row["key"]: row for row in rows}


def _exact(value: Any) -> Any:
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, list):
        return [_exact(entry) for entry in value]
    return value


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Equal to the bit; NaN is NaN."""
    if a is None or b is None:
        return a is b
    whole = {torch.float32: torch.int32, torch.float64: torch.int64}[a.dtype]
    return a.dtype == b.dtype and torch.equal(a.view(whole), b.view(whole))


def literal_loop(
    folder: Path,
    keys: Sequence[str],
    classifier: Classifier,
    *,
    views: int,
    batch_size: int = 4,
    targets: Sequence[int] | None = None,
    infomask: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[tuple[str, InfoMap, int, Tensor, Tensor]]:
    """What a run does, in plain words: key, the batch's InfoMap, place, predictions, targets."""
    scorer = InfoMask(classifier.network, **(infomask or {}))
    for start in range(0, len(keys), batch_size):
        chunk = keys[start : start + batch_size]
        shown = [classifier.preprocess(read_image(folder / key))[0] for key in chunk]
        x = torch.stack(shown + [shown[0]] * (batch_size - len(chunk)))
        torch.manual_seed(options.get("seed", 0))
        passes = options["n_samples"] if isinstance(classifier.network, Drawing) else 1
        outputs = [classifier.network(x).detach().log_softmax(1) for _ in range(passes)]
        wanted = predicted = torch.stack(outputs).mean(0).argmax(1)
        if targets is not None:
            known = list(targets[start : start + batch_size])
            wanted = torch.tensor(known + [known[0]] * (batch_size - len(chunk)))
        infomap = scorer.score_regions(
            x, target=wanted, perturbations_per_eval=views, **{**WINDOWS, **options}
        )
        for k, key in enumerate(chunk):
            yield key, infomap, k, predicted, wanted


def as_if_killed(out: Path, *shards: int) -> Path:
    """Leave a run that has ended as one that was killed before these shards were written."""
    for shard in shards:
        (out / f"part-{shard:05}.parquet").unlink()
    write_manifest(out, {**read_manifest(out), "ended": None})
    return out


def in_child(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Call in a forked process: what it returned, or raised."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(there, call))
    start(process)
    there.close()
    try:
        return here.recv()
    finally:
        process.join()


def start(process: Any) -> None:
    """Fork; that the tests' process has threads is well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()


def _tell(pipe: Any, call: Callable[[], Any]) -> None:
    torch.set_num_threads(1)  # others have not come along
    try:
        pipe.send((call(), None))
    except BaseException as error:
        pipe.send((None, error))
