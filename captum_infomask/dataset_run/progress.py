# How far a run is: a bar, and the count of bad pictures.
from __future__ import annotations

from types import TracebackType

from captum_infomask._errors import RunStopped
from captum_infomask._progress import progress_bar
from captum_infomask.dataset_run.job import ShardDone


class Progress:
    """Counts pictures and errors, and stops a run that has too many of these.

    Args:
        pictures: Of the run.
        done: How many of them were there before, and stay.
        errors: Bad ones among these.
        most: Stop when there are more than this; None for never.
        show: Show a bar on stderr.
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
        """So many more pictures are computed."""
        self._bar.update(count)

    def shard(self, found: ShardDone) -> None:
        """A shard, whose pictures were counted before, is written."""
        self._errors += found.errors
        if self._errors:
            self._bar.set_postfix(errors=self._errors, refresh=False)
        self._check(found.first_error)

    def whole_shard(self, found: ShardDone) -> None:
        """A shard is computed and written."""
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
