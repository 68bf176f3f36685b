# The manifest: what a run's numbers depend on, written before the first of them.
from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import PIL
import pyarrow
import torch
import torchvision
from torchvision.transforms import InterpolationMode

from captum_infomask._checks import ArgumentError
from captum_infomask._files import whole_file
from captum_infomask.comparison.provenance import versions
from captum_infomask.dataset_run.job import Job
from captum_infomask.dataset_run.settings import in_words
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.pictures import Preprocess

FORMAT = "captum_infomask.run 1"

# What may differ when a run goes on: it changes no number.
_FREE = ("data", "machine", "skipped", "started")


def keys_hash(keys: Sequence[str]) -> str:
    """SHA-256 of the keys in order."""
    digest = hashlib.sha256()
    for key in keys:
        digest.update(key.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def new_manifest(job: Job, classifier: Classifier) -> dict[str, Any]:
    """A run's manifest, but for where its data lie."""
    return {
        "format": FORMAT,
        "started": now(),
        "pictures": len(job.pictures.keys),
        "keys_sha256": keys_hash(job.pictures.keys),
        "skipped": dataclasses.asdict(job.pictures.skipped),
        "model_sha256": job.model_sha256,
        "settings": {
            "model": classifier.name,
            "weights": classifier.weights,
            "shape": list(job.shape),
            **job.settings.words(),
        },
        "preprocess": preprocess_words(classifier.preprocess),
        "categories": list(classifier.categories),
        "versions": packages(),
        "machine": machine(job.settings.device),
    }


def preprocess_words(preprocess: Any) -> Any:
    """A preprocessing as JSON: our own by its fields, another one in words."""
    if type(preprocess) is not Preprocess:
        return in_words("preprocess", preprocess)
    fields = {**vars(preprocess), "interpolation": preprocess.interpolation.value}
    return in_words("preprocess", fields)


def preprocess_of(words: Any) -> Preprocess | None:
    """The preprocessing that ``preprocess_words`` described; None for a user's own."""
    if not isinstance(words, dict):
        return None
    crop = words.get("crop")
    try:
        return Preprocess(
            **{
                **words,
                "crop": tuple(crop) if isinstance(crop, list) else crop,
                "interpolation": InterpolationMode(words.get("interpolation")),
            }
        )
    except (TypeError, ValueError):  # of a manifest that is not as it was written
        return None


def packages() -> dict[str, str]:
    """Versions of what reads pictures and computes."""
    return {
        **versions(),
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
        "pyarrow": pyarrow.__version__,
    }


def machine(device: str) -> dict[str, Any]:
    """What computed: it may change while a run goes on, and last bits with it."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor()
    return {
        "device": name or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def now() -> str:
    """The time, with its zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """A folder's manifest; None where there is none."""
    path = folder / "manifest.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArgumentError(f"Expected {path} to be a run's manifest; got {error}.") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ArgumentError(f"Expected {path} to be a run's manifest of format {FORMAT!r}.")
    return found


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest, whole or not at all."""
    with whole_file(folder / "manifest.json") as beside:
        beside.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with settings that differ from those a run began with."""
    found = {
        name: f"{old} before, {new} now"
        for name, old, new in _differences("", before, now)
        if name.split(".")[0] not in _FREE
    }
    if "model_sha256" not in found:
        found.pop("settings.weights", None)  # the same, from another place
    if found:
        differences = [f"{name}: {both}" for name, both in found.items()]
        raise ArgumentError(
            f"Expected the settings that the run in {folder} began with, or a new `out`; these "
            f"differ: {'; '.join(differences)}."
        )


def _differences(prefix: str, before: Any, now: Any) -> list[tuple[str, str, str]]:
    """Names and values of what differs, entry by entry."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            found
            for name in {**before, **now}
            for found in _differences(
                f"{prefix}.{name}".strip("."), before.get(name), now.get(name)
            )
        ]
    return [] if before == now else [(prefix, _shown(before), _shown(now))]


def _shown(value: Any) -> str:
    words = json.dumps(value, ensure_ascii=False)
    return words if len(words) < 100 else f"{words[:97]}..."
