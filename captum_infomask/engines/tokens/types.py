# Types by name: timm's can be told without importing a package that need not be there.
from __future__ import annotations


def type_name(thing: object) -> str:
    """The full name of a thing's own type."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
