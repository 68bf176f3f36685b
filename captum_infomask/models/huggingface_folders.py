# Image classifiers of Hugging Face's transformers from folders on this machine.
from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError, with_extra
from captum_infomask._messages import warn
from captum_infomask._process import quiet
from captum_infomask._random import OwnGenerators
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.huggingface_models import KIND, hint_of, huggingface, no_classifier

_CONFIG = "config.json"
_PICTURES = ("preprocessor_config.json", "processor_config.json")  # the latter, of texts too
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
_SHOWN = 8  # names of files

_turn = threading.Lock()  # transformers has one level of logging for all threads


def huggingface_folder(folder: Path) -> Classifier:
    """Load an image classifier from a folder that transformers' ``save_pretrained`` wrote.

    Nothing is downloaded, and nothing in the folder is run: weights are read from safetensors only,
    and a folder that names code of its own is refused.

    Args:
        folder: It holds ``config.json``, ``model.safetensors`` (or its parts and their index), and
            ``preprocessor_config.json``. Without the latter, pictures are prepared as for ImageNet,
            and a warning says so.

    Returns:
        The classifier, in eval mode and in the precision of its weights; its name is the folder's.

    Raises:
        ArgumentError: A file is missing or damaged, the weights are pickled or do not fit, the
            folder names code, or it holds another kind of model.
        ModuleNotFoundError: transformers is not installed.
    """
    names = sorted(path.name for path in folder.iterdir())
    if _CONFIG not in names:
        listed = ", ".join(names[:_SHOWN]) + ", …" * (len(names) > _SHOWN)
        raise ArgumentError(
            f"Expected `model` to be a folder that transformers' save_pretrained wrote, with "
            f"{_CONFIG}; {folder} holds {listed or 'nothing'}."
        )
    settings = {name: _read(folder / name) for name in (_CONFIG, *_PICTURES) if name in names}
    _check_code(folder, settings)
    _check_kind(folder, settings[_CONFIG])
    _check_weights(folder, names, settings[_CONFIG])
    has_processor = not settings.keys().isdisjoint(_PICTURES)
    if not has_processor:
        warn(
            f"{folder} has no {_PICTURES[0]}: pictures are prepared as for ImageNet. Save the "
            f"image processor there too (processor.save_pretrained)."
        )
    model, processor = _loaded(folder, has_processor)
    made = huggingface(model, processor)
    return replace(made, name=folder.resolve().name, weights=str(folder))


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds names and values."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"Expected {path} to be JSON; it cannot be read: {error}.") from error
    if not isinstance(held, dict):
        raise ArgumentError(f"Expected {path} to hold names and values; got {describe(held)}.")
    return held


def _check_code(folder: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a folder that would have transformers run code, or fetch it."""
    for name, held in settings.items():
        for key, value in _entries(held):
            is_fetched = key in _ATTENTION and "/" in str(value)  # kernels, from the hub
            if is_fetched or (key == "auto_map" and value):
                raise ArgumentError(
                    f"Expected `model` to be a folder without code of its own; {folder / name} "
                    f"names some ({key}: {value!r}), which is never run here. If you trust it, "
                    f"load it yourself, and give module:function, of a function that returns the "
                    f"network."
                )


def _entries(held: Any) -> Iterator[tuple[str, Any]]:
    """The names and values in JSON, at any depth."""
    if isinstance(held, dict):
        yield from held.items()
    for part in held.values() if isinstance(held, dict) else held if isinstance(held, list) else ():
        yield from _entries(part)


def _check_kind(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a folder of another kind of model."""
    kinds = [str(kind) for kind in config.get("architectures") or []]
    if any(KIND in kind for kind in kinds):
        return
    if not kinds and "architecture" in config:  # timm's own form
        kind = config["architecture"]
        raise no_classifier(
            f"timm's {kind} in {folder}: give timm/{kind} as `model`, and {_WEIGHTS} as `weights`."
        )
    raise no_classifier(f"{', '.join(kinds) or 'no architectures'} in {folder}.{hint_of(kinds)}")


def _check_weights(folder: Path, names: Sequence[str], config: Mapping[str, Any]) -> None:
    """Refuse a folder whose weights are missing, pickled, quantized, or those of an adapter."""
    if config.get("quantization_config"):
        raise ArgumentError(
            f"Expected plain weights; {folder / _CONFIG} names a quantization_config."
        )
    if "adapter_config.json" in names:
        raise ArgumentError(
            f"Expected `model` to be a folder of a whole network; {folder} holds an adapter for "
            f"another one (adapter_config.json): merge_and_unload() makes a whole network of both."
        )
    if _WEIGHTS in names:
        return
    if _INDEX in names:
        index = _read(folder / _INDEX).get("weight_map")
        parts = {str(part) for part in index.values()} if isinstance(index, dict) else {_WEIGHTS}
        if lost := sorted(parts - set(names)):
            raise ArgumentError(
                f"Expected the weights that {folder / _INDEX} names; {', '.join(lost[:3])} is not "
                f"in the folder."
            )
        return
    pickled = [name for name in _PICKLED if name in names]
    raise ArgumentError(
        f"Expected {_WEIGHTS} in {folder}; "
        + (
            f"it has {pickled[0]}, which is not read, because pickled files may run code. Save the "
            f"network again, in a process that trusts it: model.save_pretrained(…)."
            if pickled
            else "it is missing."
        )
    )


def _loaded(folder: Path, has_processor: bool) -> tuple[nn.Module, Any]:
    """Load the network and its image processor by transformers, from local files."""
    try:
        transformers: Any = importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise with_extra(error) from None
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    path = str(folder.resolve())  # never the name of a model on the hub
    processor = None
    with _silent(transformers.utils.logging), OwnGenerators(None):
        try:
            model, told = transformers.AutoModelForImageClassification.from_pretrained(
                path,
                use_safetensors=True,
                output_loading_info=True,
                torch_dtype="auto",
                ignore_mismatched_sizes=True,  # they are refused below, by their names
                **where,
            )
            if has_processor:
                processor = transformers.AutoImageProcessor.from_pretrained(path, **where)
        except MemoryError:
            raise
        except Exception as error:  # transformers raises many kinds of errors
            words = " ".join(str(error).split())[:300]
            raise ArgumentError(
                f"Expected `model` to be a folder that transformers "
                f"{transformers.__version__} can load; {folder} cannot be loaded: "
                f"{type(error).__name__}: {words}"
            ) from error
    others = [_misfit(each) for each in told["mismatched_keys"]]
    for words, lost in (("missing", told["missing_keys"]), ("of another size", others)):
        if lost:
            raise ArgumentError(
                f"Expected the weights of {type(model).__name__} in {folder}; {len(lost)} are "
                f"{words} ({', '.join(sorted(lost)[:3])}{', …' if len(lost) > 3 else ''})."
            )
    return model.eval(), processor


def _misfit(told: Any) -> str:
    """Name weights of another size; transformers 4 tells their name alone."""
    if isinstance(told, str):
        return told
    name, found, wanted = told
    return f"{name} is {tuple(found)}, not {tuple(wanted)}"


@contextmanager
def _silent(logging: Any) -> Iterator[None]:
    """Inside the block, transformers logs no warnings and shows no progress bars."""
    import huggingface_hub

    hub: Any = huggingface_hub.utils
    with _turn, quiet(""):
        level, shows = logging.get_verbosity(), logging.is_progress_bar_enabled()
        hidden = hub.are_progress_bars_disabled()
        try:
            logging.set_verbosity_error()
            logging.disable_progress_bar()
            yield
        finally:
            logging.set_verbosity(level)
            if shows:
                logging.enable_progress_bar()
            if hidden:
                hub.disable_progress_bars()
