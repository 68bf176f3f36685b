# Damaged and made-up files: one clear error, before any memory is asked for.
from __future__ import annotations

import collections
import io
import json
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from mutations import mutations
from PIL import Image, PngImagePlugin
from refused import refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from captum_infomask import (
    ArgumentError,
    FittedCritic,
    InfoMap,
    InfoMask,
    fit_critic,
    from_masks,
    grid,
)
from captum_infomask.evaluation.coco_files import read_coco_boxes, read_coco_masks
from captum_infomask.evaluation.voc_wsol_files import read_voc_boxes
from captum_infomask.masks.png import read_png, save_png
from captum_infomask.models.checkpoints import fit_state_dict, read_state_dict

COUNT = 300  # damaged copies of each file


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()


@pytest.fixture(scope="module")
def maps(network) -> dict[str, InfoMap]:
    """One of each kind of regions."""
    inputs = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    score = partial(InfoMask(network).score_regions, inputs, target=1)
    labels = torch.arange(64).reshape(1, 1, 8, 8) // 16
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, :3], masks[1, 2:] = True, True
    return {
        "windows": score(sliding_window_shapes=(3, 4, 4), strides=(3, 2, 2)),
        "labels": score(view="keep", feature_mask=labels),
        "masks": score(view="drop", regions=from_masks(inputs, masks)),
        "chain": score(view="chain", n_samples=4, regions=grid(inputs, 2, 2)),
        "scales": score(regions=[grid(inputs, 2, 2), grid(inputs, 4, 4)]),
        "sharp": score(view="drop", regions=grid(inputs, 2, 2), sharpen="superpixels"),
    }


def state() -> dict[str, Tensor]:
    drawn = torch.rand(7, 5, generator=torch.Generator().manual_seed(2))
    return {
        "a": torch.arange(10.0),
        "b": torch.ones(3, 3, dtype=torch.int64),
        "c.d": nn.Parameter(drawn),
        "half": drawn.half(),
        "part": drawn[1:4, ::2],
    }


def saved(new: bool) -> bytes:
    file = io.BytesIO()
    torch.save(state(), file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def survived(
    content: bytes, read: Callable[[Path], object], path: Path, *, head: int | None = None
) -> collections.Counter[str]:
    """What comes of damaged copies: read, refused (by a line that names the file), or raw."""
    found: collections.Counter[str] = collections.Counter()
    for damaged in mutations(content, COUNT, seed=len(content), head=head):
        path.write_bytes(damaged)
        try:
            read(path)
        except ArgumentError as error:
            clear = path.name in str(error) and "\n" not in str(error)
            found["refused" if clear else f"raw, not clear: {error}"[:100]] += 1
        except BaseException as error:
            found[f"raw {type(error).__name__}: {error}"[:100]] += 1
        else:
            found["read"] += 1
    return found


def assert_no_raw(found: collections.Counter[str]) -> None:
    assert not [what for what in found if what.startswith("raw")], found
    assert found["refused"] > COUNT / 2


KINDS = ("windows", "labels", "masks", "chain", "scales", "sharp")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_map_is_refused(kind, maps, tmp_path):
    maps[kind].save(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()

    def read(path: Path) -> None:
        again = InfoMap.load(path)
        assert torch.equal(again.scores, maps[kind].scores)  # what is not refused is whole
        assert torch.equal(again.attributions(), maps[kind].attributions())

    head = 8 + struct.unpack("<Q", content[:8])[0]
    assert_no_raw(survived(content, read, tmp_path / "copy", head=head))


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_of_the_first_versions_has_no_sum_and_is_checked_all_the_same(kind, maps, tmp_path):
    maps[kind].save(tmp_path / "whole")
    with safe_open(tmp_path / "whole", framework="pt") as file:
        metadata = dict(file.metadata())
    del metadata["sha256"]
    save_file(load_file(tmp_path / "whole"), tmp_path / "old", metadata=metadata)
    content = (tmp_path / "old").read_bytes()
    assert torch.equal(InfoMap.load(tmp_path / "old").scores, maps[kind].scores)

    def read(path: Path) -> None:
        again = InfoMap.load(path)
        if max(map(np.prod, again.regions.shapes)) < 1 << 20:
            again.attributions()
            again.content()
            again._repr_html_()
        repr(again)

    head = 8 + struct.unpack("<Q", content[:8])[0]
    found = survived(content, read, tmp_path / "copy", head=head)
    assert not [what for what in found if what.startswith("raw")], found


@pytest.mark.filterwarnings("ignore:The fit diverged")
def test_a_damaged_critic_is_refused(network, tmp_path):
    critic = fit_critic(network, [torch.rand(8, 3, 8, 8) for _ in range(3)], steps=4)
    critic.save(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    inputs = torch.rand(2, 3, 8, 8)

    def read(path: Path) -> None:
        again = FittedCritic.load(path, network)
        assert torch.equal(again(inputs), critic(inputs))
        assert str(again.report) == str(critic.report)

    head = 8 + struct.unpack("<Q", content[:8])[0]
    assert_no_raw(survived(content, read, tmp_path / "copy", head=head))


@pytest.mark.filterwarnings("ignore:The fit diverged")
def test_a_damaged_checkpoint_of_a_fit_is_refused(network, tmp_path):
    batches = [torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    fit_critic(network, batches, steps=4, checkpoint=tmp_path / "whole")
    content = bytearray((tmp_path / "whole").read_bytes())
    for place in (8 + 40, len(content) // 2, len(content) - 5):
        made = bytearray(content)
        made[place] ^= 1
        (tmp_path / "copy").write_bytes(made)
        with pytest.raises(ArgumentError, match="copy"):
            fit_critic(network, batches, steps=4, checkpoint=tmp_path / "copy")


@pytest.mark.parametrize("form", ["zip", "before 2020", "pickle", "safetensors"])
def test_damaged_weights_are_refused(form, tmp_path):
    suffix, head = ".pt", None
    if form == "safetensors":
        content, suffix, head = (
            safetensors.torch.save({name: value.contiguous() for name, value in state().items()}),
            ".safetensors",
            400,
        )
    elif form == "pickle":
        content = pickle.dumps({"a": 1, "b": [1, 2, {"x": "y"}]}, 2)
    else:
        content, head = saved(form == "zip"), 900
    if form != "pickle":
        (tmp_path / f"whole{suffix}").write_bytes(content)
        again = read_state_dict(tmp_path / f"whole{suffix}")
        assert again.keys() == state().keys()
        assert all(torch.equal(again[name], value) for name, value in state().items())
    assert_no_raw(survived(content, read_state_dict, tmp_path / f"copy{suffix}", head=head))


def test_a_damaged_picture_of_bits_is_refused(tmp_path):
    bits = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    save_png(bits, tmp_path / "whole.png")

    def read(path: Path) -> None:
        assert (read_png(path) - bits).abs().max() < 1e-3

    assert_no_raw(survived((tmp_path / "whole.png").read_bytes(), read, tmp_path / "copy.png"))


def peak(call: Callable[[], object], words: tuple[str, ...]) -> int:
    """The most memory that a refusal held, in bytes, but for what is not Python's or NumPy's."""
    tracemalloc.start()
    try:
        refused(words, call)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def no_torch_load(monkeypatch):
    """PyTorch makes room for what a file claims, so that it must not see such a file."""
    monkeypatch.setattr(torch, "load", None)


def bomb(path: Path, entry: str, size: int) -> None:
    """A file of weights, one entry of which grows to ``size`` bytes."""
    whole = zipfile.ZipFile(io.BytesIO(saved(True)))
    with whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name in whole.namelist():
            grown = name.endswith(entry)
            made.writestr(name, whole.read(name) + b"\0" * (size if grown else 0))


@pytest.mark.parametrize("entry", ["data.pkl", "data/0", "version"])
def test_a_zip_bomb_is_refused_before_it_grows(entry, tmp_path, no_torch_load):
    bomb(tmp_path / "bomb.pt", entry, 1 << 27)
    assert (tmp_path / "bomb.pt").stat().st_size < 1 << 19
    words = ("bomb.pt", "its entries claim", "nothing in it was run")
    assert peak(lambda: read_state_dict(tmp_path / "bomb.pt"), words) < 1 << 22


def claimed(new: bool, path: Path, name: bytes, claim: bytes) -> Path:
    """The weights with one of the pickle's numbers changed."""
    content = saved(new)
    if not new:
        assert content.count(name) == 1
        path.write_bytes(content.replace(name, claim))
        return path
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(path, "w") as made:
        for entry in whole.namelist():
            own = whole.read(entry)
            if entry.endswith("data.pkl"):
                assert own.count(name) == 1
                own = own.replace(name, claim)
            made.writestr(entry, own)
    return path


@pytest.mark.parametrize("new", [True, False])
def test_a_storage_that_claims_more_than_the_file_is_refused(new, tmp_path, no_torch_load):
    content = saved(new)
    at = content.index(b"K\x0a", content.index(b"FloatStorage"))  # of ten elements
    name = content[at - 6 : at + 3]
    many = content[at - 6 : at] + b"J\x00\x00\x00\x40" + content[at + 2 : at + 3]
    path = claimed(new, tmp_path / "claims.pt", name, many)
    words = ("claims.pt", "claim", "42949")
    assert peak(lambda: read_state_dict(path), words) < 1 << 22


@pytest.mark.parametrize("new", [True, False])
def test_a_tensor_that_leaves_its_storage_is_refused(new, tmp_path, no_torch_load):
    content = saved(new)
    at = content.index(b"K\x0a\x85")  # the shape (10,)
    name, claim = content[at - 6 : at + 3], content[at - 6 : at] + b"J\x00\x00\x00\x40\x85"
    path = claimed(new, tmp_path / "claims.pt", name, claim)
    assert peak(lambda: read_state_dict(path), ("claims.pt", "lies outside")) < 1 << 22


@pytest.mark.parametrize("new", [True, False])
def test_tensors_that_share_memory_are_read(new, tmp_path):
    shared = torch.rand(2000, 100)
    weights = {"a": shared, "b": shared.T, "c": shared[10:20], "d": shared[0].expand(3, -1)}
    path = tmp_path / "shared.pt"
    torch.save(weights, path, _use_new_zipfile_serialization=new)
    again = read_state_dict(path)
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    torch.save({"a": torch.zeros(1).expand(1 << 24)}, path, _use_new_zipfile_serialization=new)
    refused(("shared.pt", "its tensors claim 67108864 bytes"), lambda: read_state_dict(path))


@pytest.mark.parametrize("new", [True, False])
def test_every_precision_is_read(new, tmp_path):
    dtypes = [torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.bool]
    dtypes += [torch.int16, torch.int32, torch.complex64, torch.complex128]
    dtypes += [torch.float8_e5m2] * new  # which PyTorch itself does not read from the older form
    weights = {str(dtype): torch.ones(5).to(dtype) for dtype in dtypes}
    torch.save(weights, tmp_path / "all.pt", _use_new_zipfile_serialization=new)
    again = read_state_dict(tmp_path / "all.pt")
    assert {name: value.dtype for name, value in again.items()} == {str(d): d for d in dtypes}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value.bool(), "boolean instead of floating-point"),
        (lambda value: value.to(torch.complex64), "complex instead of floating-point"),
        (lambda value: value.to(torch.uint8), "integer instead of floating-point"),
        (lambda value: value.to_sparse(), "not dense instead of floating-point"),
        (lambda value: value.to("meta"), "without numbers"),
    ],
)
def test_weights_of_another_kind_are_refused_by_name(change, words):
    layer = nn.Linear(2, 2)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    given = {"weight": change(torch.rand(2, 2)), "bias": torch.ones(2)}
    refused(
        ("`weights`", "of another kind (weight,", words, "memory"),
        lambda: fit_state_dict(layer, given, "memory"),
    )
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_weights_of_another_precision_are_taken():
    layer = nn.BatchNorm1d(3)
    made = {name: torch.full_like(value, 2) for name, value in layer.state_dict().items()}
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        fit_state_dict(layer, {name: value.to(dtype) for name, value in made.items()}, "memory")
        assert all(bool((value == 2).all()) for value in layer.state_dict().values())
        assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "its facts are"),
        ("null", "its facts are"),
        ({"unit": None}, "its unit is"),
        ({"unit": "furlongs"}, "its unit is 'furlongs'"),
        ({"view": "<b>"}, "its view is '<b>'"),
        ({"overlap": ["mean"]}, "its overlap is"),
        ({"engine": 3}, "its engine is 3"),
        ({"is_tuple": 1}, "its is_tuple is 1"),
        ({"n_samples": -1}, "its n_samples is -1"),
        ({"views": 1.5}, "its views is 1.5"),
        ({"new": 1}, "'new'"),
    ],
)
def test_a_map_with_made_up_settings_is_refused(facts, words, maps, tmp_path):
    path = rewritten(maps["windows"], tmp_path, facts=facts)
    refused(("`path`", "made.safetensors", words), lambda: InfoMap.load(path))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("scores", lambda value: None, "scores missing"),
        ("total", lambda value: None, "total, of shape (2,), is missing"),
        ("scores", lambda value: value[:, :1], "scores (2, 1)"),
        ("scores", lambda value: value.long(), "scores, of shape (2, 9)"),
        ("total", lambda value: value[:1], "total"),
        ("regions.boxes.0", lambda value: None, "boxes.0"),
        ("regions.shape.0", lambda value: None, "shape"),
        ("regions.boxes.0", lambda value: value + 100, "a box leaves its input"),
        ("regions.boxes.0", lambda value: value - 3, "a box leaves its input"),
        ("regions.boxes.0", lambda value: value.flip(2), "a box leaves its input"),
        ("regions.boxes.0", lambda value: value[:, :2], "boxes"),
        ("regions.boxes.0", lambda value: value.float(), "boxes"),
        ("regions.shape.0", lambda value: torch.tensor([3, 2**31, 2**31]), "of shape (3, 2147"),
        ("regions.shape.0", lambda value: torch.tensor([3, 8, 8 | 1 << 29]), "of shape (3, 8, 5"),
        ("regions.shape.0", lambda value: torch.tensor([3, -8, -8]), "of shape (3, -8, -8)"),
        ("regions.other", lambda value: torch.zeros(1), "'other'"),
        ("regions.scale.0.boxes.0", lambda value: torch.zeros(1), "shapes"),
    ],
)
def test_a_map_with_made_up_tensors_is_refused(name, change, words, maps, tmp_path):
    path = rewritten(maps["windows"], tmp_path, change={name: change})
    refused(("`path`", "made.safetensors", words), lambda: InfoMap.load(path))


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("labels", "regions.labels.0", lambda value: value + 1),
        ("labels", "regions.labels.0", lambda value: value - 1),
        ("labels", "regions.labels.0", lambda value: value[..., :5]),
        ("labels", "regions.labels.0", lambda value: value.expand(3, -1, -1, -1)),
        ("masks", "regions.pixels", lambda value: value[..., :5]),
        ("masks", "regions.pixels", lambda value: value.byte()),
        ("scales", "regions.scale.1.shape.0", lambda value: value + 1),
        ("scales", "regions.scale.7.boxes.0", lambda value: torch.zeros(1, 3, 2).long()),
        ("sharp", "superpixels", lambda value: value - 1),
        ("sharp", "superpixels", lambda value: value + 128),
        ("sharp", "superpixels", lambda value: value.long()),
        ("sharp", "superpixels", lambda value: value[0]),
        ("sharp", "superpixels", lambda value: value[:, :0]),
        ("sharp", "superpixels", lambda value: value[..., :5]),
        ("sharp", "superpixels", lambda value: value.repeat(2, 1, 1, 1)),
        ("windows", "superpixels", lambda value: torch.zeros(1, 1, 8, 4).int()),
    ],
)
def test_a_map_with_made_up_regions_is_refused(kind, name, change, maps, tmp_path):
    path = rewritten(maps[kind], tmp_path, change={name: change})
    refused(("`path`", "made.safetensors", "damaged"), lambda: InfoMap.load(path))


def rewritten(infomap: InfoMap, folder: Path, *, facts=None, change=None) -> Path:
    """A map's file with other settings or tensors, and no sum."""
    infomap.save(folder / "whole")
    tensors = load_file(folder / "whole")
    with safe_open(folder / "whole", framework="pt") as file:
        metadata = dict(file.metadata())
    del metadata["sha256"]
    for name, function in (change or {}).items():
        made = function(tensors.pop(name, None))
        if made is not None:
            tensors[name] = made.contiguous()
    if isinstance(facts, dict):
        facts = json.dumps({**json.loads(metadata["facts"]), **facts})
    path = folder / "made.safetensors"
    save_file(tensors, path, metadata={**metadata, "facts": facts or metadata["facts"]})
    return path


def picture(path: Path, text: str, levels: np.ndarray) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text("captum_infomask", text)
    Image.fromarray(levels).save(path, pnginfo=info)
    return path


def test_a_header_of_a_picture_that_claims_too_much_is_refused(tmp_path):
    path = picture(tmp_path / "bits.png", "{}", np.zeros((4, 4), np.uint16))
    content = path.read_bytes()
    for width, height in ((60_000, 60_000), (9_000, 9_000)):
        head = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        made = content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
        path.write_bytes(made)
        assert peak(lambda: read_png(path), ("bits.png", "pixels")) < 1 << 22


@pytest.mark.parametrize("text", ["[" * 100_000, '{"unit": "bits", "scale": "1", "offset": 0}'])
def test_a_text_of_a_picture_that_is_no_setting_is_refused(text, tmp_path):
    path = picture(tmp_path / "bits.png", text, np.zeros((4, 4), np.uint16))
    refused(("`path`", "bits.png", "scale, offset and unit"), lambda: read_png(path))


def test_no_other_format_is_opened_as_a_picture_of_bits(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "bits.png", format="GIF")
    refused(("`path`", "bits.png"), lambda: read_png(tmp_path / "bits.png"))


COCO = {
    "images": [{"id": 7, "file_name": "7.jpg", "height": 4, "width": 6}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2],
         "segmentation": [[0, 0, 2, 0, 2, 2]]},
    ],
}  # fmt: skip


def test_damaged_ground_truth_is_refused(tmp_path):
    content = json.dumps(COCO).encode()
    for read in (read_coco_boxes, read_coco_masks):
        found = survived(content, read, tmp_path / "coco.json")
        assert not [what for what in found if what.startswith("raw")], found
    xml = (
        b"<annotation><size><width>60</width><height>40</height></size><object><name>cat</name>"
        b"<bndbox><xmin>1</xmin><ymin>11</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
        b"</annotation>"
    )
    assert_no_raw(survived(xml, read_voc_boxes, tmp_path / "voc.xml"))
    (tmp_path / "voc.xml").write_bytes(xml.replace(b">60<", b">1e18<"))
    refused(("`path`", "voc.xml"), lambda: read_voc_boxes(tmp_path / "voc.xml"))
