# What users see of an InfoMap: its words, its figure, and the content of its page.
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_infomask._errors import ArgumentError
from captum_infomask.masks import FalseDiscoveries
from captum_infomask.report.page_content import MapContent, PageContent, PictureContent
from captum_infomask.report.words import decimals, signed
from captum_infomask.results import e_values, map_pictures
from captum_infomask.results.drawing import Drawing
from captum_infomask.results.drawn_inputs import check_no_features, drawn_inputs, has_tables
from captum_infomask.results.shown_inputs import viewed

if TYPE_CHECKING:
    from captum_infomask.results.info_map import InfoMap


def in_words(infomap: InfoMap) -> str:
    """Return sizes and settings, what is asked, and the totals, in one line."""
    n, count = infomap.scores.shape
    total = ", ".join(f"{value:.2f}" for value in infomap.total[:3].tolist())
    more = ", …" * (n > 3)
    words = _question if infomap.value is None else _value
    asked = [words(infomap, k) for k in range(min(n, 3))]
    parts = [f"view={infomap.view!r}", "; ".join(filter(None, asked)) + more * any(asked)]
    shapes = infomap.regions.shapes
    kind = map_pictures.kind_of(shapes[0]) if len(shapes) == 1 else None
    what = "image" if kind in (None, "picture") else kind
    return (
        f"InfoMap({n} {what}{'s' * (n != 1)} × {count} regions, "
        f"{', '.join(filter(None, parts))}, {_whole(infomap)} = {total}{more} {infomap.unit})"
    )


def drawn_map(
    infomap: InfoMap,
    drawing: Drawing,
    picture: Any = None,
    k: int = 0,
    features: Sequence[str] | None = None,
) -> tuple[Figure, Axes]:
    """Draw image k's map with checked settings; the arguments are those of ``figure``."""
    place = map_pictures.checked_place(k, len(infomap.scores))
    if has_tables(infomap.regions.shapes):
        heads = _head(infomap, place), _sums(infomap, None, place)
        return drawn_inputs(infomap, drawing, picture, features, place, heads)
    check_no_features(features)
    shown = _shown(infomap, place)
    heads = _head(infomap, place), _sums(infomap, shown, place)
    rule = drawing.contour
    if not isinstance(rule, FalseDiscoveries):
        return drawing.draw_shown(shown, picture, heads)
    found = e_values.found_by(rule, infomap.log2_e_values())
    (kept,) = e_values.discovered(infomap.scores, found, infomap.regions)
    places = (kept[place] > 0).cpu()
    if shown.kind != "signal":
        places = places.any(0)
    return drawing.draw_shown(shown, picture, heads, places.numpy())


def map_content(infomap: InfoMap, picture: Any = None, k: int = 0) -> PageContent:
    """Return image k's map in plain arrays and words; the arguments are those of ``figure``."""
    place = map_pictures.checked_place(k, len(infomap.scores))
    shown = _shown(infomap, place)
    if shown.kind == "signal":
        raise ArgumentError(
            "Expected an InfoMap of pictures (C, H, W) or volumes (C, D, H, W) for the viewer; got "
            "one of signals. figure(signal) draws them."
        )
    name = ", ".join(filter(None, (f"InfoMask {infomap.view}", _question(infomap, place))))
    regions = map_pictures.region_scores(
        infomap.regions, infomap.scores, place, infomap.standard_errors
    )
    own = MapContent(name, shown.unit, shown.values, regions=regions)
    total = f"{decimals(float(infomap.total[place]))} {infomap.unit}"
    facts = [(total, f"{_whole(infomap)}, the whole {shown.kind}")]
    if shown.unit != infomap.unit:
        facts.append((f"{decimals(_sum(shown))} {infomap.unit}", "the map's sum"))
    if infomap.contrast is None and (infomap.targets is not None or infomap.value is not None):
        facts.append((_head(infomap, place), "what the bits are about"))
    is_video = shown.kind == "video"
    content = PictureContent(viewed(picture, shown), name, tuple(facts), (own,), is_video=is_video)
    cut = map_pictures.suited_rule(infomap.regions).fraction
    return PageContent(name, (content,), threshold=("max_fraction", cut))


def _shown(infomap: InfoMap, k: int) -> map_pictures.ShownMap:
    return map_pictures.shown_map(infomap.attributions(), infomap.regions, infomap.unit, k)


def _whole(infomap: InfoMap) -> str:
    """Say what the total is."""
    return "i(y; x)" if infomap.contrast is None else "i(y; x) − i(y′; x)"


def _question(infomap: InfoMap, k: int) -> str:
    """Say what image k is asked, if its target is compared with another class."""
    if infomap.contrast is None:
        return ""
    target, other = infomap.contrast[k].tolist()
    return f"why {target}, not {other}"


def _value(infomap: InfoMap, k: int) -> str:
    """Say which value image k's map is about."""
    assert infomap.value is not None, "asked for values only"
    of = "" if infomap.targets is None else f" of output {int(infomap.targets[k])}"
    of = of if infomap.labels is None else f" of {infomap.labels[k]}"
    kind = "prediction" if infomap.is_prediction else "value"
    return f"{kind} {signed(float(infomap.value[k]), '.4g')}{of}"


def _head(infomap: InfoMap, k: int) -> str:
    """Say what image k's map is about: its target and p(y | x), its value, or the question."""
    if infomap.value is not None:
        return _value(infomap, k)
    if infomap.contrast is not None or infomap.targets is None:
        return _question(infomap, k) or f"InfoMask {infomap.view}"
    about = f"class {int(infomap.targets[k])}" if infomap.labels is None else infomap.labels[k]
    sure = infomap.probability
    return about if sure is None else f"{about}, p = {float(sure[k]):.2f}"


def _sums(infomap: InfoMap, shown: map_pictures.ShownMap | None, k: int) -> str:
    """Say what image k's map and the whole picture, or all inputs, say."""
    over = "" if infomap.superpixels is None else " over superpixels"
    whole = "all inputs" if shown is None else f"the whole {shown.kind}"
    words = f"{infomap.view}{over}: {decimals(float(infomap.total[k]))} {infomap.unit} in {whole}"
    if shown is None and infomap.blank is not None:
        words += f", {decimals(float(infomap.blank[k, 0]))} with all of them hidden"
    if shown is None or shown.unit == infomap.unit:
        return words
    return f"{words}, {decimals(_sum(shown))} in the map"


def _sum(shown: map_pictures.ShownMap) -> float:
    """Return the sum of a density that is shown per 1% of the picture."""
    return 100 * float(shown.values.mean())
