# The script behind `make gpu`, tried on a CPU: its tests, its tables, its page.
from __future__ import annotations

import gpu
import gpu_tables
import networks
import pytest
import torch
from gpu_contenders import compiled_rows, eager_rows, tf32_is
from subjects import Subject
from test_benchmarks import small_network
from tiny_vits import timm_network, torchvision_network

pytestmark = pytest.mark.slow

TESTS = """
import os
import pytest

pytestmark = pytest.mark.cuda


def test_holds():
    assert os.environ["TEST_DEVICE"] == "cpu"


def test_falls():
    assert 1 == 2


@pytest.mark.skip
def test_waits():
    pass
"""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "small", small_network)


@pytest.fixture
def run(tmp_path):
    """Run the script on a small network; returns its page."""

    def run(*options: str, tests: str | None = None) -> str:
        shared = ["--device", "cpu", "--quick", "--models", "small", "--compiled", "small"]
        path = tmp_path / "room" / "page.md"
        asked = [] if tests is None else [str(tmp_path / "test_some.py")]
        if tests is not None:
            (tmp_path / "test_some.py").write_text(tests)
        gpu.main([*shared, "--out", str(path), "--tests", *asked, *options])
        return path.read_text("utf-8")

    return run


def section(page: str, title: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    (part,) = [part for part in page.split("\n## ") if part.startswith(title)]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


def test_the_page_has_every_table(run):
    page = run(tests=TESTS)
    assert page.startswith(
        "# A GPU\n\n```console\n$ python examples/benchmarks/gpu.py --device cpu"
    )
    assert ": 1 passed, 1 failed, 1 skipped, in " in page
    assert "- `test_falls`: assert 1 == 2" in page
    speed = section(page, "small: speed and memory")
    assert speed[0][0] == "Occlusion, float32"
    assert speed[0][3] == "1.00 [1.00, 1.00]"
    assert {row[0].split(",")[0] for row in speed} >= {
        "Occlusion", "plain", "batched", "incremental"
    }  # fmt: skip
    assert all(float(row[2].split()[0]) > 0 for row in speed)
    assert {row[1] for row in speed} <= {"4", "8", "own"}
    exact = {(row[1], row[2]): float(row[3]) for row in section(page, "Exactness")}
    assert ("bfloat16 autocast", "plain") not in exact
    assert exact["float32", "incremental"] < 1e-5 < exact["bfloat16 autocast", "batched"] < 0.1
    maps = {row[0]: row for row in section(page, "small: one map")}
    assert maps["Grad-CAM"][2] == "1.00 [1.00, 1.00]"
    assert list(maps)[-3:] == ["relay", "relay, TF32", "relay, superpixels"]
    compiled = [row[0] for row in section(page, "small: `torch.compile`")]
    assert "Occlusion, bfloat16, compiled" in compiled
    assert "Backend: `eager`" in page
    assert "Left out" not in page


def test_what_has_no_time_is_left_out_and_named(run):
    page = run("--minutes", "0")
    assert "speed and memory" not in page
    assert "- speed of small: no time was left" in page
    assert "They were not run." in page


def test_a_part_that_fails_costs_itself_alone(run, monkeypatch):
    def broken(options, subject):
        raise RuntimeError("no kernel\nand more")

    monkeypatch.setitem(gpu.PARTS, "speed", broken)
    page = run()
    assert "- speed of small: RuntimeError: no kernel" in page
    assert section(page, "Exactness")


def test_tests_that_cannot_begin_are_a_failure(run):
    page = run("--minutes", "0", tests="import no_such_module")
    assert "1 failed" in page or "pytest" in page
    assert "0 passed" in page


def test_without_a_device_the_script_says_how_to_try_it(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--device cpu --quick" in capsys.readouterr().err


def test_ratios_are_taken_within_rounds_and_other_engines_are_named():
    def row(ran: str, *seconds: float) -> dict[str, object]:
        return {"views": None, "ran": ran, "first": 5.0, "bytes": 2.0**21, "seconds": seconds}

    record = {
        "network": "a",
        "windows": 729,
        "rows": {
            "Occlusion, float32": row("", 1.0, 2.0, 4.0),
            "auto, TF32": row("batched (slow)", 0.5, 2.0, 1.0),
        },
    }
    line = gpu_tables.speed(record).splitlines()[-1]
    assert line == (
        "| auto, TF32 (ran: batched (slow)) | own | 1000.0 [500.0, 2000.0] | "
        "2.00 [1.00, 4.00] | 2 |"
    )
    assert gpu_tables.compiled(record).splitlines()[-1].split(" | ")[1] == "4.0"


@pytest.mark.parametrize("make", [torchvision_network, timm_network])
def test_transformers_are_scored_by_tokens(make):
    network = make().float()
    subject = Subject("vit", network, torch.randn(1, 3, 32, 32), 8, 8)
    rows = eager_rows((4,), subject)
    assert rows["tokens removed, TF32"].call(subject, None)() == "tokens"
    assert rows["tokens, TF32"].call(subject, None)() == "tokens"
    assert "no Winograd, TF32" not in rows


def test_settings_of_precision_are_put_back():
    def settings():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before, inside = settings(), []

    def interrupted():
        with tf32_is(not before[0]):
            inside.append(settings())
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert inside == [(not before[0], not before[0])]
    assert settings() == before


def test_compiled_networks_are_copies():
    network = small_network().eval()
    subject = Subject("small", network, torch.randn(1, 3, 32, 32), 8, 8)
    rows = compiled_rows((4, 8), subject, "eager")
    assert {row.settings for row in rows.values()} <= {(8,), (None,)}
    parameters = set(map(id, network.parameters()))
    for row in rows.values():
        if row.network is not None:
            assert not parameters & set(map(id, row.network.parameters()))
