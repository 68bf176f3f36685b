# Warns, which fails `make docs`, if the site's search does not put a page first for its words.
from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish
from sphinx.util import logging

_IN_TITLE, _IN_TEXT = 15, 5  # the scores of Sphinx's searchtools.js
_LOGGER = logging.getLogger(__name__)


def check_search(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    text = (Path(app.outdir) / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    for words, page in app.config.searched_words.items():
        first = _found_first(index, words)
        if page not in first:
            found = ", ".join(first) or "no page"
            _LOGGER.warning("a search for %r finds %s before %s", words, found, page)


def _found_first(index: dict, words: str) -> list[str]:
    """The pages with the highest score among those that hold every word."""
    language = SearchEnglish({})
    total: Counter[int] = Counter()
    holding: Counter[int] = Counter()
    terms = [language.stem(word) for word in re.findall(r"\w+", words.lower())]
    for term in terms:
        scores = dict.fromkeys(_pages(index["terms"], term), _IN_TEXT)
        scores |= dict.fromkeys(_pages(index["titleterms"], term), _IN_TITLE)
        total.update(scores)
        holding.update(scores.keys())
    whole = {page: total[page] for page, count in holding.items() if count == len(terms)}
    best = max(whole.values(), default=0)
    return [index["docnames"][page] for page, score in whole.items() if score == best]


def _pages(table: dict, term: str) -> list[int]:
    found = table.get(term, [])
    return found if isinstance(found, list) else [found]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("searched_words", {}, "html")
    app.connect("build-finished", check_search)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
