# The suite by processor capability and number of threads: a line for each, and what failed.
#
#     python .ci/matrix.py                        # numbers of the fast tier, 1, 2 and 4 threads
#     python .ci/matrix.py --whole --threads 1    # the whole suite
#     python .ci/matrix.py --capabilities avx2 --threads 2 -- tests/test_batched.py -k fold
#
# What follows -- goes to pytest instead. The exit status is that of the worst run.
from __future__ import annotations

import argparse
import glob
import os
import re
import subprocess
import sys
import time

CAPABILITIES = ("default", "avx2", "avx512")

# What another kernel cannot change: words of errors, files, pages, terminals, formats, choices by
# name, and sets of pixels. A test file that is in no line here is about numbers, and runs.
WORDS = [
    "tests/test_bad_input.py",
    "tests/test_imputers_refused.py",
    "tests/test_tokens_refused.py",
    "tests/test_cli.py",
    "tests/test_docs.py",
    "tests/test_light_door.py",
    "tests/test_notebooks.py",
    "tests/test_options.py",
    "tests/test_page*.py",
    "tests/test_report.py",
    "tests/test_run_*.py",
    "tests/test_shown_planes.py",
    "tests/test_viewer*.py",
    "tests/test_widget.py",
    "tests/test_dataset_[!r]*.py",
    "tests/test_dataset_ray.py",
    "tests/test_datasets.py",
    "tests/test_exports.py",
    "tests/test_localisation.py",
    "tests/test_mask*.py",
    "tests/test_samples.py",
    "tests/test_metrics_choose.py",
    "tests/test_metrics_truth.py",
    "tests/reports/test_commands.py",
    "tests/reports/test_damaged_*.py",
    "tests/reports/test_exits.py",
    "tests/reports/test_fatal_pictures.py",
    "tests/reports/test_files_found.py",
    "tests/reports/test_folder_labels.py",
    "tests/reports/test_leftovers.py",
    "tests/reports/test_orientation.py",
    "tests/reports/test_outputs.py",
    "tests/reports/test_resumed_runs.py",
    "tests/reports/test_sent_folders.py",
    "tests/reports/test_terminals.py",
    "tests/reports/test_truth_files.py",
    "examples/**/test_*.py",
]
NUMBERS = ["-m", "not slow", "tests", *(f"--ignore-glob={pattern}" for pattern in WORDS)]


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description="Run the suite under several kernels and threads.")
    parser.add_argument("--whole", action="store_true", help="instead of numbers alone")
    parser.add_argument("--capabilities", nargs="+", choices=CAPABILITIES, default=CAPABILITIES)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--processes", type=int, default=2, help="of pytest-xdist")
    parser.add_argument("--seconds", type=float, default=3600, help="of a run, at most")
    arguments = sys.argv[1:]
    own, asked = arguments, None
    if "--" in arguments:
        own, asked = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    options = parser.parse_args(own)
    if gone := [pattern for pattern in WORDS if not glob.glob(pattern, recursive=True)]:
        parser.error(f"no file is called {', '.join(gone)}: run this where pyproject.toml lies")
    words = asked or ([] if options.whole else NUMBERS)
    worst, most = 0, CAPABILITIES.index(best())
    for capability in options.capabilities:
        if CAPABILITIES.index(capability) > most:
            print(f"{capability}: this processor has it not", flush=True)
            continue
        for threads in options.threads:
            worst = max(worst, run(capability, threads, words, options))
    return worst


def best() -> str:
    """The most that this processor has: PyTorch runs what it is asked to, and dies of the rest."""
    script = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    plain = {key: value for key, value in os.environ.items() if key != "ATEN_CPU_CAPABILITY"}
    words = [sys.executable, "-c", script]
    said = subprocess.run(words, env=plain, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = said.strip().lower()
    return found if found in CAPABILITIES else "default"


def run(capability: str, threads: int, words: list[str], options: argparse.Namespace) -> int:
    """Run the suite once, print what came of it, and return its exit status."""
    environment = {"ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": str(threads)}
    shared = ["-q", "-n", str(options.processes), "--dist", "worksteal"]
    start = time.monotonic()
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", *shared, *words],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=options.seconds,
            check=False,
        )
        said, status = ended.stdout, ended.returncode
    except subprocess.TimeoutExpired as error:
        said, status = (error.stdout or b"").decode(errors="replace"), 124
    counts = re.findall(r"(\d+) (passed|failed|errors?|skipped)", said.rsplit("\n", 2)[-2:][0])
    summary = ", ".join(f"{count} {kind}" for count, kind in counts) or f"ended with {status}"
    seconds = time.monotonic() - start
    print(f"{capability}, {threads} threads: {summary}, {seconds:.0f} s", flush=True)
    for line in re.findall(r"^(?:FAILED|ERROR) .*$", said, flags=re.MULTILINE):
        print(f"    {line[:160]}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
