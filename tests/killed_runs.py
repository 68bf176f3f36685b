# A process that starts runs and kills them: real processes and real files, without 20 imports.
#
# It has imported everything and has run nothing, so that its children, forked, are as a new process
# that has got so far. Reads a JSON line for each run: {"arguments": [...], "kill_after": seconds or
# null, "signal": number}; writes one back: {"status": what os.waitpid gave}.
from __future__ import annotations

import json
import os
import sys
import threading
import time

import torch

from captum_infomask.cli import main


def run(arguments: list[str], kill_after: float | None, number: int) -> int:
    """Fork a run, kill it after some seconds, and return how it ended."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            torch.set_num_threads(1)
            code = main(arguments)
        finally:
            os._exit(code)
    if kill_after is None:
        return os.waitpid(pid, 0)[1]
    end = time.monotonic() + kill_after
    while time.monotonic() < end:
        time.sleep(0.002)
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
    os.kill(pid, number)
    return os.waitpid(pid, 0)[1]


if __name__ == "__main__":
    assert threading.active_count() == 1
    for line in sys.stdin:
        order = json.loads(line)
        status = run(order["arguments"], order["kill_after"], order["signal"])
        print(json.dumps({"status": status}), flush=True)
