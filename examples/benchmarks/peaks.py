# Memory: a process of its own for every contender, which builds a network and scores its windows.
from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from contenders import Contender
from live_bytes import LiveBytes, activation_bytes, copied_bytes
from measure import Effort, affordable
from subjects import Subject

from captum_infomask.engines.traced import folded, traced
from captum_infomask.engines.traced_network import StandsAside


def in_own_process(arguments: list[str]) -> dict[str, Any]:
    """Run this script's part `peak` with some options, and read what it prints."""
    script = str(Path(__file__).with_name("speed.py"))
    command = [sys.executable, script, "peak", *arguments]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(said)


def peak(subject: Subject, contender: Contender, views: int, effort: Effort) -> dict[str, Any]:
    """The most memory that a contender takes on top of its network, in bytes.

    Returns:
        ``resident``: of the process, or of the accelerator's allocator; ``live``: of all tensors
        alive at once, without the network's own; ``timed``: of how many windows; ``ran``.
    """
    setting = None if None in contender.settings else views
    before = _most_so_far(subject)
    if contender.per_pass:
        part = subject.tiled(effort.tiles)
    else:
        part = subject.part(affordable(subject, contender, setting, effort.budget))
    call = contender.call(part, setting)
    ran = call()
    resident = _most_so_far(subject) - before
    tensors = [*subject.network.parameters(), *subject.network.buffers(), subject.picture]
    with LiveBytes(tensors) as memory:
        call()
    return {
        "views": setting,
        "ran": ran,
        "timed": len(part.windows),
        "resident": resident,
        "live": memory.peak,
    }


def network_bytes(subject: Subject) -> dict[str, int | None]:
    """What one forward pass of a subject's picture makes, and what a folded copy weighs."""
    try:
        graph = folded(traced(subject.network))
    except StandsAside:
        return {"activations": None, "copied": None}
    return {
        "activations": activation_bytes(graph, subject.picture),
        "copied": copied_bytes(graph, subject.network),
    }


def _most_so_far(subject: Subject) -> int:
    if subject.picture.device.type == "cuda":
        return torch.cuda.max_memory_allocated(subject.picture.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
