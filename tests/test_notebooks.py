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
EXAMPLES = {
    "calibrated_bits",
    "dropped_tokens",
    "getting_started",
    "masks_and_boxes",
    "which_view_when",
}
NOTEBOOKS = sorted(ROOT.glob("examples/*.ipynb"))
DRAWS = re.compile(r"^(plt\.show\(\)|figure)$", re.MULTILINE)
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|usr|opt)/|[A-Z]:\\|file://")


def test_the_examples_are_there():
    assert {path.stem for path in NOTEBOOKS} == EXAMPLES


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
