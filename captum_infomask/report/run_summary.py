# The summary of a run over a data set: one file, with the report's own viewer in it.
from __future__ import annotations

from typing import Any

from markupsafe import Markup

from captum_infomask.report.content import PageContent
from captum_infomask.report.payload import page_payload, script_json
from captum_infomask.report.run_content import RunContent
from captum_infomask.report.run_strips import (
    FEW_CLASSES,
    FEW_VALUES,
    class_groups,
    figure,
    strip,
)
from captum_infomask.report.templating import (
    environment,
    run_script,
    run_style,
    viewer_script,
    viewer_style,
)


def run_html(content: RunContent) -> str:
    """One HTML file with everything in it: it opens from disk and asks for nothing.

    Like ``page_html``'s, its content security policy forbids every request. All of ``content`` is
    text: keys, names and errors are escaped wherever they are shown.

    Args:
        content: What to show.

    Returns:
        The file's text, to be written as UTF-8.

    Raises:
        ArgumentError: A picture and its map differ in size.

    Example:
        >>> from captum_infomask.report.run_content import RunContent
        >>> from captum_infomask.report.run_summary import run_html
        >>> page = run_html(RunContent("<b>", "InfoMask crop", pictures=9, done=0, failed=9))
        >>> "<h1>&lt;b&gt;</h1>" in page
        True
    """
    payload = page_payload(PageContent(content.name, content.examples, content.threshold))
    # The package's own files, and JSON without any <, > or &.
    return (
        environment()
        .get_template("run.html")
        .render(
            content=content,
            title=content.name,
            summary=content.summary,
            style=Markup(viewer_style() + run_style()),
            script=Markup(viewer_script() + run_script()),
            payload=Markup(script_json(payload)),
            has_few_classes=len(content.classes) <= FEW_CLASSES,
            few_values=FEW_VALUES,
            has_accuracy=any(one.accuracy is not None for one in content.classes),
            **_drawing(content),
        )
    )


def _drawing(content: RunContent) -> dict[str, Any]:
    """The figure of distributions, where there are any."""
    axis = content.axis
    if axis is None:
        return {"figure": None, "groups": ()}
    named = [("All pictures", content.overall), *class_groups(content.classes)]
    groups = [(head, [strip(one, axis) for one in shown]) for head, shown in named]
    return {"figure": figure(axis), "groups": groups}
