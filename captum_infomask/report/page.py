# The page: one file that shows a comparison, and needs nothing else.
from __future__ import annotations

from markupsafe import Markup

from captum_infomask.report.content import PageContent
from captum_infomask.report.payload import page_payload, script_json
from captum_infomask.report.templating import environment, viewer_script, viewer_style

_START = """
const viewer = document.getElementById("viewer");
mount(viewer, JSON.parse(document.getElementById("payload").textContent));
"""


def page_html(content: PageContent) -> str:
    """One HTML file with everything in it: it opens from disk and asks for nothing.

    Its content security policy forbids every request, and every script and style but the viewer's
    own. All of ``content`` is text: names, labels and errors are escaped wherever they are shown.

    Args:
        content: What to show.

    Returns:
        The file's text, to be written as UTF-8.

    Raises:
        ArgumentError: A picture and its maps differ in size.

    Example:
        >>> from captum_infomask.report.content import PageContent, PictureContent
        >>> from captum_infomask.report.page import page_html
        >>> page = page_html(PageContent("<b>", (PictureContent(None, "espresso", (), ()),)))
        >>> "<h1>&lt;b&gt;</h1>" in page
        True
    """
    payload = page_payload(content)
    # The package's own files, and JSON without any <, > or &.
    return (
        environment()
        .get_template("page.html")
        .render(
            content=content,
            title=content.title,
            summary=_summary(content),
            style=Markup(viewer_style()),
            script=Markup(viewer_script() + _START),
            payload=Markup(script_json(payload)),
        )
    )


def _summary(content: PageContent) -> str:
    """How many methods and pictures there are."""
    methods = len({made.name for picture in content.pictures for made in picture.maps})
    return f"{_count(methods, 'method')} on {_count(len(content.pictures), 'picture')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
