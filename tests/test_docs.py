# Every python block of the pages runs, in order, and prints what the page says it prints.
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import captum_infomask

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Each python block with its line number and the text block that follows it at once, if any."""
    text = page.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    for k, match in enumerate(found):
        if match[1] != "python":
            continue
        following = found[k + 1] if k + 1 < len(found) else None
        says = None
        if (
            following
            and following[1] == "text"
            and not text[match.end() : following.start()].strip()
        ):
            says = following[2].strip()
        yield text[: match.start()].count("\n") + 1, match[2], says


WITH_BLOCKS = [page for page in PAGES if page.exists() and any(True for _ in blocks(page))]


def test_pages_are_found():
    assert {"index.md", "quickstart.md", "your_model.md"} <= {p.name for p in WITH_BLOCKS}
    assert {"hugging_face.md", "regression.md"} <= {p.name for p in WITH_BLOCKS}


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run_and_print_what_they_say(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for line, code, says in blocks(page):
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile("\n" * line + code, str(page), "exec"), names)
        if says is not None:
            assert printed.getvalue().strip() == says, f"{page.name}, line {line}"


def test_every_public_name_shows_an_example():
    public = [getattr(captum_infomask, name) for name in captum_infomask.__all__]
    silent = [thing.__name__ for thing in public if ">>>" not in (thing.__doc__ or "")]
    assert silent == ["ArgumentError"]


def test_the_citation_is_that_of_this_version():
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")
    version = re.search(r"^version: (.+)$", cited, re.MULTILINE)[1]
    preferred = cited.split("\npreferred-citation:")[1]
    paper = re.search(r'^  title: "(.+)"$', preferred, re.MULTILINE)[1]
    assert version == captum_infomask.__version__
    assert f"version = {{{version}}}" in page
    assert paper in page
