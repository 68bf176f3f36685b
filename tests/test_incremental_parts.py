# The incremental engine's parts against loops: what changes, boxes, windows of them, pools.
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn import functional as F

from captum_infomask.engines.incremental.boxes import (
    Box,
    BoxTable,
    Frame,
    Shape,
    frame,
    padded,
    sizes,
    through_window,
    union,
    window_of,
)
from captum_infomask.engines.incremental.view_boxes import _spans
from captum_infomask.engines.incremental.windowed_operations import average_pool

QUICK = settings(max_examples=60, deadline=None)


def outputs_that_change(start, stop, length, windows, kernel, stride, padding, dilation):
    """Which of a row's windows read an element of [start, stop), one by one."""
    return [
        window
        for window in range(windows)
        if any(
            start <= window * stride - padding + tap * dilation < stop
            and 0 <= window * stride - padding + tap * dilation < length
            for tap in range(kernel)
        )
    ]


def lengths(dims, least, most):
    return st.tuples(*[st.integers(least, most)] * dims)


@QUICK
@given(data=st.data(), dims=st.sampled_from([1, 2, 3]))
def test_what_changes_behind_a_window(data, dims):
    moves = ((1, 5), (1, 3), (0, 2), (1, 3))
    kernel, stride, padding, dilation = (data.draw(lengths(dims, *ends)) for ends in moves)
    shape = Shape(kernel, stride, padding, dilation)
    least = [max(1, r - 2 * p) for r, p in zip(shape.reach, padding, strict=True)]
    before = [data.draw(st.integers(length, 16)) for length in least]
    after = tuple(
        (n + 2 * p - r) // s + 1
        for n, p, r, s in zip(before, padding, shape.reach, stride, strict=True)
    )  # fmt: skip
    starts = [data.draw(st.integers(0, n - 1)) for n in before]
    stops = [data.draw(st.integers(a + 1, n)) for a, n in zip(starts, before, strict=True)]
    (found,) = through_window(np.array([[*starts, *stops]]), shape, after)
    for axis in range(dims):
        changed = outputs_that_change(
            starts[axis], stops[axis], before[axis], after[axis],
            kernel[axis], stride[axis], padding[axis], dilation[axis],
        )  # fmt: skip
        first, last = found[axis], found[axis + dims]
        assert 0 <= first < last <= after[axis]
        if dilation[axis] == 1:
            assert last - first == max(len(changed), 1)
        if changed:
            assert first <= changed[0]
            assert changed[-1] < last
            # No larger than it must be but for the gaps between a window's elements.
            assert changed[0] - first < dilation[axis]
            assert last - 1 - changed[-1] < dilation[axis]


@pytest.mark.parametrize(
    ("before", "after"), [((9, 7), (4, 3)), ((9, 7), (5, 4)), ((8, 8), (4, 4))]
)
def test_what_is_read_beyond_a_map(before, after):
    shape = Shape((3, 2), (2, 2), (1, 0), (1, 2))
    read = [
        max(window * s - p + (k - 1) * d for window in range(count))
        for count, s, p, k, d in zip(after, (2, 2), (1, 0), (3, 2), (1, 2), strict=True)
    ]
    wanted = [max(0, last - n + 1) for last, n in zip(read, before, strict=True)]
    assert list(shape.beyond(before, after)) == wanted


def test_points():
    assert Shape.of(2, 1).is_point
    assert not Shape.of(2, 1, (1, 2)).is_point
    assert not Shape.of(2, 1, 1, (0, 1)).is_point
    assert not Shape.of(2, (1, 2), 1).is_point
    assert Shape.of(2, 1, 1, dilation=3).is_point


@st.composite
def spans_of_a_map(draw, dims):
    corners = st.tuples(*[lengths(dims, 0, 9)] * 2)
    drawn = np.array(draw(st.lists(corners, min_size=1, max_size=6)))
    return np.concatenate([drawn.min(1), drawn.max(1) + 1], axis=1)


@QUICK
@given(data=st.data(), dims=st.sampled_from([1, 2, 3]))
def test_frames_hold_what_changes(data, dims):
    spans, size = data.draw(spans_of_a_map(dims)), data.draw(lengths(dims, 10, 13))
    found = frame(spans, size)
    longest = (spans[:, dims:] - spans[:, :dims]).max(0)
    area = math.prod(longest.tolist())
    if found is None:
        assert area >= 0.85 * math.prod(size)
        return
    assert found.size == tuple(longest)
    assert found.area == area < 0.85 * math.prod(size)
    assert found.covers(spans)
    assert (found.origin >= 0).all()
    assert (found.origin + longest <= size).all()
    moved = Frame(found.origin + np.eye(dims, dtype=int)[-1], found.size)
    assert moved.covers(spans) == bool((spans[:, dims - 1] > found.origin[:, -1]).all())


def places_of(span):
    starts, stops = np.split(span, 2)
    return set(itertools.product(*map(range, starts, stops)))


@QUICK
@given(data=st.data(), dims=st.sampled_from([1, 2, 3]))
def test_unions(data, dims):
    one = data.draw(spans_of_a_map(dims))
    other = np.array(data.draw(st.permutations(one.tolist())))
    for made, a, b in zip(union([one, other, one]), one, other, strict=True):
        both = np.array(sorted(places_of(a) | places_of(b)))
        assert made.tolist() == [*both.min(0), *(both.max(0) + 1)]


@pytest.mark.parametrize("shape", [(7,), (6, 7), (4, 5, 6)])
def test_spans_of_masks(shape):
    torch.manual_seed(0)
    marked = torch.rand(9, *shape) < 2 / math.prod(shape)
    marked.movedim(0, -1)[(0,) * len(shape)] |= ~marked.flatten(1).any(1)
    found = _spans(marked)
    for span, mask in zip(found, marked, strict=True):
        places = mask.nonzero()
        assert span.tolist() == [*places.amin(0).tolist(), *(places.amax(0) + 1).tolist()]
    assert len(np.unique(found, axis=0)) > 3


SIDES = (6, 7, 5)
BEYOND = (2, 3, 1)


def random_table(bases, size, channels, padding):
    """A table and, by loops, what stands at a place of it: the map, or 9 around it."""
    inner = torch.randn(bases, *size, channels)
    beyond = BEYOND[: len(size)]
    values = padded(inner, (*padding, 0), (*beyond, 0), 9.0).contiguous()
    table = BoxTable(values, padding, size)
    assert values.shape[1:-1] == torch.Size(map(sum, zip(size, padding, beyond, strict=True)))
    assert torch.equal(table.map.movedim(1, -1), inner)

    def at(base, place):
        inside = all(0 <= p < n for p, n in zip(place, size, strict=True))
        return inner[(base, *place)] if inside else torch.full((channels,), 9.0)

    return table, at


@st.composite
def boxes_and_windows(draw):
    """A table, boxes in its map, and windows of the padded map; some boxes lie outside of them."""
    dims = draw(st.sampled_from([1, 2, 3]))
    bases, views = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    size, beyond = SIDES[:dims], BEYOND[:dims]
    padding, step, shape = (draw(lengths(dims, *ends)) for ends in ((0, 2), (1, 3), (1, 2)))
    box = tuple(draw(st.integers(1, n)) for n in size)

    def places(least, most):
        place = st.tuples(*map(st.integers, least, most))
        return np.array([draw(place) for _ in range(views)])

    last = [n + e - (k - 1) * s - 1 for n, e, k, s in zip(size, beyond, shape, step, strict=True)]
    origin = places([-p for p in padding], last)
    held = places([0] * dims, [n - k for n, k in zip(size, box, strict=True)])
    of_views = np.array([draw(st.integers(0, bases - 1)) for _ in range(views)])
    return bases, size, padding, step, shape, box, origin, held, of_views


@QUICK
@given(made=boxes_and_windows())
def test_windows_of_boxes_amid_the_base(made):
    bases, size, padding, step, shape, box_size, origin, held, of_views = made
    table, at = random_table(bases, size, 2, padding)
    before = table.values.clone()
    box = Box(torch.randn(len(origin), 2, *box_size), Frame(held, box_size))
    which = None if bases == 1 else of_views
    plain = table.window(which, origin, shape, step)
    found = window_of(box, table, which, origin, shape, step)
    assert plain.shape == (len(origin), *shape, 2)
    assert found.shape == (len(origin), 2, *shape)
    for view, *inside in itertools.product(*map(range, (len(origin), *shape))):
        place = origin[view] + np.array(inside) * step
        wanted = at(0 if bases == 1 else of_views[view], place)
        assert torch.equal(plain[(view, *inside)], wanted)
        offset = place - held[view]
        if (offset >= 0).all() and (offset < box_size).all():
            wanted = box.values[(view, slice(None), *offset)]
        assert torch.equal(found[(view, slice(None), *inside)], wanted)
    assert torch.equal(table.values, before)


@QUICK
@given(made=boxes_and_windows(), whole=st.booleans())
def test_what_views_show_becomes_their_bases(made, whole):
    bases, size, padding, _, _, box_size, _, held, _ = made
    held = held[:bases]
    table, _ = random_table(bases, size, 2, padding)
    of_views = np.random.permutation(bases)[: len(held)]
    before = table.values.clone()
    values = torch.randn(len(held), 2, *(size if whole else box_size))
    table.write(of_views, Box(values, None if whole else Frame(held, box_size)))
    wanted = before.clone()
    for view, base in enumerate(of_views):
        start = np.array(padding) + (0 if whole else held[view])
        spot = tuple(map(slice, start, start + values.shape[2:]))
        wanted[(base, *spot)] = values[view].movedim(0, -1)
    assert torch.equal(table.values, wanted)
    assert not torch.equal(before, wanted)


POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, (3, 2, 3)])
@pytest.mark.parametrize("stride", [1, 2, (3, 1, 2)])
@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("divisor", [None, 5])
def test_average_pools_by_position(dims, kernel, stride, is_padded, ceil_mode, include, divisor):
    kernel, stride = sizes(3, kernel)[:dims], sizes(3, stride)[:dims]
    padding = tuple(k // 2 for k in kernel) if is_padded else 0
    settings = (ceil_mode, include) if dims == 1 else (ceil_mode, include, divisor)
    shape = Shape.of(dims, kernel, stride, padding)
    maps = torch.rand(2, 3, *(8, 9, 7)[:dims], dtype=torch.float64)
    wanted = POOLS[dims](maps, kernel, stride, padding, *settings)
    after = tuple(wanted.shape[2:])
    pool = average_pool(shape, settings, maps[:1])
    assert torch.equal(pool.whole(maps), wanted)
    beyond = shape.beyond(tuple(maps.shape[2:]), after)
    found = pool.apply(padded(maps, shape.padding, beyond, 0.0), stride)
    found = found[(slice(None), slice(None), *map(slice, after))]
    if pool.factors is not None:
        assert pool.factors.size == after
        found = found * pool.factors.map
    elif divisor and dims > 1:
        assert divisor == math.prod(kernel)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)
