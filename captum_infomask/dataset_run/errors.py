# What goes wrong in a run: how it ends early through no fault of its arguments, and words for it.
from __future__ import annotations

import re

from captum_infomask._errors import ArgumentError
from captum_infomask.dataset_run.data.files import readable

_LONGEST = 500


def in_one_line(error: Exception) -> str:
    """An error in words, without what differs from process to process."""
    words = str(error) if isinstance(error, ArgumentError) else f"{type(error).__name__}: {error}"
    words = re.sub(r" at 0x[0-9a-fA-F]+", "", readable(" ".join(words.split())))
    return words if len(words) <= _LONGEST else words[: _LONGEST - 3] + "..."
