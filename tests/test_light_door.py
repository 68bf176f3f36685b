# What importing the package and reading its command line cost: modules that are loaded.
from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import captum_infomask
from captum_infomask.cli import main
from captum_infomask.comparison.methods import METHOD_NAMES
from captum_infomask.evaluation.choose_metrics import METRICS

# What neither the package's import nor InfoMask's may load; captum.attr itself loads matplotlib.
HEAVY = (
    "torch._dynamo",
    "torchvision",
    "scipy",
    "cv2",
    "skimage",
    "pandas",
    "pyarrow",
    "fsspec",
    "torchmetrics",
)
REPORT = "print(*[name for name in {names!r} if name in sys.modules])"
WITHOUT = """
import importlib.abc, sys
class Gone(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("pyarrow", "torchmetrics", "lightning_utilities"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
"""


def printed(code: str) -> list[str]:
    """The lines that a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_package_loads_nothing_before_a_name_is_used() -> None:
    names = ("torch", "numpy", "matplotlib", *HEAVY)
    assert printed(f"import sys, captum_infomask; {REPORT.format(names=names)}") == [""]


def test_infomask_and_infomap_load_nothing_heavy() -> None:
    code = (
        f"import sys; from captum_infomask import InfoMask, InfoMap; {REPORT.format(names=HEAVY)}"
    )
    assert printed(code) == [""]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["attribute", "--help"],
        ["attribute"],
        ["attribute", "a.png", "--veiw", "crop"],
        ["comprae", "x"],
    ],
)
def test_the_command_line_is_read_without_torch(words: list[str]) -> None:
    code = f"""
import contextlib, io, sys
from captum_infomask.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    with contextlib.suppress(SystemExit):
        main({words!r})
{REPORT.format(names=("torch", "numpy", *HEAVY))}
"""
    assert printed(code) == [""]


def test_every_public_name_loads() -> None:
    for name in captum_infomask.__all__:
        assert getattr(captum_infomask, name) is not None
    assert set(captum_infomask.__all__) <= set(dir(captum_infomask))
    with pytest.raises(AttributeError, match="no_such_name"):
        captum_infomask.no_such_name  # noqa: B018


@pytest.mark.slow
def test_rooms_can_be_reached_from_the_package() -> None:
    code = """
import captum_infomask
print(captum_infomask.datasets.sample_photo("camera").shape, captum_infomask.models.__name__)
print(hasattr(captum_infomask, "no_room"))
"""
    assert printed(code) == ["(512, 512, 3) captum_infomask.models", "False"]


def test_the_reference_has_every_public_name_on_one_page() -> None:
    pages = (Path(__file__).parent.parent / "docs" / "api").glob("*.md")
    shown = re.compile(r"^\.\. auto\w+:: captum_infomask\.([A-Za-z_.]+)$", re.MULTILINE)
    told = [name for page in pages for name in shown.findall(page.read_text(encoding="utf-8"))]
    assert all(pkgutil.resolve_name(f"captum_infomask.{name}") for name in told)
    assert len(told) == len(set(told))
    assert {name for name in told if "." not in name} == set(captum_infomask.__all__)


def test_help_names_all_methods_and_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"of: {', '.join(METHOD_NAMES)}" in told
    assert f"of: {', '.join(METRICS)}; or all" in told


EXTRAS = {
    "run_dataset": ("pyarrow", "data"),
    "load_run": ("pyarrow", "data"),
    "fit_temperature": ("torchmetrics", "calibration"),
    "ConditionalMutualInformation": ("torchmetrics", "calibration"),
}


@pytest.mark.slow
def test_a_missing_extra_is_told_with_what_installs_it() -> None:
    """By each name, and by the command line."""
    code = f"""{WITHOUT}
import contextlib, importlib, io
for name in {list(EXTRAS)}:
    try:
        getattr(importlib.import_module("captum_infomask"), name)
    except ImportError as error:
        print(error.name.split('.')[0], error, sep="|")
from captum_infomask.cli import main
with contextlib.redirect_stderr(io.StringIO()) as told:
    code = main(["run", "--data", "pictures", "--out", "bits"])
print(code, told.getvalue().strip())
"""
    *told, line = printed(code)
    for one, (package, extra) in zip(told, EXTRAS.values(), strict=True):
        missing, words = one.split("|")
        assert missing in (package, "lightning_utilities")
        assert words.endswith(f"pip install 'captum-infomask[{extra}]'")
    assert line.startswith("2 captum-infomask: error: ")
    assert line.endswith("pip install 'captum-infomask[data]'")


@pytest.mark.slow
def test_without_extras_maps_masks_and_comparisons_work(tmp_path: Path) -> None:
    code = f"""{WITHOUT}
import torch
from captum_infomask import InfoMask, compare, threshold_mask
layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)]
network = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(4, 3)).eval()
picture = torch.rand(1, 3, 24, 24)
maps = InfoMask(network).attribute(picture, target=1)
print(tuple(threshold_mask(maps).shape))
found = compare(network, picture, target=1, methods=["InfoMask", "Grad-CAM"])
found.to_html({str(tmp_path / "page.html")!r})
print("Grad-CAM" in found.text())
"""
    assert printed(code) == ["(1, 3, 24, 24)", "True"]
    assert (tmp_path / "page.html").stat().st_size > 1000
