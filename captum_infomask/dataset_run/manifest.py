# The manifest: everything that a run's numbers depend on. It is written before the first number.
from __future__ import annotations

import hashlib
import json
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import PIL
import pyarrow
import torch
import torchvision
from torchvision.transforms import InterpolationMode

from captum_infomask._checks import short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._files import whole_file
from captum_infomask.comparison.provenance import versions
from captum_infomask.dataset_run.data.own_input import PictureForm
from captum_infomask.dataset_run.data.reading import Skipped, regular
from captum_infomask.dataset_run.run_settings import RunSettings, in_words, tensors_hash
from captum_infomask.dataset_run.scoring import Probe
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.preprocessing import Preprocess
from captum_infomask.results import InfoMap
from captum_infomask.scores.targets import group_names

FORMAT = "captum_infomask.run 2"
MANIFEST_NAME = "manifest.json"

# Entries that may differ when a run continues: they change no number, or are compared separately.
_FREE = (
    *("run", "data", "machine", "started", "ended", "pictures", "skipped"),
    *("contents_verified", "compared", "map_sha256", "probe", "sha256"),
)
# Settings that InfoMaps of earlier runs did not have.
_LATER = (
    *("contrast", "explained", "residual", "superpixels"),
    *("targets", "labels", "probability", "score"),
)

_COMPARED = {
    "always": "settings, categories, versions; the network's parameters and buffers, by their "
    "hash; what network, preprocessing and view answer on three pictures of our own, within the "
    "rounding of other processors; every picture's key and label",
    "with verify": "the bytes of every picture that has been scored, by the hash in its row",
}


def new_manifest(
    skipped: Skipped,
    settings: RunSettings,
    classifier: Classifier,
    *,
    shape: Sequence[int],
    form: PictureForm,
    model_sha256: str,
    probe: Probe,
    template: InfoMap,
) -> dict[str, Any]:
    """A run's manifest, without its pictures."""
    return {
        "format": FORMAT,
        "run": uuid.uuid4().hex,
        "started": now(),
        "ended": None,
        "contents_verified": None,
        "compared": _COMPARED,
        "skipped": asdict(skipped),
        "model_sha256": model_sha256,
        "map_sha256": template_hash(template),
        "settings": {
            "model": classifier.name,
            "weights": classifier.weights,
            "shape": list(shape),
            **({} if form == PictureForm() else {"test_picture": form.words()}),
            **settings.words(),
        },
        "preprocess": preprocess_words(classifier.preprocess),
        "categories": list(group_names(classifier.categories, settings.score.groups)),
        "versions": packages(),
        "machine": machine(settings.device),
        "probe": probe.words(),
    }


def template_hash(template: InfoMap) -> str:
    """SHA-256 of the common part of all InfoMaps of a run; their rows hold the engine."""
    held = {field.name: getattr(template, field.name) for field in fields(template)}
    return tensors_hash(
        {
            name: value
            for name, value in held.items()
            if name != "engine" and (name not in _LATER or value is not None)
        }
    )


def preprocess_words(preprocess: Any) -> Any:
    """A preprocessing as JSON: our own class by its fields, another one in words."""
    if type(preprocess) is not Preprocess:
        return in_words("preprocess", preprocess)
    fields = {**vars(preprocess), "interpolation": preprocess.interpolation.value}
    if not preprocess.rounds_down:  # older runs do not have it
        del fields["rounds_down"]
    return in_words("preprocess", fields)


def preprocess_of(words: Any) -> Preprocess | None:
    """The preprocessing that ``preprocess_words`` described; None for the user's own."""
    if not isinstance(words, dict):
        return None
    lists = {name: tuple(value) for name, value in words.items() if isinstance(value, list)}
    try:
        interpolation = InterpolationMode(words.get("interpolation"))
        return Preprocess(**{**words, **lists, "interpolation": interpolation})
    except (TypeError, ValueError):  # the manifest was changed
        return None


def packages() -> dict[str, str]:
    """Versions of the packages that read pictures and compute."""
    return {
        **versions(),
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
        "pyarrow": pyarrow.__version__,
    }


def machine(device: str) -> dict[str, Any]:
    """The machine; if it changes when a run continues, last bits may change too."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor()
    return {
        "device": name or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def now() -> str:
    """The present time, with its zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """A folder's manifest; None if there is none; an error if it was changed."""
    path = folder / MANIFEST_NAME
    try:
        found = json.loads(Path(regular(str(path))).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(f"Expected {path} to be a run's manifest; got {error}.") from error
    given = found.get("format") if isinstance(found, dict) else None
    if given != FORMAT:
        raise ArgumentError(
            f"Expected {path} to be a run's manifest of format {FORMAT!r}; got "
            f"{short_repr(given)}. Another version of this package reads its own."
        )
    manifest: dict[str, Any] = found
    if manifest.get("sha256") != _hash(manifest):
        raise ArgumentError(
            f"Expected {path} to be as the run wrote it; its own hash says that it is not."
        )
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest and its hash, whole or not at all."""
    sealed = {**manifest, "sha256": _hash(manifest)}
    with whole_file(folder / MANIFEST_NAME) as beside:
        beside.write_text(json.dumps(sealed, indent=2) + "\n", encoding="utf-8")


def _hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of all other entries."""
    others = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to continue a run with settings that differ from those at its start."""
    found = {
        name: f"{old} before, {new} now"
        for name, old, new in _differences("", before, now)
        if name.split(".")[0] not in _FREE
    }
    if "model_sha256" not in found:
        found.pop("settings.weights", None)  # the same weights, from another place
    if len(found) > 1:
        found.pop("settings.likely_classes", None)  # it follows from the others
    if not found:
        found = Probe.of(before["probe"]).differences(Probe.of(now["probe"]))
    if found:
        differences = [f"{name}: {both}" for name, both in found.items()]
        raise ArgumentError(
            f"Expected the settings that the run in {folder} began with, or a new `out`; these "
            f"differ: {'; '.join(differences)}."
        )


def _differences(prefix: str, before: Any, now: Any) -> list[tuple[str, str, str]]:
    """Names and values of the entries that differ."""
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
