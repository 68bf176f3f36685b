"""Masks, components, boxes and files of signals (N, C, T) and volumes (N, C, D, H, W)."""

from __future__ import annotations

import itertools
import sys

import nibabel
import numpy as np
import pytest
import torch
from refused import refused
from torch import Tensor

from captum_infomask import InfoMask, MaxFraction, bounding_boxes, grid, threshold_mask
from captum_infomask.masks import AtLeast, Hysteresis, clean_masks, contours
from captum_infomask.masks.outlines import masks_to_run_length
from captum_infomask.masks.volume_files import save_nifti, save_npy

SIDES = {1: (24,), 2: (9, 11), 3: (6, 7, 8)}
PLACES = sorted(SIDES)


def speckled(places: int, share: float = 0.25, n: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(places)
    return torch.rand(n, 2, *SIDES[places], generator=generator) < share / 2


def parts_of(mask: Tensor, *, corners: bool) -> list[set[tuple[int, ...]]]:
    """The connected parts of one mask (...), in reading order, by a flood."""
    left = {tuple(place) for place in mask.nonzero().tolist()}
    steps = [
        step
        for step in itertools.product((-1, 0, 1), repeat=mask.dim())
        if any(step) and (corners or sum(map(abs, step)) == 1)
    ]
    parts = []
    while left:
        todo, part = [min(left)], set()
        while todo:
            place = todo.pop()
            if place in left:
                left.discard(place)
                part.add(place)
                todo += [tuple(np.add(place, step).tolist()) for step in steps]
        parts.append(part)
    return parts


def box_of(part: set[tuple[int, ...]]) -> list[int]:
    """The starts of x, y, z and then their stops: the last place is x."""
    places = np.array(sorted(part))[:, ::-1]
    return [*places.min(0).tolist(), *(places.max(0) + 1).tolist()]


@pytest.mark.parametrize("places", PLACES)
def test_boxes_are_around_connected_parts_largest_first(places):
    masks = speckled(places)
    masks[2] = False
    boxes, largest = bounding_boxes(masks, keep="all"), bounding_boxes(masks)
    for image in range(2):
        parts = parts_of(masks[image].any(0), corners=True)
        want = [box_of(part) for part in sorted(parts, key=len, reverse=True)]
        assert boxes[image].tolist() == want
        assert largest[image].tolist() == want[:1]
        assert len(want) > 1
    assert boxes[2].shape == (0, 2 * places)
    assert boxes[2].dtype == torch.long


def test_boxes_of_a_known_volume():
    mask = torch.zeros(1, 1, 6, 7, 8, dtype=torch.bool)
    mask[..., 1:3, 2:5, 4:8] = True
    (box,) = bounding_boxes(mask)
    assert box.tolist() == [[4, 2, 1, 8, 5, 3]]
    x0, y0, z0, x1, y1, z1 = box[0].tolist()
    assert bool(mask[..., z0:z1, y0:y1, x0:x1].all())
    assert bounding_boxes(mask[:, :, 2, 2])[0].tolist() == [[4, 8]]


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("smallest", [2, 4])
def test_small_parts_and_holes_are_removed(places, smallest):
    mask = speckled(places, share=0.5, n=1)
    found = clean_masks(mask, min_area=smallest)[0]
    want = torch.zeros(SIDES[places], dtype=torch.bool)
    for part in parts_of(mask[0].any(0), corners=True):
        for place in part if len(part) >= smallest else ():
            want[place] = True
    for hole in parts_of(~want, corners=False):
        for place in hole if len(hole) < smallest else ():
            want[place] = True
    assert torch.equal(found[0], want)
    assert torch.equal(found[1], want)
    assert not torch.equal(mask[0].any(0), want)


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("radius", [1, 2])
def test_outlines_are_smoothed_by_the_ball_around_each_place(places, radius):
    mask = speckled(places, share=0.6, n=1)
    found = clean_masks(mask, smooth=radius)[0, 0]
    before = mask[0].any(0)
    ball = [
        step
        for step in itertools.product(range(-radius, radius + 1), repeat=places)
        if sum(d * d for d in step) <= radius**2
    ]
    for place in itertools.product(*map(range, SIDES[places])):
        votes = []
        for step in ball:
            at = []
            for p, d, n in zip(place, step, SIDES[places], strict=True):
                inside = p + d
                at.append(-1 - inside if inside < 0 else min(inside, 2 * n - 1 - inside))
            votes.append(bool(before[tuple(at)]))
        assert bool(found[place]) == (sum(votes) > len(ball) / 2)
    assert not torch.equal(found, before)


@pytest.mark.parametrize("places", PLACES)
def test_hysteresis_keeps_parts_with_a_strong_element(places):
    values = torch.rand(1, 1, *SIDES[places], generator=torch.Generator().manual_seed(3))
    low, high = (0.6, 0.9) if places < 3 else (0.9, 0.98)
    mask = threshold_mask(values, Hysteresis(AtLeast(low), AtLeast(high)))[0, 0]
    want = torch.zeros(SIDES[places], dtype=torch.bool)
    parts = parts_of(values[0, 0] >= low, corners=True)
    kept = [part for part in parts if any(float(values[0, 0][at]) >= high for at in part)]
    for place in itertools.chain(*kept):
        want[place] = True
    assert torch.equal(mask, want)
    assert 0 < len(kept) < len(parts)


def network(x: Tensor) -> Tensor:
    """Class 1 is as likely as the mean of the first quarter of all values says."""
    half = x.flatten(1)[:, : x[0].numel() // 4].mean(1)
    return torch.stack([torch.zeros_like(half), 5 * half], 1)


@pytest.mark.parametrize("places", PLACES)
def test_masks_and_boxes_of_a_map_follow(places):
    x = torch.ones(1, 1, *[8] * places)
    infomap = InfoMask(network).score_regions(
        x, target=1, view="drop", regions=grid(x, *[4] * places)
    )
    mask = infomap.mask(MaxFraction(0.5), min_area=2)
    assert mask.shape == x.shape
    quarter = torch.zeros(8, dtype=torch.bool)
    quarter[:2] = True
    want = quarter.reshape(8, *[1] * (places - 1)).expand(mask.shape[2:])
    assert torch.equal(mask[0, 0], want)
    box = infomap.boxes(MaxFraction(0.5))[0].tolist()
    assert box == [[*[0] * places, *[8] * (places - 1), 2]]
    assert contours(mask)[0][0].shape[1] == 2 if places == 2 else True


@pytest.mark.parametrize("call", [contours, masks_to_run_length])
def test_outlines_are_of_planes(call):
    refused(("`masks` of images", "masks[:, :, k]"), lambda: call(torch.ones(1, 1, 3, 4, 5) > 0))
    refused(("`masks` of images", "unsqueeze"), lambda: call(torch.ones(1, 4, 5) > 0))


# --- files ---------------------------------------------------------------------------------------

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 0, 1.5, -126], [0, 3.0, 0, -72], [0, 0, 0, 1]])


def a_map(places: int = 3) -> tuple[Tensor, object]:
    x = torch.randn(2, 1, *SIDES[places], generator=torch.Generator().manual_seed(0))
    counts = [2] * places
    infomap = InfoMask(network).score_regions(x, target=1, view="drop", regions=grid(x, *counts))
    return infomap.attributions(), infomap


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axes", ["zyx", "xyz"])
def test_nifti_goes_and_comes_back(tmp_path, ending, axes):
    bits, infomap = a_map()
    file = tmp_path / f"bits{ending}"
    infomap.export(file, 1, affine=AFFINE, axes=axes)
    image = nibabel.load(file)
    back = np.asarray(image.dataobj)
    volume = bits[1, 0].numpy()
    assert back.dtype == np.float32
    assert np.array_equal(back, volume.transpose(2, 1, 0) if axes == "zyx" else volume)
    assert np.array_equal(image.affine, AFFINE)
    assert image.header["descrip"].item() == b"captum_infomask, bits"
    assert image.header.get_xyzt_units()[0] == "mm"
    assert float(np.abs(back).max()) > 0.1
    # The voxel with the most bits lies at the same millimetres.
    x, y, z = np.unravel_index(back.argmax(), back.shape)
    peak = (z, y, x) if axes == "zyx" else (x, y, z)
    assert float(volume[peak]) == float(volume.max())


def test_equal_maps_make_equal_files(tmp_path):
    _, infomap = a_map()
    for name in ("one.nii.gz", "two.nii.gz"):
        infomap.export(tmp_path / name)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()
    assert np.array_equal(nibabel.load(tmp_path / "one.nii.gz").affine, np.eye(4))


def test_the_scans_own_space_is_kept(tmp_path):
    bits, infomap = a_map()
    scan = nibabel.Nifti1Image(np.zeros(SIDES[3][::-1], np.int16), AFFINE)
    scan.set_sform(AFFINE, code="mni")
    scan.header.set_xyzt_units("mm", "sec")
    infomap.export(tmp_path / "bits.nii", like=scan)
    image = nibabel.load(tmp_path / "bits.nii")
    assert np.array_equal(image.affine, AFFINE)
    assert int(image.header["sform_code"]) == 4
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.get_data_dtype() == np.float32
    assert np.array_equal(image.get_fdata().astype(np.float32), bits[0, 0].numpy().T)
    assert scan.get_data_dtype() == np.int16
    mgh = nibabel.MGHImage(np.zeros(SIDES[3][::-1], np.float32), AFFINE)
    infomap.export(tmp_path / "of_mgh.nii", like=mgh)
    assert np.allclose(nibabel.load(tmp_path / "of_mgh.nii").affine, mgh.affine)


def test_a_mask_as_nifti(tmp_path):
    bits, _infomap = a_map()
    mask = bits > bits.mean()
    save_nifti(mask[:1], tmp_path / "mask.nii", affine=AFFINE)
    image = nibabel.load(tmp_path / "mask.nii")
    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(image.dataobj), mask[0, 0].numpy().T)
    assert image.header["descrip"].item() == b"captum_infomask, mask"


def test_nats_say_so(tmp_path):
    bits, _ = a_map()
    save_nifti(bits[:1], tmp_path / "nats.nii", unit="nats")
    header = nibabel.load(tmp_path / "nats.nii").header
    assert header["descrip"].item() == b"captum_infomask, nats"


@pytest.mark.parametrize("places", PLACES)
def test_arrays_of_any_input(tmp_path, places):
    bits, infomap = a_map(places)
    infomap.export(tmp_path / "bits.npy", 1)
    assert np.array_equal(np.load(tmp_path / "bits.npy"), bits[1].numpy())
    if places == 2:
        infomap.export(tmp_path / "bits.png")
        assert (tmp_path / "bits.png").stat().st_size > 0


def test_a_tuple_of_one_input(tmp_path):
    x = torch.rand(1, 1, 4, 4, 4)
    infomap = InfoMask(network).score_regions((x,), target=1, view="drop", regions=grid(x, 2, 2, 2))
    infomap.export(tmp_path / "bits.npy")
    assert np.load(tmp_path / "bits.npy").shape == (1, 4, 4, 4)


@pytest.mark.parametrize(
    ("words", "name", "options"),
    [
        (("`path`", ".nii.gz, .npy or .png", "bits.jpg", "save(path)"), "bits.jpg", {}),
        (("`k` from 0 to 1",), "bits.nii", {"k": 2}),
        (("`affine`", "4 × 4"), "bits.nii", {"affine": np.eye(3)}),
        (("`affine`", "4 × 4"), "bits.nii", {"affine": np.zeros((4, 4))}),
        (("`affine`", "4 × 4", "'mine'"), "bits.nii", {"affine": "mine"}),
        (("`affine`, `like` and `axes`", "bits.npy"), "bits.npy", {"affine": np.eye(4)}),
        (("`axes`", "'zyx'"), "bits.nii", {"axes": "zxy"}),
        (("`like`", "nibabel image"), "bits.nii", {"like": np.eye(4)}),
        (("one of `affine` and `like`",), "bits.nii",
         {"affine": np.eye(4), "like": nibabel.Nifti1Image(np.zeros((8, 7, 6)), np.eye(4))}),
        (("`like`", "(8, 7, 6)", "Pass the other `axes`"), "bits.nii",
         {"like": nibabel.Nifti1Image(np.zeros((6, 7, 8)), np.eye(4))}),
    ],
)  # fmt: skip
def test_bad_files_are_refused(tmp_path, words, name, options):
    _, infomap = a_map()
    refused(words, lambda: infomap.export(tmp_path / name, **options))
    assert list(tmp_path.iterdir()) == []


def test_bad_maps_are_refused(tmp_path):
    file = tmp_path / "bits.nii"
    for words, given in (
        (("one volume", "(1, C, D, H, W)"), torch.rand(2, 1, 4, 4, 4)),
        (("one volume",), torch.rand(1, 1, 4, 4)),
        (("channels are alike",), torch.rand(1, 2, 4, 4, 4)),
        (("NaN",), torch.full((1, 1, 2, 2, 2), torch.nan)),
        (("one volume", "int64"), torch.ones(1, 1, 2, 2, 2).long()),
    ):
        refused(("`attributions`", *words), lambda given=given: save_nifti(given, file))
    refused(("`path`", ".nii"), lambda: save_nifti(torch.rand(1, 1, 2, 2, 2), tmp_path / "a.img"))
    refused(("`path`", ".npy"), lambda: save_npy(torch.rand(1, 2), tmp_path / "a.txt"))
    refused(
        ("`attributions`", "one example"), lambda: save_npy(torch.rand(2, 2), tmp_path / "a.npy")
    )
    pair = (torch.rand(1, 2), torch.rand(1, 2))
    two = InfoMask(lambda a, b: a + b).score_regions(pair, target=0)
    refused(("one input", "2"), lambda: two.export(tmp_path / "a.npy"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_nibabel_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ModuleNotFoundError, match=r"captum-infomask\[volumes\]"):
        save_nifti(torch.rand(1, 1, 2, 2, 2), tmp_path / "bits.nii")
