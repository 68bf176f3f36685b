"""Runs of one's own network on one's own Dataset, DataLoader or transform."""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from refused import refused
from run_samples import NAMES, SEEN, as_if_killed, plain, save_pictures
from state import unchanged
from tiny import Net
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)
from torchvision import transforms as T
from torchvision.datasets import FakeData, ImageFolder
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.transforms import v2

from captum_infomask import ArgumentError, DatasetRun, InfoMask, load_run, run_dataset
from captum_infomask.dataset_run.data.data_pictures import find_pictures
from captum_infomask.dataset_run.data.own_input import scaled_picture
from captum_infomask.dataset_run.network_input import decoders_of
from captum_infomask.dataset_run.summary.summary_content import run_content
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.preprocessing import Preprocess
from captum_infomask.report.page import run_html

SIDE, COUNT = 16, 7
QUICK: dict[str, Any] = {"workers": 0, "batch_size": 2, "shard_size": 4, "view": "drop"}
LABELS = [3, 0, 4, 1, 1, 2, 0]
KEYS = [f"patient {k}" for k in (5, 3, 1, 0, 2, 9, 7)]
NUMBERS = [str(k) for k in range(COUNT)]
PRESET = type(ResNet18_Weights.DEFAULT.transforms())


def windows(channels: int) -> dict[str, Any]:
    return {"sliding_window_shapes": (channels, 8, 8), "strides": (channels, 8, 8)}


def pixels(channels: int = 3) -> list[np.ndarray]:
    """Blocks of colours, all different: (H, W), or (H, W, 3)."""
    shape = (4, 4) if channels == 1 else (4, 4, channels)
    blocks = np.random.default_rng(channels).integers(0, 256, (COUNT, *shape), dtype=np.uint8)
    return list(blocks.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2))


def transform(channels: int = 3) -> T.Compose:
    return T.Compose([T.ToTensor(), T.Normalize((0.5,) * channels, (0.25,) * channels)])


def tensors(channels: int = 3) -> Tensor:
    """What the transform makes of the pictures, written as an equation."""
    stacked = torch.from_numpy(np.stack(pixels(channels))).reshape(COUNT, SIDE, SIDE, channels)
    return (stacked.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


class Pairs(Dataset[Any]):
    """Pictures in one form, with what stands after them."""

    def __init__(self, given: Any, *after: Any) -> None:
        self.given, self.after = given, after

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, k: int) -> tuple[Any, ...]:
        return (self.given[k], *(column[k] for column in self.after))


def as_pairs(form: str, channels: int) -> tuple[Any, list[str], dict[str, Any]]:
    """The data in a form; the keys that it should have; and what else the call needs."""
    shown, made = pixels(channels), tensors(channels)
    with_transform = {"transform": transform(channels)}
    images = [Image.fromarray(one) for one in shown]
    loaders: dict[str, dict[str, Any]] = {
        "loader": {"batch_size": 3},
        "shuffled loader": {"batch_size": 3, "shuffle": True},
        "loader without batches": {"batch_size": None},
    }
    if form in loaders:
        return DataLoader(TensorDataset(made, torch.tensor(LABELS)), **loaders[form]), NUMBERS, {}
    by_form: dict[str, tuple[Any, list[str], dict[str, Any]]] = {
        "PIL": (Pairs(images, LABELS), NUMBERS, with_transform),
        "list": (list(zip(images, LABELS, strict=True)), NUMBERS, with_transform),
        "arrays": (Pairs(shown, np.array(LABELS)), NUMBERS, with_transform),
        "8-bit tensors": (
            Pairs(
                [torch.from_numpy(one.reshape(SIDE, SIDE, -1)).movedim(2, 0) for one in shown],
                torch.tensor(LABELS)[:, None],
            ),
            NUMBERS,
            with_transform,
        ),
        "keys": (Pairs(images, LABELS, KEYS), KEYS, with_transform),
        "float arrays": (Pairs(made.double().numpy(), LABELS), NUMBERS, {}),
        "tensors": (TensorDataset(made, torch.tensor(LABELS)), NUMBERS, {}),
        "loader of keys": (
            DataLoader(Pairs(made, LABELS, KEYS), 2, shuffle=True),
            KEYS,
            {},
        ),
        "own batches": (
            DataLoader(Pairs(images, LABELS), 2, collate_fn=Collated(channels)),
            NUMBERS,
            {},
        ),
    }
    return by_form[form]


class Collated:
    """A collate_fn that applies the transform."""

    def __init__(self, channels: int) -> None:
        self.transform = transform(channels)

    def __call__(self, items: list[Any]) -> tuple[Tensor, Tensor]:
        images, labels = zip(*items, strict=True)
        return torch.stack([self.transform(image) for image in images]), torch.tensor(labels)


def literal(network: nn.Module, x: Tensor, targets: list[int] | None, run: DatasetRun) -> Tensor:
    """The scores of score_regions for the run's batches, the last filled by its first picture."""
    scores, size = [], run.manifest["settings"]["batch_size"]
    for first in range(0, len(x), size):
        chunk = x[first : first + size]
        shown = torch.cat([chunk, chunk[:1].expand(size - len(chunk), -1, -1, -1)])
        wanted = network(shown).argmax(1)
        if targets is not None:
            known = targets[first : first + size]
            wanted = torch.tensor(known + known[:1] * (size - len(known)))
        infomap = InfoMask(network).score_regions(
            shown,
            target=wanted,
            view="drop",
            perturbations_per_eval=run.manifest["settings"]["perturbations_per_eval"],
            **windows(x.shape[1]),
        )
        scores.append(infomap.scores[: len(chunk)])
    return torch.cat(scores).detach()


FORMS = (
    *("PIL", "list", "arrays", "8-bit tensors", "keys", "float arrays", "tensors", "loader"),
    *("shuffled loader", "loader without batches", "loader of keys", "own batches"),
)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_gives_the_numbers_of_score_regions(form, channels, tmp_path):
    data, keys, given = as_pairs(form, channels)
    network, size = Net(channels), windows(channels)
    run = run_dataset(data, network, tmp_path, target="label", **given, **QUICK, **size)
    assert (list(run), run.errors) == (keys, {})
    assert run.table["target"].to_pylist() == LABELS
    scores = torch.cat([run[key].scores for key in keys])
    want = literal(network, tensors(channels), LABELS, run)
    assert torch.equal(scores, want)
    assert want.abs().max() > 0.1
    assert want.std(0).min() > 1e-3  # so pictures in another order would not be equal
    assert run.manifest["settings"]["shape"] == [channels, SIDE, SIDE]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_prediction_needs_no_labels(channels, tmp_path):
    network, x = Net(channels), tensors(channels)
    alone = run_dataset(x, network, tmp_path / "a", **QUICK, **windows(channels))
    in_loader = DataLoader(x, batch_size=3, num_workers=2)
    in_loader = run_dataset(
        in_loader, network, tmp_path / "b", **{**QUICK, "workers": None}, **windows(channels)
    )
    assert plain(alone.table) == plain(in_loader.table)
    assert alone.table["target"].to_pylist() == network(x).argmax(1).tolist()
    want = literal(network, x, None, alone)
    assert torch.equal(torch.cat([alone[key].scores for key in alone]), want)
    assert multiprocessing.active_children() == []


def test_a_classifier_prepares_the_pictures_of_a_dataset_and_no_tensors(tmp_path):
    network = Net()
    images = [Image.fromarray(one) for one in pixels()]
    grey = [image.convert("L").convert("P") for image in images]
    classifier = Classifier("mine", network, NAMES, SEEN)
    want = literal(
        network,
        tensors(),
        LABELS,
        run := run_dataset(
            Pairs(images, LABELS), classifier, tmp_path / "a", target="label", **QUICK, **windows(3)
        ),
    )
    assert torch.equal(torch.cat([run[key].scores for key in run]), want)
    assert run.manifest["preprocess"]["resize"] == SIDE
    assert np.array_equal(run.picture("2"), pixels()[2])  # SEEN is known, and undone
    given = run_dataset(
        TensorDataset(tensors(), torch.tensor(LABELS)),
        *(classifier, tmp_path / "b"),
        target="label",
        **QUICK,
        **windows(3),
    )
    assert torch.equal(torch.cat([given[key].scores for key in given]), want)
    assert given.categories == NAMES
    run = run_dataset(Pairs(grey, LABELS), classifier, tmp_path / "c", **QUICK, **windows(3))
    shown = torch.stack([SEEN(one.convert("RGB"))[0] for one in grey])
    assert torch.equal(
        torch.cat([run[key].scores for key in run]), literal(network, shown, None, run)
    )


def save(folder: Path) -> list[str]:
    """The pictures as files, in a folder for each label."""
    keys = []
    for k, (one, label) in enumerate(zip(pixels(), LABELS, strict=True)):
        keys.append(f"{NAMES[label]}/{k}.png")
        (folder / keys[-1]).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(folder / keys[-1])
    return sorted(keys)


def test_a_folder_and_its_image_folder_are_the_same_run(tmp_path):
    keys = save(tmp_path / "data")
    call = {"target": "label", **QUICK, **windows(3)}
    run = run_dataset(
        tmp_path / "data", Net(), tmp_path / "a", transform=transform(), categories=NAMES, **call
    )
    whole = ImageFolder(tmp_path / "data")
    same = run_dataset(whole, Net(), tmp_path / "b", transform=transform(), **call)
    inside = ImageFolder(tmp_path / "data", transform())
    third = run_dataset(inside, Net(), tmp_path / "c", **call)
    assert list(run) == list(same) == list(third) == keys
    assert run.categories == same.categories == third.categories == NAMES
    without = ("seconds", "sha256")  # of the file's bytes, of its pixels, of a tensor
    assert plain(run.table, without) == plain(same.table, without) == plain(third.table, without)
    order = [int(Path(key).stem) for key in keys]
    want = literal(Net(), tensors()[order], [LABELS[k] for k in order], run)
    assert torch.equal(torch.cat([run[key].scores for key in keys]), want)


def test_the_transform_of_torchvisions_weights_is_known_and_shown(tmp_path):
    save(tmp_path / "data")
    preset = PRESET(crop_size=12, resize_size=14)
    ours = Preprocess(14, 12)
    call = {**QUICK, **windows(3)}
    run = run_dataset(tmp_path / "data", Net(), tmp_path / "a", transform=preset, **call)
    same = run_dataset(tmp_path / "data", Net(), tmp_path / "b", transform=ours, **call)
    third = run_dataset(tmp_path / "data", Net(), tmp_path / "c", transform=preset.forward, **call)
    assert plain(run.table) == plain(same.table) == plain(third.table)
    assert run.manifest["preprocess"] == same.manifest["preprocess"]
    key = next(iter(run))
    image = Image.open(tmp_path / "data" / key)
    assert np.array_equal(run.picture(key), np.asarray(ours.frame(image)))
    assert torch.equal(preset(image), ours(image)[0])
    seen = (third.picture(key) / 255.0).mean()  # scaled, so darker or brighter
    assert abs(seen - run.picture(key).mean() / 255) > 0.001


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_page_shows_the_networks_input_and_says_so(channels, tmp_path):
    x = torch.rand(COUNT, channels, SIDE, SIDE) * 3 - 1
    run = run_dataset(x, Net(channels), tmp_path, workers=0)
    assert run.errors == {}
    for k, key in enumerate(run):
        shown = run.picture(key)
        assert shown.shape == (SIDE, SIDE, 3)
        planes = x[k] if channels == 3 else x[k].mean(0, keepdim=True).expand(3, -1, -1)
        want = 255 * (planes - planes.min()) / (planes.max() - planes.min())
        assert np.abs(shown - want.permute(1, 2, 0).numpy()).max() <= 0.51
        assert run[key].mask().shape == (1, channels, SIDE, SIDE)
    content = run_content(run)
    assert [note for note in content.notes if "network's input" in note]
    assert "its lowest number" in run_html(content)
    assert load_run(tmp_path).picture("0") is not None


def test_a_flat_picture_is_shown_black():
    assert scaled_picture(torch.full((1, 2, 2), 7.0)).getextrema() == ((0, 0),) * 3


# --- continued runs ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PIL", "keys", "shuffled loader"])
def test_a_continued_run_ends_as_an_unbroken_one(form, tmp_path):
    data, _, given = as_pairs(form, 1)
    call = {"target": "label", **given, **QUICK, **windows(1)}
    whole = run_dataset(data, Net(1), tmp_path / "whole", **call)
    run_dataset(data, Net(1), tmp_path / "cut", **call)
    again = run_dataset(data, Net(1), as_if_killed(tmp_path / "cut", 1), **call)
    assert again.scored == 3
    assert plain(again.table) == plain(whole.table)
    assert run_dataset(data, Net(1), tmp_path / "cut", verify=True, **call).scored == 0
    manifest = whole.manifest
    assert ("test_picture" in manifest["settings"]) is (form != "shuffled loader")


def test_a_run_takes_more_items_later(tmp_path):
    data, _, given = as_pairs("PIL", 1)
    call = {"target": "label", **given, **QUICK, **windows(1)}
    whole = run_dataset(data, Net(1), tmp_path / "whole", **call)
    run_dataset(Subset(data, range(4)), Net(1), tmp_path / "cut", **call)
    refused(("extend=True",), lambda: run_dataset(data, Net(1), tmp_path / "cut", **call))
    grown = run_dataset(data, Net(1), tmp_path / "cut", extend=True, **call)
    assert grown.scored == 3
    assert plain(grown.table) == plain(whole.table)


def test_a_new_first_file_of_another_size_does_not_stop_a_run(tmp_path):
    keys = save(tmp_path / "data")
    (tmp_path / "data" / "a bad one.png").write_bytes(b"no picture")
    resized = T.Compose([T.Resize((SIDE, SIDE)), transform()])
    call = {"transform": resized, **QUICK, **windows(3)}
    before = run_dataset(tmp_path / "data", Net(), tmp_path / "out", **call)
    assert before.manifest["settings"]["test_picture"] == ["RGB", SIDE, SIDE]
    assert list(before.errors) == ["a bad one.png"]
    Image.new("L", (40, 20), 9).save(tmp_path / "data" / "a.png")
    run = run_dataset(tmp_path / "data", Net(), tmp_path / "out", extend=True, **call)
    assert (list(run), run.scored) == ([*keys, "a.png"], 1)
    new = run_dataset(tmp_path / "data" / "a.png", Net(), tmp_path / "new", **call)
    assert new.manifest["settings"]["test_picture"] == ["RGB", 40, 20]
    assert torch.equal(new["a.png"].scores, run["a.png"].scores)


def test_a_subset_keeps_the_numbers_of_the_whole(tmp_path):
    data, _, given = as_pairs("PIL", 1)
    call = {"target": "label", **given, **QUICK, **windows(1)}
    run = run_dataset(Subset(data, [5, 2]), Net(1), tmp_path / "a", **call)
    assert (list(run), run.table["target"].to_pylist()) == (["5", "2"], [LABELS[5], LABELS[2]])
    twice = Subset(data, [1, 1])
    refused(("a key of its own", "'1'"), lambda: run_dataset(twice, Net(1), tmp_path / "b", **call))


def test_other_pictures_of_the_same_numbers_are_refused(tmp_path):
    x = tensors(1)
    run_dataset(x, Net(1), tmp_path, **QUICK, **windows(1))
    words = ("'4' has other bytes", "new `out`")
    other = x.clone()
    other[4] += 1
    refused(words, lambda: run_dataset(other, Net(1), tmp_path, **QUICK, **windows(1)))
    other = x.clone()
    other[5] += 1  # not the first of a shard
    assert run_dataset(other, Net(1), tmp_path, **QUICK, **windows(1)).scored == 0
    words = ("'5' has other bytes",)
    call = {**QUICK, **windows(1), "verify": True}
    refused(words, lambda: run_dataset(other, Net(1), tmp_path, **call))


def test_another_transform_is_refused(tmp_path):
    data, _, given = as_pairs("PIL", 1)
    run_dataset(data, Net(1), tmp_path, **given, **QUICK, **windows(1))
    other = T.Compose([T.ToTensor(), T.Normalize((0.1,), (0.25,))])
    refused(
        ("preprocess", "mean=(0.5,)"),
        lambda: run_dataset(data, Net(1), tmp_path, transform=other, **QUICK, **windows(1)),
    )

    def scaled(by: float) -> Any:
        return lambda picture: by * T.ToTensor()(picture)

    run_dataset(data, Net(1), tmp_path / "f", transform=scaled(1), **QUICK, **windows(1))
    words = ("the network's answers",)  # the same words, and another function
    call = {"transform": scaled(2), **QUICK, **windows(1)}
    refused(words, lambda: run_dataset(data, Net(1), tmp_path / "f", **call))
    call = {"transform": scaled(1), **QUICK, **windows(1)}
    assert run_dataset(data, Net(1), tmp_path / "f", **call).scored == 0


# --- what is the user's ------------------------------------------------------------------------


class Moody(Pairs):
    """Draws random numbers for every item but the first, and fails for some."""

    def __getitem__(self, k: int) -> tuple[Any, ...]:
        if k in (2, 5):
            raise OSError(f"no item {k} today")
        if k:
            random.random(), np.random.rand(), torch.rand(1)
        return super().__getitem__(k)


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_of_the_users_is_changed(workers, tmp_path):
    x, network = tensors(1), Net(1).train()
    data = Moody(x, LABELS, KEYS)
    call = {**QUICK, **windows(1), "workers": workers, "target": "label"}
    with unchanged(network, x):
        run = run_dataset(data, network, tmp_path / "a", **call)
    assert list(run.errors) == ["item 2", "item 5"]
    assert run.errors["item 5"] == "OSError: no item 5 today"
    assert list(run) == [key for k, key in enumerate(KEYS) if k not in (2, 5)]
    loader = DataLoader(data, batch_size=3, shuffle=True, num_workers=workers)
    with unchanged(network, x):
        same = run_dataset(loader, network, tmp_path / "b", **{**call, "workers": None})
    assert plain(same.table) == plain(run.table)
    assert multiprocessing.active_children() == []


def test_items_of_another_kind_or_size_are_bad_pictures(tmp_path):
    x = list(tensors(1))
    x[1], x[3], x[4] = Image.new("L", (SIDE, SIDE)), x[3][:, :8], x[4] * float("nan")
    run = run_dataset(Pairs(x, LABELS), Net(1), tmp_path, **QUICK, **windows(1))
    assert list(run.errors) == ["1", "3", "4"]
    for key, word in [("1", "one kind"), ("3", "(1, 1, 16, 16)"), ("4", "NaN")]:
        assert word in run.errors[key]


def test_what_lies_on_a_gpu_is_read_by_this_process():
    found = find_pictures(DataLoader(tensors(1), num_workers=1))
    assert [decoders_of(found, workers) for workers in (None, 0, 2)] == [1, 0, 2]
    on_gpu = replace(found, decoders=0)  # as it is if the first item's device is not the CPU
    assert [decoders_of(on_gpu, workers) for workers in (None, 0)] == [0, 0]
    refused(("`workers` 0", "GPU"), lambda: decoders_of(on_gpu, 2))
    assert find_pictures(tensors(1)).decoders is None


def test_names_of_classes_come_from_the_data(tmp_path):
    data = Pairs(tensors(1), ["bee", "ant", "elk", "bee", "cat", "dog", "ant"])
    data.classes = list(NAMES)
    run = run_dataset(data, Net(1), tmp_path / "a", target="label", **QUICK, **windows(1))
    assert run.categories == NAMES
    assert run.table["target"].to_pylist() == [1, 0, 4, 1, 2, 3, 0]
    data.classes = ["ant", "bee"]
    call = {**QUICK, **windows(1)}
    refused(
        ("5 classes of Net", "`classes` are 2", "'prediction'"),
        lambda: run_dataset(data, Net(1), tmp_path / "b", target="label", **call),
    )
    assert run_dataset(data, Net(1), tmp_path / "b", **call).categories == tuple("01234")


class Listed(FakeData):
    """A data set that says it is torchvision's, and lists labels that no loader needs to read."""

    __module__ = "torchvision.datasets.listed"

    @property
    def targets(self) -> list[int]:
        return LABELS

    def __getitem__(self, k: int) -> tuple[Any, int]:
        return super().__getitem__(k)[0], LABELS[k]


def one_more(items: list[Any]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(labels) + 1


def test_labels_that_the_data_list_are_those_of_the_loader():
    data = Listed(COUNT, (1, SIDE, SIDE), 5, T.ToTensor())
    assert find_pictures(data, "label").labels == LABELS
    assert find_pictures(DataLoader(data), "label").labels == LABELS
    assert find_pictures(Subset(data, [4, 0]), "label").labels == [LABELS[4], LABELS[0]]
    by_hand = DataLoader(data, collate_fn=one_more)
    assert find_pictures(by_hand, "label").labels == [label + 1 for label in LABELS]
    changed = FakeData(COUNT, (1, SIDE, SIDE), 5, T.ToTensor(), lambda label: torch.tensor(4))
    changed.targets = LABELS
    assert find_pictures(changed, "label").labels == [4] * COUNT


MAIN = """
import sys
import torch
from torch import nn
from torch.utils.data import Dataset
from captum_infomask import run_dataset

class Mine(Dataset):
    def __len__(self):
        return 5
    def __getitem__(self, k):
        return torch.full((1, 16, 16), float(k)), k % 3

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(256, 3)
    def forward(self, x):
        return self.last(x.flatten(1))

run = run_dataset(Mine(), Network(), sys.argv[1], target="label", view="drop", workers=2)
print(run, run.table["target"].to_pylist())
"""


@pytest.mark.slow
def test_a_data_set_of_a_script_is_read_by_other_processes(tmp_path):
    (tmp_path / "script.py").write_text(MAIN)
    done = subprocess.run(
        [sys.executable, "script.py", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "DatasetRun(5 of 5 pictures, 0 of them bad) [0, 1, 2, 0, 1]\n"


# --- what is refused ---------------------------------------------------------------------------


def told(call: Any) -> str:
    """The message of a refused call, which may have lines of code."""
    with pytest.raises(ArgumentError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith("Expected ")
    assert len(message) < 600
    return message


IMAGES = [Image.fromarray(one) for one in pixels(1)]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(tensors(1))


def test_a_module_without_a_transform_is_told_the_lines_to_write(tmp_path):
    out = tmp_path / "out"
    save(tmp_path / "photos")
    message = told(lambda: run_dataset(str(tmp_path / "photos"), Net(), str(out)))
    assert message.startswith("Expected `transform`, which makes the input of Net")
    assert message.splitlines()[3] == (
        f"    run_dataset('{tmp_path}/photos', model, '{out}', transform=transform)"
    )
    message = told(lambda: run_dataset(FakeData(2), resnet18(), out))
    assert message.splitlines()[1:] == [
        "    weights = ResNet18_Weights.DEFAULT  # those that the model has",
        "    model = resnet18(weights=weights)",
        f'    run_dataset(data, model, "{out}", transform=weights.transforms())',
    ]
    import timm

    network = timm.create_model("resnet18", num_classes=3)
    message = told(lambda: run_dataset(FakeData(2), network, out))
    namespace: dict[str, Any] = {"timm": timm, "model": network}
    exec("\n".join(line.strip() for line in message.splitlines()[1:3]), namespace)
    made = namespace["transform"](FakeData(2)[0][0])
    assert made.shape == (3, 224, 224)
    assert not out.exists()


@pytest.mark.parametrize(
    ("data", "given", "words"),
    [
        (IMAGES, {"transform": T.Compose([T.RandomCrop(8), T.ToTensor()])},
         ("draws random numbers", "evaluation")),
        (IMAGES, {"transform": T.PILToTensor()}, ("float tensor", "torch.uint8", "ToDtype")),
        (IMAGES, {"transform": T.Resize(8)}, ("float tensor", "ToTensor() be its last")),
        (IMAGES, {"transform": v2.Normalize((0.5,), (0.5,))}, ("`transform`", "mode 'L'")),
        (IMAGES, {"transform": lambda one: tensors(1)}, ("(C, H, W)", "(7, 1, 16, 16)")),
        (IMAGES, {"transform": T.Compose}, ("`transform`", "function")),
        (IMAGES, {"transform": T.Compose([T.Grayscale(3), T.ToTensor()])},
         ("(1, 3, 16, 16)", "takes 1 channel", "Grayscale(1)")),
        (tensors(1), {"transform": transform(1)}, ("no `transform`", "already")),
        (tensors(1), {"target": "label"}, ("(picture, label)", "TensorDataset")),
        (tensors(1), {"target": "folder"}, ("'prediction' or 'label'",)),
        (tensors(1).movedim(1, 3), {}, ("channels first", "permute(2, 0, 1)")),
        (tensors(1)[:, 0], {}, ("(C, H, W)", "[None]")),
        (Pairs(tensors(1), tensors(1)), {"target": "label"}, ("labels", "item 0")),
        (Pairs(tensors(1), LABELS, [None] * 3 + [()] * 4), {}, ("keys", "item 3")),
        (Pairs(tensors(1), LABELS, "abcabcd"), {}, ("'a'", "items 0 and 3")),
        (Pairs(tensors(1), LABELS, KEYS, KEYS), {}, ("(picture, label, key)", "tuple of 4")),
        ([{"image": IMAGES[0], "label": 1}], {}, ("pairs = [(row['image'], row['label'])",)),
        (["a.png"], {}, ("Pass the folder",)),
        ([("a.png", 1)], {}, ("Pass the folder",)),
        ([], {}, ("list is empty",)),
        ({"a": tensors(1)[0]}, {}, ("by number", "list(data.values())")),
        (Stream(), {}, ("by number", "pairs = list(dataset)")),
        (DataLoader(Stream()), {}, ("by number", "pairs = list(dataset)")),
        (DataLoader(IMAGES), {"transform": transform(1)}, ("data = loader.dataset",)),
        (DataLoader(tensors(1), sampler=SubsetRandomSampler([1])), {}, ("Subset(loader.dataset",)),
        (FakeData(3, (1, 16, 16), 5, v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(),
                                               v2.ToDtype(torch.float32)])),
         {}, ("draws random numbers", "item 0")),
        (5, {}, ("`data`", "Dataset", "got 5")),
        (None, {}, ("`data`", "got None")),
    ],
)  # fmt: skip
def test_what_is_no_data_or_transform_is_refused(data, given, words, tmp_path):
    network, before = Net(1), torch.get_rng_state()
    message = told(lambda: run_dataset(data, network, tmp_path / "out", workers=0, **given))
    assert [word for word in words if word not in message] == [], message
    assert torch.equal(torch.get_rng_state(), before)
    assert not (tmp_path / "out").exists()


def test_draws_that_change_nothing_are_taken(tmp_path):
    blurred = T.Compose([T.GaussianBlur(3, 1.0), T.RandomHorizontalFlip(1.0), transform(1)])
    network, call = Net(1), {**QUICK, **windows(1)}
    with unchanged(network):
        run = run_dataset(IMAGES, network, tmp_path, transform=blurred, **call)
    shown = torch.stack([blurred(image) for image in IMAGES])
    want = literal(network, shown, None, run)
    assert torch.equal(torch.cat([run[key].scores for key in run]), want)


def test_a_network_in_the_place_of_the_data_is_told(tmp_path):
    for network in (Net(), Classifier("mine", Net(), NAMES)):
        message = told(lambda network=network: run_dataset(network, "photos", tmp_path))
        assert "run_dataset('photos', model, out" in message


@pytest.mark.parametrize("folders", [("dog", "cat"), ("0", "1")])
def test_folders_name_the_classes_of_a_module(folders, tmp_path):
    keys = save_pictures(tmp_path / "data", 4, folders=folders)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    to_input = T.Compose([T.Resize((SIDE, SIDE)), T.ToTensor()])
    options = {**QUICK, **windows(3), "target": "label", "transform": to_input}
    run = run_dataset(tmp_path / "data", network, tmp_path / "out", **options)
    assert tuple(run.categories) == tuple(sorted(folders))
    assert [run[key].labels[0] for key in keys] == [key.partition("/")[0] for key in keys]
