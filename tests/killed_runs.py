# A process that starts runs and kills them: real processes and files, without an import for each.
#
# It has imported everything and has run nothing, so that its children, forked, are as a new process
# that has got so far. Reads a JSON line for each run: {"arguments": [...], "kill": null or
# {"folder": its output, "shards": how many are there, "after": seconds more, "signal": number}};
# writes one back: {"status": what os.waitpid gave}.
from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from captum_infomask.cli import main


def run(arguments: list[str], kill: dict[str, Any] | None) -> int:
    """Fork a run, kill it some seconds after a shard, and return how it ended."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            torch.set_num_threads(1)
            code = main(arguments)
        finally:
            os._exit(code)
    if kill is None:
        return os.waitpid(pid, 0)[1]
    shards, end = Path(kill["folder"]), None
    while end is None or time.monotonic() < end:
        if end is None and len(list(shards.glob("part-*.parquet"))) >= kill["shards"]:
            end = time.monotonic() + kill["after"]
        time.sleep(0.002)
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
    os.kill(pid, kill["signal"])
    return os.waitpid(pid, 0)[1]


if __name__ == "__main__":
    assert threading.active_count() == 1
    for line in sys.stdin:
        order = json.loads(line)
        status = run(order["arguments"], order["kill"])
        print(json.dumps({"status": status}), flush=True)
