# The errors that users may catch; nothing heavy is imported for them.
from __future__ import annotations


class ArgumentError(ValueError, AssertionError):
    """A bad argument: the message names it, what was expected, and what was given.

    It is a ``ValueError`` for Python's users and an ``AssertionError`` for code that was written
    against Captum, whose own checks are assertions.
    """


class RunStopped(RuntimeError):  # noqa: N818 - not all that stops a run is an error
    """A run stopped before its last picture: no space on the disk, or too many bad pictures.

    What was done stays in the output folder, and the same call goes on from there.

    Example:
        >>> from captum_infomask import RunStopped
        >>> raise RunStopped("no space left after 512 of 2000 pictures")
        Traceback (most recent call last):
        ...
        captum_infomask._errors.RunStopped: no space left after 512 of 2000 pictures
    """
