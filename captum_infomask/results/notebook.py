# How results show themselves in a notebook: a widget where there are widgets, or else pictures.
from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from captum_infomask.report.content import PageContent


def widget(content: PageContent) -> Any:
    """The viewer as a widget."""
    from captum_infomask.report.widget import viewer_widget

    return viewer_widget(content)


def static(content: PageContent) -> str:
    """Pictures without a script."""
    from captum_infomask.report.static import static_html

    return static_html(content)


def mimebundle(content: Callable[[], PageContent], text: str) -> Any:
    """The widget with its fallbacks, in a kernel that has widgets; else None."""
    if not in_kernel() or find_spec("anywidget") is None:
        return None
    made = content()
    found = widget(made)._repr_mimebundle_()
    data, metadata = found if isinstance(found, tuple) else (found, {})
    return {**data, "text/html": static(made), "text/plain": text}, metadata


def in_kernel() -> bool:
    """Whether this runs in a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
