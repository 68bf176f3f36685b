# The viewer as a widget in a notebook.
from __future__ import annotations

import functools
from typing import Any

from captum_infomask._errors import ArgumentError
from captum_infomask.report.page import viewer_script, viewer_style
from captum_infomask.report.page_content import PageContent
from captum_infomask.report.payload import page_payload


def viewer_widget(content: PageContent) -> Any:
    """Return the page's viewer as a widget for Jupyter, VS Code, Colab and marimo.

    Its ``threshold`` is the slider's position, such as ``("max_fraction", 0.2)``. It can be read
    and set.

    Args:
        content: The content of the page.

    Returns:
        An ``anywidget.AnyWidget``.

    Raises:
        ArgumentError: anywidget is not installed, or a picture and its maps differ in size.

    Example:
        >>> from captum_infomask.report.page_content import PageContent, PictureContent
        >>> from captum_infomask.report.widget import viewer_widget
        >>> content = PageContent("espresso", (PictureContent(None, "espresso", (), ()),))
        >>> viewer_widget(content).threshold
        ('max_fraction', 0.2)
    """
    return _widget_class()(payload=page_payload(content), threshold=content.threshold)


@functools.cache
def _widget_class() -> Any:
    """Return the widget's class, made when it is first needed: anywidget is optional."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ArgumentError(
            f"The widget needs the package {error.name}, which is not installed. Run: "
            "pip install 'captum-infomask[notebook]'"
        ) from error

    class Viewer(anywidget.AnyWidget):
        """The viewer, its payload, and its threshold."""

        _esm = viewer_script()
        _css = viewer_style()
        payload = traitlets.Dict().tag(sync=True)
        threshold = traitlets.Tuple(
            traitlets.Enum(("max_fraction", "at_least")), traitlets.Float()
        ).tag(sync=True)

    return Viewer
