# Packages that only some rooms need, and what installs them.
from __future__ import annotations

_EXTRAS = {"pyarrow": "data", "torchmetrics": "calibration", "lightning_utilities": "calibration"}


def explained(error: ModuleNotFoundError) -> ImportError:
    """The same error, with the command that installs the package if an extra of ours has it."""
    package = (error.name or "").split(".")[0]
    if package not in _EXTRAS:
        return error
    words = (
        f"This needs the package {package}, which is not installed. Run: "
        f"pip install 'captum-infomask[{_EXTRAS[package]}]'"
    )
    return ModuleNotFoundError(words, name=error.name)
