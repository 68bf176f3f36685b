# Random views: what is shown, how often, and that the seed alone decides.
from __future__ import annotations

import pytest
import torch
from refused import refused
from torch.nn import functional as F

from captum_infomask import Blur, Constant
from captum_infomask.critics.random_views import (
    VIEWS,
    RandomViews,
    check_kinds,
    check_strides,
    check_window_shapes,
    sizes_for,
)
from captum_infomask.engines.pixels import draw

HEIGHT, WIDTH = 9, 12


def pictures(n: int = 200) -> torch.Tensor:
    """No pixel is 0, so that what is hidden behind 0 can be seen to be."""
    return torch.rand(n, 2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) + 1


def shown(views: RandomViews, row: tuple, n: int = 200, seed: int = 0) -> torch.Tensor:
    """Which pixels of n pictures a row's views show: bool (n, H, W)."""
    images = pictures(n)
    plan = views.plan_row(images, row, torch.Generator().manual_seed(seed))
    (drawn,) = draw(plan, torch.arange(n))
    assert torch.equal(drawn != 0, (drawn == images) & (drawn != 0))
    seen = drawn != 0
    assert torch.equal(seen[:, 0], seen[:, 1])
    return seen[:, 0]


def of(*kinds: str, sizes=((3, 4),), crop_size=None, imputer=None, strides=(1, 1)) -> RandomViews:
    return RandomViews(kinds, sizes, crop_size, imputer or Constant(0), strides)


def test_a_window_is_one_full_rectangle_and_every_place_occurs():
    corners = set()
    for seen in shown(of("windows"), ("windows", (3, 4)), n=2000):
        rows, columns = seen.nonzero().T
        top, left = int(rows.min()), int(columns.min())
        corners.add((top, left))
        assert seen.sum() == 12
        assert seen[top : top + 3, left : left + 4].all()
    assert corners == {(y, x) for y in range(HEIGHT - 2) for x in range(WIDTH - 3)}


def test_strides_are_where_windows_and_patches_may_stand():
    views = of("windows", "patches", strides=(3, 2))
    corners = set()
    for seen in shown(views, ("windows", (3, 4))):
        rows, columns = seen.nonzero().T
        corners.add((int(rows.min()), int(columns.min())))
    assert corners == {(y, x) for y in (0, 3, 6) for x in (0, 2, 4, 6, 8)}
    offsets = set()
    for seen in shown(views, ("patches", (3, 4))):
        fits = {across for across in range(4) if torch.equal(seen, _snapped(seen, 0, across))}
        assert fits & {0, 2}
        offsets |= fits if len(fits) == 1 else set()
    assert offsets == {0, 2}


@pytest.mark.parametrize("strides", [0, -1, 2.0, (1,), (1, 2, 3), (1, 0), None, "2"])
def test_bad_strides(strides):
    refused(("`strides`",), lambda: check_strides(strides))


def test_the_rest_is_the_complement_of_the_window():
    views = of("windows", "rest")
    window, rest = shown(views, ("windows", (3, 4))), shown(views, ("rest", (3, 4)))
    assert torch.equal(window, ~rest)


def test_patches_fill_cells_of_a_grid_at_an_offset():
    for seen in shown(of("patches"), ("patches", (3, 4))):
        fits = [
            torch.equal(seen, _snapped(seen, down, across))
            for down in range(3)
            for across in range(4)
        ]
        assert any(fits)


def _snapped(seen: torch.Tensor, down: int, across: int) -> torch.Tensor:
    """Every cell as its first pixel is, cell by cell."""
    out = torch.empty_like(seen)
    for y in range(-down, HEIGHT, 3):
        for x in range(-across, WIDTH, 4):
            rows, columns = slice(max(y, 0), y + 3), slice(max(x, 0), x + 4)
            out[rows, columns] = seen[max(y, 0), max(x, 0)]
    return out


def test_patches_show_nothing_everything_and_all_between():
    share = shown(of("patches"), ("patches", (3, 4)), n=3000).float().mean((1, 2))
    counts = torch.histc(share, 5, 0, 1)
    assert (share == 0).sum() > 30
    assert (share == 1).sum() > 30
    assert counts.min() > 300  # of 600 each, were it exactly uniform


def test_the_whole_and_the_blank_picture():
    assert shown(of("windows"), ("whole", None)).all()
    assert not shown(of("windows"), ("blank", None)).any()


@pytest.mark.parametrize("size", [None, (5, 7)])
def test_crops_are_cut_out_and_resized(size):
    images = pictures(30)
    views = of("crops", crop_size=size)
    plan = views.plan_row(images, ("crops", (3, 4)), torch.Generator().manual_seed(0))
    (drawn,) = draw(plan, torch.arange(30))
    places = set()
    for crop, image, (top, left, bottom, right) in zip(
        drawn, images, plan.cuts.tolist(), strict=True
    ):
        assert (bottom - top, right - left) == (3, 4)
        places.add((top, left))
        cut = image[None, :, top:bottom, left:right]
        expected = F.interpolate(
            cut, size or (HEIGHT, WIDTH), mode="bilinear", antialias=True, align_corners=False
        )
        torch.testing.assert_close(crop, expected[0])
    assert len(places) > 10


def test_native_crops_keep_their_size():
    views = of("crops", "windows", crop_size="native")
    plan = views.plan(pictures(40), torch.Generator().manual_seed(0))
    sizes = set(map(tuple, plan.sizes.tolist()))
    assert sizes == {(3, 4), (HEIGHT, WIDTH)}


def test_kinds_and_sizes_are_drawn_in_equal_shares():
    images = pictures(4000)
    views = of("windows", "rest", sizes=((2, 2), (3, 4)))
    (drawn,) = draw(views.plan(images, torch.Generator().manual_seed(0)), torch.arange(4000))
    pixels = (drawn[:, 0] != 0).sum((1, 2))
    found = {count: int((pixels == count).sum()) for count in (4, 12, 108 - 4, 108 - 12)}
    assert sum(found.values()) == 4000
    assert all(abs(count - 1000) < 120 for count in found.values())  # over four deviations


def test_the_seed_decides_and_the_global_one_does_not():
    views, images = of(*VIEWS), pictures(50)

    def drawn(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)
        plan = views.plan(images, torch.Generator().manual_seed(seed))
        return draw(plan, torch.arange(50))[0]

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_hidden_pixels_take_the_imputers_values():
    images = pictures(10)
    views = of("windows", imputer=Blur(2.0))
    plan = views.plan_row(images, ("blank", None), torch.Generator().manual_seed(0))
    (drawn,) = draw(plan, torch.arange(10))
    (blurred,) = Blur(2.0).prepare((images,))(torch.arange(10), (None,))
    assert torch.equal(drawn, blurred)


def test_default_sizes_spread_over_the_shorter_side():
    assert sizes_for((1, 28, 56), None) == ((3, 3), (7, 7), (10, 10), (14, 14), (21, 21))
    assert sizes_for((3, 224, 224), None) == tuple((s, s) for s in (28, 56, 84, 112, 168))
    assert sizes_for((1, 1, 2), None) == ((1, 1),)


def test_window_shapes_are_sides_or_pairs():
    assert check_window_shapes([7, (3, 5)]) == ((7, 7), (3, 5))
    assert sizes_for((1, 28, 56), ((28, 56),)) == ((28, 56),)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (7, ("`window_shapes`", "a list", "7 (int)")),
        ([], ("`window_shapes`", "a list")),
        ([(1, 7, 7)], ("`window_shapes`", "without channels")),
        ([0], ("`window_shapes`", "at least 1")),
        ([2.5], ("`window_shapes`", "2.5")),
    ],
)
def test_bad_window_shapes(given, words):
    refused(words, lambda: check_window_shapes(given))


def test_windows_larger_than_the_pictures():
    refused(("`window_shapes`", "28 × 56", "29 × 7"), lambda: sizes_for((1, 28, 56), ((29, 7),)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("windows", ("`views`", "at least one of")),
        ((), ("`views`", "at least one of")),
        (("rest", "rest"), ("`views`", "each once")),
        (("window",), ("`views`", "Did you mean 'windows'?")),
    ],
)
def test_bad_views(given, words):
    refused(words, lambda: check_kinds(given))
