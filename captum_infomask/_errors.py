# Errors that users may catch, and hints that install missing packages. Imports nothing heavy.
from __future__ import annotations


class ArgumentError(ValueError, AssertionError):
    """A bad argument: the message names it, what was expected, and what was given.

    It is a ``ValueError``, which Python users expect. It is also an ``AssertionError``, because
    Captum's own checks are assertions and code written for Captum expects these.
    """


class RunStopped(RuntimeError):  # noqa: N818 - some runs stop for reasons that are not errors
    """A run stopped before its last picture: no space on the disk, or too many bad pictures.

    Finished work stays in the output folder, and the same call continues from there.

    Example:
        >>> from captum_infomask import RunStopped
        >>> raise RunStopped("no space left after 512 of 2000 pictures")
        Traceback (most recent call last):
        ...
        captum_infomask._errors.RunStopped: no space left after 512 of 2000 pictures
    """


_EXTRAS = {
    "pandas": "pandas",
    "pyarrow": "data",
    "nibabel": "volumes",
    "torchmetrics": "calibration",
    "lightning_utilities": "calibration",
    "transformers": "huggingface",
}


def with_extra(error: ModuleNotFoundError) -> ImportError:
    """Add the command that installs the package, if one of our extras has it."""
    package = (error.name or "").split(".")[0]
    if package not in _EXTRAS:
        return error
    words = (
        f"This needs the package {package}, which is not installed. Run: "
        f"pip install 'captum-infomask[{_EXTRAS[package]}]'"
    )
    return ModuleNotFoundError(words, name=error.name)
