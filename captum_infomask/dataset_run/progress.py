# The progress of a run, and a survey of the finished part of a continued run.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

import pyarrow as pa

from captum_infomask._checks import short_repr
from captum_infomask._errors import ArgumentError, RunStopped
from captum_infomask._messages import progress_bar, warn
from captum_infomask.dataset_run.data.reading import in_one_line
from captum_infomask.dataset_run.job import Job, ShardDone
from captum_infomask.dataset_run.shards import (
    DamagedError,
    check_no_others,
    read_shard,
    shard_path,
    shards_done,
)


class Progress:
    """Counts pictures and errors, and stops a run with too many errors.

    Args:
        pictures: The number of the run's pictures.
        done: The number of pictures that were finished before.
        errors: The number of bad pictures among these.
        most: The run stops if there are more errors than this; None for never.
        show: Whether to show a bar on stderr.
    """

    def __init__(
        self, pictures: int, done: int, errors: int, most: int | None, *, show: bool
    ) -> None:
        self._errors, self._most = errors, most
        self._bar = progress_bar(
            total=pictures,
            initial=done,
            desc="Info Mask attribution",
            unit="picture",
            show=show,
        )
        self._check("")

    def pictures(self, count: int) -> None:
        """Count computed pictures."""
        self._bar.update(count)

    def shard(self, found: ShardDone) -> None:
        """Count a written shard whose pictures were counted before."""
        self._errors += found.errors
        if self._errors:
            self._bar.set_postfix(errors=self._errors, refresh=False)
        self._check(found.first_error)

    def whole_shard(self, found: ShardDone) -> None:
        """Count a shard that was computed and written."""
        self.pictures(found.pictures)
        self.shard(found)

    def _check(self, one: str) -> None:
        if self._most is not None and self._errors > self._most:
            bad = "1 picture is" if self._errors == 1 else f"{self._errors} pictures are"
            shown = f" One of them: {one}" if one else ""
            raise RunStopped(
                f"{bad} bad, more than `max_errors` {self._most}. What is done stays; a larger "
                f"`max_errors` goes on.{shown}"
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()


@dataclass
class Survey:
    """The finished part of a run.

    Attributes:
        done: Shards that need no work.
        errors: The number of their bad pictures.
        again: The places that are scored again in other existing shards, by shard number.
    """

    done: set[int] = field(default_factory=set)
    errors: int = 0
    again: dict[int, frozenset[int]] = field(default_factory=dict)


def survey(job: Job, ended: int, *, retry_errors: bool, verify: bool, show: bool) -> Survey:
    """Read the shards of a run; a damaged or lost shard counts as missing, with a warning.

    Args:
        job: The run.
        ended: The number of its pictures when it ended; 0 if it has not ended.
        retry_errors: Whether bad pictures are scored again.
        verify: Whether to compare the files of all scored pictures with their hashes. If keys are
            numbers, the first picture of each shard is always compared.
        show: Whether to show a bar.

    Raises:
        ArgumentError: A file has the name of a shard that is not in the run; or a picture's bytes
            have changed since it was scored.
    """
    check_no_others(job.folder, len(job.shards))
    found, damaged, changed = Survey(), [], []
    there = sorted(shards_done(job.folder))
    lost = [k for k, places in enumerate(job.shards) if places.stop <= ended and k not in there]
    bar = progress_bar(there, desc="Comparing bytes", unit="shard", show=show and verify)
    for shard in bar:
        try:
            table = _rows(job, shard)
        except DamagedError as error:
            damaged.append(str(error))
            continue
        errors = table["error"].to_pylist()
        hashes = table["sha256"].to_pylist()
        if verify:
            changed += _changed(job, shard, errors, hashes)
        elif job.pictures.keys_are_numbers:  # other pictures may have the same numbers
            changed += _changed(job, shard, errors[:1], hashes[:1])
        bad = frozenset(
            k for k, error in zip(job.shards[shard], errors, strict=True) if error is not None
        )
        if bad and retry_errors:
            found.again[shard] = bad
        else:
            found.done.add(shard)
            found.errors += len(bad)
    if changed:
        more = f", and {len(changed) - 1} more are not as they were" if len(changed) > 1 else ""
        raise ArgumentError(
            f"Expected `data` to hold the pictures that were scored; {changed[0]}{more}. Put them "
            f"back, or begin a new `out`."
        )
    damaged += [f"{shard_path(job.folder, shard).name} is missing" for shard in lost]
    if damaged:
        more = f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        warn(
            f"Done again, of {job.folder}, from the pictures as they are now: {damaged[0]}{more}.",
        )
    return found


def _rows(job: Job, shard: int) -> pa.Table:
    """A shard's rows; ``DamagedError`` if the run would not write such rows."""
    columns = ["key", "sha256", "target", "error"]
    table = read_shard(job.folder, shard, job.run, job.keys(shard), columns)
    if job.classes is not None:
        places = job.shards[shard]
        targets = zip(places, table["target"].to_pylist(), strict=True)
        if any(target not in (None, job.classes[k]) for k, target in targets):
            raise DamagedError(f"part-{shard:05d}.parquet holds other targets than the run's")
    return table


def _changed(
    job: Job, shard: int, errors: Sequence[str | None], hashes: Sequence[str | None]
) -> list[str]:
    """The pictures, of the first in a shard, whose bytes have changed since they were scored."""
    found = []
    places = job.shards[shard][: len(errors)]
    for k, error, before in zip(places, errors, hashes, strict=True):
        if error is not None and before is None:
            continue  # it could not be read
        key = short_repr(job.pictures.keys[k])
        try:
            if job.pictures.load(k).sha256 != before:
                found.append(f"{key} has other bytes")
        except Exception as unread:  # each kind of storage has its own errors
            found.append(f"{key} cannot be read ({in_one_line(unread)})")
    return found
