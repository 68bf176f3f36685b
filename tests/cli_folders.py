# A working folder for the command line: a picture and a network of the user's own.
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from captum_infomask.datasets import sample_photo

NETWORK = """
import torch
from torch import nn
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.preprocessing import Preprocess

def make():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    return Classifier("Mine", network, ("cat", "dog", "cup"), Preprocess(48, 48))

def interrupted():
    raise KeyboardInterrupt
"""
MODEL = ["--model", "my_network_for_cli:make"]
QUICK = ["--methods", "centred blob (control)", "--metrics", "none"]


def cli_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> Path:
    """Make the folder, and work in it; ``more`` is added to the network's module."""
    monkeypatch.chdir(folder)
    sys.modules.pop("my_network_for_cli", None)
    (folder / "my_network_for_cli.py").write_text(NETWORK + more)
    Image.fromarray(sample_photo("coffee")).save(folder / "photo.jpg")
    return folder
