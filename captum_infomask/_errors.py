# The errors that users may catch, and what installs a missing package; nothing heavy is imported.
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


_EXTRAS = {"pyarrow": "data", "torchmetrics": "calibration", "lightning_utilities": "calibration"}


def with_extra(error: ModuleNotFoundError) -> ImportError:
    """The same error, with the command that installs the package if an extra of ours has it."""
    package = (error.name or "").split(".")[0]
    if package not in _EXTRAS:
        return error
    words = (
        f"This needs the package {package}, which is not installed. Run: "
        f"pip install 'captum-infomask[{_EXTRAS[package]}]'"
    )
    return ModuleNotFoundError(words, name=error.name)
