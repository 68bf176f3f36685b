import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from refused import refused

from captum_infomask._run_length import decode, encode

ROWS, COLUMNS = np.mgrid[:40, :60]
BOX = np.zeros((5, 7), bool)
BOX[1:4, 2:6] = True
CORNERS = np.zeros((300, 400), bool)
CORNERS[0, 0] = CORNERS[299, 399] = True

# What pycocotools 2.0 writes for these masks.
KNOWN = {
    "empty": (np.zeros((3, 4), bool), "<"),
    "full": (np.ones((3, 4), bool), "0<"),
    "box": (BOX, ";32000004"),
    "disc": (
        (ROWS - 20) ** 2 + (COLUMNS - 25) ** 2 <= 225,
        "T=1R1:I4L4M2N2N2O0O2O0O2O0000000O20N100000001N101N101N2N2N3L4L7FYg0",
    ),
    "checker": ((ROWS + COLUMNS)[:6, :6] % 2 == 1, "1110010O0010O0010O0010O0010O000"),
    "corners": (CORNERS, "01nUe30"),
    "stripes": ((COLUMNS**2 + ROWS)[:5, :9] % 4 == 0, "013000N02000N02000N02000N020"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_strings_are_pycocotools(name):
    mask, counts = KNOWN[name]
    tensor = torch.from_numpy(np.ascontiguousarray(mask))
    assert encode(tensor) == {"size": list(mask.shape), "counts": counts}
    for form in (counts, counts.encode()):
        assert torch.equal(decode({"size": list(mask.shape), "counts": form}), tensor)


@st.composite
def random_masks(draw):
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    flat = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return torch.tensor(flat).reshape(height, width)


@pytest.mark.slow
@given(random_masks())
@settings(deadline=None, max_examples=150)
def test_round_trip_through_json(mask):
    again = decode(json.loads(json.dumps(encode(mask))))
    assert again.dtype == torch.bool
    assert torch.equal(again, mask)


@given(st.lists(st.integers(1, 70_000), min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_long_runs_round_trip(runs):
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask = torch.from_numpy(pixels)[None]
    assert torch.equal(decode(encode(mask)), mask)


@given(random_masks())
@settings(deadline=None, max_examples=60)
def test_plain_counts_are_runs_down_the_columns(mask):
    pixels = [
        bool(mask[row, column]) for column in range(mask.shape[1]) for row in range(len(mask))
    ]
    counts = [len(list(group)) for _, group in itertools.groupby(pixels)]
    counts = [0, *counts] if pixels[0] else counts
    assert torch.equal(decode({"size": list(mask.shape), "counts": counts}), mask)


def test_runs_of_no_pixel_are_allowed():
    mask = decode({"size": (1, 4), "counts": [1, 0, 0, 1, 2]})
    assert mask.tolist() == [[False, True, False, False]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([3, 1], ("`rle`", "'size'", "[3, 1]")),
        ({"size": [2, 2]}, ("`rle`", "'counts'")),
        ({"size": [2], "counts": [4]}, ("size of `rle`", "[H, W]")),
        ({"size": [2, 0], "counts": []}, ("size of `rle`", "at least 1")),
        ({"size": [2, 2.0], "counts": [4]}, ("size of `rle`", "2.0")),
        ({"size": "22", "counts": [4]}, ("size of `rle`", "'22'")),
        ({"size": [2, 2], "counts": [1, 2]}, ("add up to 2 × 2 = 4", "3 in all")),
        ({"size": [2, 2], "counts": []}, ("add up to 2 × 2 = 4", "0 in all")),
        ({"size": [2, 2], "counts": [5, -1]}, ("at least 0", "a run of -1")),
        ({"size": [2, 2], "counts": [1.5, 2.5]}, ("list of integers", "1.5")),
        ({"size": [2, 2], "counts": None}, ("list of integers", "None")),
        ({"size": [2, 2], "counts": "1 3"}, ("characters", "' '", "place 1")),
        ({"size": [2, 2], "counts": "1ä"}, ("characters", "'ä'", "place 1")),
        ({"size": [2, 2], "counts": b"1~"}, ("characters", "b'~'", "place 1")),
        ({"size": [2, 2], "counts": "1P"}, ("whole number", "cut off", "2 characters")),
        ({"size": [2, 2], "counts": "12"}, ("add up to 2 × 2 = 4", "3 in all")),
    ],
)
def test_bad_run_lengths(given, words):
    refused(words, lambda: decode(given, name="rle"))


def test_another_size_than_wanted():
    run_lengths = {"size": [10**6, 10**6], "counts": [10**12]}
    refused(
        ("`rle`", "[4, 6]", "[1000000, 1000000]"),
        lambda: decode(run_lengths, name="rle", size=(4, 6)),
    )


@pytest.mark.parametrize(
    "mask", [torch.zeros(2, 2), torch.zeros(4) > 0, torch.zeros(0, 2) > 0, [[True]]]
)
def test_only_boolean_planes_are_encoded(mask):
    refused(("`mask`", "boolean tensor (H, W)"), lambda: encode(mask))
