"""What a type checker says of the calls that users type."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import captum_infomask

CALLS = Path(__file__).parent / "typing"


def checked(name: str, folder: Path) -> tuple[list[int], str]:
    """The lines of a file that ``mypy --strict`` refuses, and all that it says."""
    shutil.copy(CALLS / name, folder / name)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", name]
    env = os.environ | {"MYPYPATH": str(Path(captum_infomask.__file__).parents[1])}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if line.startswith(name)]
    return [int(line.split(":")[1]) for line in told if ": error:" in line], done.stdout


@pytest.mark.slow
def test_a_type_checker_accepts_what_users_type(tmp_path):
    lines, told = checked("good_calls.py", tmp_path)
    assert lines == [], told
    assert "Success" in told


@pytest.mark.slow
def test_a_type_checker_refuses_wrong_calls(tmp_path):
    text = (CALLS / "bad_calls.py").read_text(encoding="utf-8").splitlines()
    wrong = [number for number, line in enumerate(text, 1) if line.endswith("# wrong")]
    assert len(wrong) >= 10
    lines, told = checked("bad_calls.py", tmp_path)
    assert sorted(set(lines)) == wrong, told
