# What goes wrong in a run: how it ends early through no fault of its arguments, and words for it.
from __future__ import annotations

import re

from captum_infomask._checks import ArgumentError
from captum_infomask.dataset_run.data.files import readable

_LONGEST = 500


class RunStopped(RuntimeError):  # noqa: N818 - not all that stops a run is an error
    """A run stopped before its last picture: no space on the disk, or too many bad pictures.

    What was done stays in the output folder, and the same call goes on from there.

    Example:
        >>> from captum_infomask import RunStopped
        >>> raise RunStopped("no space left after 512 of 2000 pictures")
        Traceback (most recent call last):
        ...
        captum_infomask.dataset_run.errors.RunStopped: no space left after 512 of 2000 pictures
    """


def in_one_line(error: Exception) -> str:
    """An error in words, without what differs from process to process."""
    words = str(error) if isinstance(error, ArgumentError) else f"{type(error).__name__}: {error}"
    words = re.sub(r" at 0x[0-9a-fA-F]+", "", readable(" ".join(words.split())))
    return words if len(words) <= _LONGEST else words[: _LONGEST - 3] + "..."
