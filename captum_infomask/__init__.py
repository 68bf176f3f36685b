# Loads each public name when it is first used. __init__.pyi lists the names and their files.
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import lazy_loader

from captum_infomask._errors import with_extra

__version__ = "0.1.0"

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    is_room = name not in __all__ and not name.startswith("_")
    try:
        if is_room and find_spec(f"{__name__}.{name}") is not None:
            return import_module(f"{__name__}.{name}")
        return _load(name)
    except ModuleNotFoundError as error:
        raise with_extra(error) from None
    except AttributeError:
        # With these, Python itself names the nearest name.
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__]
        ) from None
