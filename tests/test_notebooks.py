# The notebooks as they lie in git: without outputs, for any machine, and where pytest runs them.
import glob
import re
import sys
from pathlib import Path

import nbformat
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
# The tour, in the order in which it is read.
TOUR = (
    "getting_started",
    "which_view_when",
    "why_this_class",
    "masks_and_boxes",
    "calibrated_bits",
    "dropped_tokens",
    "two_networks",
    "find_what_a_data_set_leaks",
    "signals_and_volumes",
)
NOTEBOOKS = sorted(ROOT.glob("examples/*.ipynb"))
DRAWS = re.compile(r"^(plt\.show\(\)|figure|show\(.*\))$", re.MULTILINE)
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|usr|opt)/|[A-Z]:\\|file://")


def test_the_examples_are_there():
    assert {path.stem for path in NOTEBOOKS} == set(TOUR)


def test_pytest_runs_them_all():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]
    options = settings["ini_options"]
    run = {
        path
        for place in options["testpaths"]
        for found in glob.glob(str(ROOT / place))
        for path in ([Path(found)] if found.endswith(".ipynb") else Path(found).rglob("*.ipynb"))
    }
    assert "--nbmake" in options["addopts"]
    assert {*NOTEBOOKS, *ROOT.glob("docs/notebooks/*.ipynb")} <= run


@pytest.mark.parametrize("place", range(len(TOUR)), ids=TOUR)
def test_the_tour_leads_from_each_notebook_to_the_next(place):
    cells = nbformat.read(
        ROOT / "examples" / f"{TOUR[place]}.ipynb", as_version=nbformat.NO_CONVERT
    ).cells
    words = [cell.source for cell in cells if cell.cell_type == "markdown"]
    found = re.search(r"^\*Tour (\d) of (\d)\.", words[0], re.MULTILINE)
    assert found is not None
    assert found.groups() == (str(place + 1), str(len(TOUR)))
    links = re.findall(r"\]\((\w+)\.ipynb\)", words[0])
    assert links == [*TOUR[max(place - 1, 0) : place], *TOUR[place + 1 : place + 2]]
    everywhere = re.findall(r"\]\((\w+)\.ipynb\)", "\n".join(words))
    assert set(everywhere) <= set(TOUR)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=nbformat.NO_CONVERT)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_is_valid_in_the_current_format(notebook):
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.nbformat_minor >= 5, "cells have no ids before 4.5"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_holds_no_outputs(notebook):
    assert [cell.id for cell in code_cells(notebook) if cell.outputs] == []
    assert [cell.id for cell in code_cells(notebook) if cell.execution_count is not None] == []
    assert set(notebook.metadata) == {"kernelspec", "language_info"}, "no state of widgets"


def test_runs_in_any_python_3_kernel(notebook):
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info == {"name": "python"}


def test_names_no_place_of_one_machine(notebook):
    assert [cell.id for cell in notebook.cells if MACHINE.search(cell.source)] == []


def test_tells_a_story(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert sum(cell.cell_type == "markdown" for cell in notebook.cells) >= 5
    assert any("assert " in cell.source for cell in code_cells(notebook)), "claims are checked"


def test_draws_and_describes_its_pictures(notebook):
    drawing = [cell for cell in code_cells(notebook) if DRAWS.search(cell.source)]
    assert len(drawing) >= 3
    pictures = [cell.metadata.get("mystnb", {}).get("image", {}) for cell in drawing]
    assert all(len(picture.get("alt", "")) > 20 for picture in pictures)
