# What a measurement ran on, and the memory of its process.
from __future__ import annotations

import platform
from pathlib import Path

import captum
import torch
import torchvision

from captum_infomask import __version__


def machine(device: str = "cpu") -> str:
    """One line: processor or accelerator, threads, versions."""
    where = f"{processor()}, {torch.get_num_threads()} threads"
    if device != "cpu":
        tf32 = "TF32" if torch.backends.cudnn.allow_tf32 else "no TF32"
        where = f"{torch.cuda.get_device_name(device)} ({tf32} in convolutions), beside {where}"
    return (
        f"{where}; Python {platform.python_version()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, captum {captum.__version__}, captum_infomask {__version__}"
    )


def processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory(name: str) -> float:
    """This process's own memory in MiB: VmRSS now, or VmHWM at its peak.

    ``resource`` gives the peak of the process that started this one, if that is higher.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith(name)]
    return int(kilobytes) / 1024
