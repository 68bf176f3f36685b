# What is written to disk comes back: PNG with bits, score maps, run lengths.
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin

from captum_infomask import ArgumentError
from captum_infomask._run_length import decode
from captum_infomask.evaluation.voc_wsol_files import export_wsol
from captum_infomask.masks.outlines import masks_to_run_length
from captum_infomask.masks.png import read_png, save_png

LEVELS = 65535


@given(
    arrays("float32", (5, 7), elements=st.floats(-30, 30, width=32)),
    st.sampled_from([1e-20, 1.0, 1e20]),
    st.sampled_from([0.0, 1000.0]),
)
@settings(deadline=None, max_examples=100)
def test_png_gives_bits_back_to_half_a_grey_level(tmp_path_factory, values, scale, offset):
    path = tmp_path_factory.mktemp("png") / "bits.png"
    bits = torch.from_numpy(values.astype(np.float64) * scale + offset)[None, None]
    save_png(bits.expand(1, 3, 5, 7), path)
    back = read_png(path)
    assert back.shape == (1, 1, 5, 7)
    assert back.dtype == torch.float64
    low, high = bits.min(), bits.max()
    rounding = 4 * torch.finfo(torch.float64).eps * bits.abs().max()
    assert (back - bits).abs().max() <= (high - low) / (2 * LEVELS) + rounding
    assert back.flatten()[bits.argmin()] == low  # the ends are exact


def test_png_is_grey_of_16_bits_and_bright_where_bits_are_many(tmp_path):
    bits = torch.tensor([[[[-2.0, 0.0], [1.0, 8.0]]]])
    save_png(bits, tmp_path / "bits.png")
    with Image.open(tmp_path / "bits.png") as picture:
        assert picture.mode.startswith("I")
        levels = np.asarray(picture).astype(int)
        text = json.loads(picture.text["captum_infomask"])
    assert levels.tolist() == [[0, 13107], [19660, 65535]] or levels[1, 0] == 19661
    assert text["unit"] == "bits"
    assert text["scale"] == 10 / LEVELS
    assert text["offset"] == -2


def test_png_knows_its_unit(tmp_path):
    nats = torch.tensor([[[[0.0, math.log(2)], [math.log(4), -math.log(2)]]]])
    save_png(nats, tmp_path / "nats.png", unit="nats")
    bits = read_png(tmp_path / "nats.png")
    assert torch.allclose(bits, torch.tensor([[[[0.0, 1], [2, -1]]]]).double(), atol=3 / LEVELS)
    again = read_png(tmp_path / "nats.png", unit="nats")
    assert torch.allclose(again, nats.double(), atol=3 / LEVELS)


def test_png_leaves_what_it_writes_alone(tmp_path):
    bits = torch.rand(1, 1, 4, 4, dtype=torch.float16).requires_grad_()
    before = bits.detach().clone()
    save_png(bits, tmp_path / "bits.png")
    assert torch.equal(bits, before)
    assert not read_png(tmp_path / "bits.png").requires_grad


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (torch.rand(2, 1, 4, 4), ["(1, C, H, W)", "attributions[i : i + 1]"]),
        (torch.rand(4, 4), ["(1, C, H, W)", "(4, 4)"]),
        (np.zeros((1, 1, 4, 4)), ["(1, C, H, W)", "numpy"]),
        (torch.zeros(1, 1, 4, 4, dtype=torch.int64), ["int64"]),
        (torch.zeros(1, 1, 0, 4), ["(1, 1, 0, 4)"]),
        (torch.full((1, 1, 4, 4), torch.nan), ["NaN"]),
        (torch.full((1, 1, 4, 4), -torch.inf), ["infinity"]),
        (torch.tensor([[[[-1.7e308, 1.7e308]]]], dtype=torch.float64), ["range"]),
        (torch.eye(3).reshape(1, 3, 1, 3), ["channels", "sum(1, keepdim=True)"]),
    ],
)
def test_bad_attributions_for_png(tmp_path, bits, words):
    with pytest.raises(ArgumentError) as caught:
        save_png(bits, tmp_path / "bits.png")
    assert all(word in str(caught.value) for word in ["`attributions`", *words]), str(caught.value)
    assert not list(tmp_path.iterdir())


def test_bad_files_for_png(tmp_path):
    bits = torch.rand(1, 1, 4, 4)
    with pytest.raises(ArgumentError, match="`path`"):
        save_png(bits, tmp_path / "nowhere" / "bits.png")
    with pytest.raises(ArgumentError, match="`unit`"):
        save_png(bits, tmp_path / "bits.png", unit="bit")
    path = tmp_path / "bits.png"
    with pytest.raises(ArgumentError, match=r"`path`.*bits\.png"):
        read_png(path)
    path.write_bytes(b"no picture")
    with pytest.raises(ArgumentError, match=r"`path`.*bits\.png"):
        read_png(path)
    save_png(bits, path)
    with pytest.raises(ArgumentError, match="`unit`"):
        read_png(path, unit="bans")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 40])
    with pytest.raises(ArgumentError, match=r"`path`.*bits\.png"):
        read_png(path)
    path.write_bytes(whole)
    with Image.open(path) as picture:
        Image.fromarray(np.asarray(picture)).save(path)
    with pytest.raises(ArgumentError, match=r"`path`.*says nothing of scale"):
        read_png(path)


@pytest.mark.parametrize(
    ("settings_", "levels", "words"),
    [
        ("{", np.zeros((2, 2), np.uint16), ["scale, offset and unit"]),
        ("[]", np.zeros((2, 2), np.uint16), ["scale, offset and unit"]),
        ('{"unit": "bits", "scale": 1}', np.zeros((2, 2), np.uint16), ["scale, offset and unit"]),
        (
            '{"unit": "bans", "scale": 1, "offset": 0}',
            np.zeros((2, 2), np.uint16),
            ["scale, offset and unit"],
        ),
        ('{"unit": "bits", "scale": 1, "offset": 0}', np.zeros((2, 2), np.uint8), ["16-bit"]),
        ('{"unit": "bits", "scale": 1, "offset": 0}', np.zeros((2, 2, 3), np.uint8), ["16-bit"]),
        (
            '{"unit": "bits", "scale": NaN, "offset": 0}',
            np.zeros((2, 2), np.uint16),
            ["scale, offset and unit"],
        ),
    ],
)
def test_changed_png_files(tmp_path, settings_, levels, words):
    text = PngImagePlugin.PngInfo()
    text.add_text("captum_infomask", settings_)
    Image.fromarray(levels).save(tmp_path / "bits.png", pnginfo=text)
    with pytest.raises(ArgumentError) as caught:
        read_png(tmp_path / "bits.png")
    assert all(word in str(caught.value) for word in ["`path`", *words]), str(caught.value)


def test_score_maps_are_what_the_evaluation_code_asks_for(tmp_path):
    bits = torch.randn(3, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    bits[2] = 4.0
    keys = ["val/n01/1.jpeg", "val/n02/1.jpeg", "2.jpg"]
    paths = export_wsol(bits, keys, tmp_path / "maps")
    assert paths == [tmp_path / "maps" / f"{key}.npy" for key in keys]
    for n, path in enumerate(paths):
        score_map = np.load(path)
        assert score_map.dtype == np.float64  # what that code's np.float is
        assert score_map.shape == (6, 8)
        sums = bits[n].double().sum(0)
        want = (sums - sums.min()) / (sums.max() - sums.min()) if n < 2 else torch.zeros(6, 8)
        assert np.allclose(score_map, want, atol=1e-12)
        if n < 2:
            assert (score_map.min(), score_map.max()) == (0, 1)
    several = export_wsol([bits[0], bits[1, :, :3]], ["a", "b"], tmp_path)
    assert [np.load(path).shape for path in several] == [(6, 8), (3, 8)]
    assert np.array_equal(np.load(several[0]), np.load(paths[0]))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["a"], ["`keys`", "2 image ids"]),
        ("ab", ["`keys`", "'ab'"]),
        (["a", 2], ["`keys`", "got 2"]),
        (["a", "../b"], ["`keys`", "inside the folder", "'../b'"]),
        (["a", "/b"], ["`keys`", "inside the folder", "'/b'"]),
        (["a", ""], ["`keys`", "inside the folder", "''"]),
        (["a", "a"], ["`keys`", "'a' twice"]),
    ],
)
def test_bad_keys(tmp_path, keys, words):
    with pytest.raises(ArgumentError) as caught:
        export_wsol(torch.rand(2, 1, 4, 4), keys, tmp_path)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not list(tmp_path.iterdir())


def test_bad_maps_and_folders(tmp_path):
    with pytest.raises(ArgumentError, match=r"`attributions`.*NaN"):
        export_wsol(torch.full((1, 1, 2, 2), torch.nan), ["a"], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="`folder`"):
        export_wsol(torch.rand(1, 1, 2, 2), ["a"], tmp_path / "file")


@given(arrays("bool", (2, 3, 5, 4)))
@settings(deadline=None, max_examples=50)
def test_run_lengths_come_back(array):
    masks = torch.from_numpy(array)
    for mask, written in zip(masks, masks_to_run_length((masks,)), strict=True):
        assert written["size"] == [5, 4]
        assert torch.equal(decode(json.loads(json.dumps(written))), mask.any(0))


def test_bad_masks_for_run_lengths():
    with pytest.raises(ArgumentError, match=r"`masks`.*float32"):
        masks_to_run_length(torch.rand(1, 1, 2, 2))
