# The suite by processor capability and number of threads: a line for each, and what failed.
#
#     python .ci/matrix.py                        # the fast tier, 1, 2 and 4 threads
#     python .ci/matrix.py --whole --threads 1    # the whole suite
#     python .ci/matrix.py --capabilities avx2 --threads 2 -- tests/test_batched.py -k fold
#
# What follows -- goes to pytest instead. The exit status is that of the worst run.
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time

CAPABILITIES = ("default", "avx2", "avx512")
FAST = ["-m", "not slow"]


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description="Run the suite under several kernels and threads.")
    parser.add_argument("--whole", action="store_true", help="instead of the fast tier")
    parser.add_argument("--capabilities", nargs="+", choices=CAPABILITIES, default=CAPABILITIES)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--processes", type=int, default=2, help="of pytest-xdist")
    parser.add_argument("--seconds", type=float, default=3600, help="of a run, at most")
    arguments = sys.argv[1:]
    own, asked = arguments, None
    if "--" in arguments:
        own, asked = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    options = parser.parse_args(own)
    words = asked or ([] if options.whole else FAST)
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
