import pytest
import torch
from torch.nn import functional as F

from captum_infomask import (
    ArgumentError,
    Constant,
    InfoMask,
    from_feature_mask,
    grid,
    sliding_windows,
)
from captum_infomask.engines.pixels import draw
from captum_infomask.views.view_plan import Scene, ViewPlan, region_pairs

VIEWS = ("crop", "keep", "drop")


class Recorder:
    """A forward function that writes down the batches it is shown."""

    def __init__(self, answer=lambda x: x.flatten(2).mean(2)[:, :2] * 5):
        self.answer = answer
        self.shapes = []

    def __call__(self, x, *rest):
        self.shapes.append(tuple(x.shape))
        return self.answer(x, *rest)


def scene_of(inputs, regions, baselines=0.25):
    return Scene(inputs, regions, Constant(baselines).prepare(inputs))


@pytest.mark.parametrize("view", VIEWS)
def test_images_of_a_batch_fill_chunks_together(view):
    recorder = Recorder()
    x = torch.rand(3, 2, 8, 8)
    InfoMask(recorder).attribute(
        x, target=0, view=view, regions=grid(x, 4, 4), perturbations_per_eval=5
    )
    blank = [3] if view == "keep" else []
    assert [shape[0] for shape in recorder.shapes] == [3, *blank, 15, 15, 15, 3]


def test_perturbations_per_eval_counts_views_of_each_image():
    seen = []

    def which(x, image):
        seen.append(torch.bincount(image, minlength=2).tolist())
        return 9 * x.flatten(2).mean(2)[:, :2]

    x = torch.rand(2, 2, 8, 8)
    InfoMask(which).attribute(
        x, None, 0, torch.arange(2), view="drop", regions=grid(x, 2, 5), perturbations_per_eval=4
    )
    # One view by itself tells whether the argument follows the pictures.
    assert seen == [[1, 1], [1, 0], [4, 4], [4, 4], [2, 2]]


@pytest.mark.parametrize(
    ("threads", "side", "largest"),
    [
        (1, 224, 4),
        (2, 224, 4),
        (6, 224, 12),
        (64, 224, 17),
        (1, 32, 128),
        (4, 448, 2),
        (1, 1000, 1),
    ],
)
def test_the_default_chunk_suits_what_is_shown(threads, side, largest, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    recorder = Recorder()
    x = torch.rand(1, 3, side, side)
    InfoMask(recorder).attribute(
        x, target=0, view="drop", regions=grid(x, 17, 17 if side == 32 else 1)
    )
    assert max(shape[0] for shape in recorder.shapes) == largest
    if side < 256:
        recorder.shapes.clear()
        InfoMask(recorder).attribute(x, target=0, regions=grid(x, 17, 16), crop_size=(32, 32))
        assert max(shape[0] for shape in recorder.shapes) == 128


def test_native_crops_are_grouped_by_size():
    recorder = Recorder()
    x = torch.rand(2, 2, 7, 10)
    attributions = InfoMask(recorder).attribute(
        x,
        target=0,
        sliding_window_shapes=(2, 4, 4),
        strides=(2, 4, 4),
        crop_size="native",
        perturbations_per_eval=2,
    )
    # Rows 0:4 and 4:7; columns 0:4, 4:8 and 8:10: four sizes, of two images each.
    whole, *crops = recorder.shapes
    assert whole == (2, 2, 7, 10)
    expected = [(2, 2, 3, 2), (4, 2, 3, 4), (2, 2, 4, 2), (4, 2, 4, 4)]
    assert sorted(crops) == sorted(expected)
    means = 5 * x[1, :, 4:7, 8:10].flatten(1).mean(1)
    bits = torch.log_softmax(means, 0)[0] / torch.log(torch.tensor(2.0)) + 1
    torch.testing.assert_close(attributions[1, :, 4:7, 8:10], bits.expand(2, 3, 2))


def test_additional_arguments_follow_their_image():
    x = torch.rand(3, 2, 6, 6)
    scale, shift, table = torch.tensor([[1.0], [5.0], [9.0]]), 0.5, torch.rand(2, 2)

    def forward(x, scale, shift, table, name):
        assert len(scale) == len(x)
        assert table.shape == (2, 2)
        assert (shift, name) == (0.5, "as it is")
        return scale * x.flatten(2).mean(2) @ table + shift

    def attribute(i):
        return InfoMask(forward).attribute(
            x[i],
            target=0,
            additional_forward_args=(scale[i], shift, table, "as it is"),
            view="drop",
            regions=grid(x[i], 3, 2),
            perturbations_per_eval=4,
        )

    together = attribute(slice(None))
    assert not torch.allclose(together[0] * 5, together[1], atol=1e-3)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], attribute(slice(i, i + 1)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("view", VIEWS)
def test_half_precision_inputs_stay_half_precision(view, dtype):
    shown = []

    def answer(x):
        shown.append(x.dtype)
        return x.flatten(2).double().mean(2) * 8

    x = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(5)).to(dtype)
    call = {"target": 1, "view": view, "regions": grid(x, 2, 2)}
    half = InfoMask(answer).attribute(x, **call)
    assert set(shown) == {dtype}
    wide = InfoMask(answer).attribute(x.double(), **call)
    assert wide.abs().max() > 0.1
    torch.testing.assert_close(half, wide, rtol=0, atol=0.02)


@pytest.mark.parametrize("hidden", ["nothing", "everything", "region", "rest"])
@pytest.mark.parametrize("cut", [False, True])
def test_draw_against_one_view_at_a_time(images, hidden, cut):
    baselines = torch.randn_like(images)
    regions = sliding_windows(images, (3, 5, 4), (3, 3, 2))
    scene = scene_of((images,), regions, baselines)
    index, numbers = region_pairs(scene)
    corners = regions.rectangles()[0, numbers]
    size = (6, 5)
    plan = ViewPlan(
        scene,
        hidden,
        index,
        numbers,
        cuts=corners if cut else None,
        sizes=torch.tensor(size).expand(len(index), 2) if cut else None,
    )
    rows = torch.tensor([9, 0, 3, 3, 14])
    (drawn,) = draw(plan, rows)
    for picture, row in zip(drawn, rows.tolist(), strict=True):
        i, (y0, x0, y1, x1) = int(index[row]), corners[row].tolist()
        inside = torch.zeros(3, 11, 9, dtype=torch.bool)
        inside[:, y0:y1, x0:x1] = True
        expected = images[i].clone()
        for c in range(3):
            for y in range(11):
                for z in range(9):
                    hides = {
                        "nothing": False,
                        "everything": True,
                        "region": bool(inside[c, y, z]),
                        "rest": not inside[c, y, z],
                    }[hidden]
                    if hides:
                        expected[c, y, z] = baselines[i, c, y, z]
        if cut:
            patch = expected[None, :, y0:y1, x0:x1]
            expected = F.interpolate(patch, size=size, mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(picture, expected, rtol=0, atol=1e-12 if cut else 0)


@pytest.mark.parametrize("hidden", ["everything", "region", "rest"])
def test_draw_several_inputs_of_different_regions(hidden):
    first, second = torch.randn(2, 5), torch.randn(2, 2, 3)
    labels = (torch.tensor([[0, 0, 1, 1, 4]]), torch.tensor([[[1, 2, 2]] * 2, [[2, 1, 4]] * 2]))
    regions = from_feature_mask((first, second), labels)
    scene = scene_of((first, second), regions, (0.5, -7.0))
    index, numbers = region_pairs(scene)
    plan = ViewPlan(scene, hidden, index, numbers)
    drawn = draw(plan, torch.arange(len(plan)))
    for row, (i, r) in enumerate(zip(index.tolist(), numbers.tolist(), strict=True)):
        for x, label, fill, shown in zip((first, second), labels, (0.5, -7.0), drawn, strict=True):
            name = (0, 1, 2, 4)[r]
            own = label[i if len(label) > 1 else 0].expand(x.shape[1:]) == name
            hides = {"everything": own | ~own, "region": own, "rest": ~own}[hidden]
            torch.testing.assert_close(shown[row], x[i].masked_fill(hides, fill), rtol=0, atol=0)


@pytest.mark.parametrize("hidden", ["region", "rest"])
@pytest.mark.parametrize("rows", [[0, 1, 4], [6, 9], [3, 8]])
def test_draw_windows_that_touch_one_of_two_inputs(hidden, rows):
    first, second = torch.randn(2, 5), torch.randn(2, 2, 3)
    regions = sliding_windows((first, second), ((2,), (1, 3)), ((2,), (1, 1)))
    scene = scene_of((first, second), regions, (0.5, -7.0))
    index, numbers = region_pairs(scene)
    drawn = draw(ViewPlan(scene, hidden, index, numbers), torch.tensor(rows))
    spots = [(0, slice(0, 2)), (0, slice(2, 4)), (0, slice(4, 5)), (1, 0), (1, 1)]
    for place, row in enumerate(rows):
        which, spot = spots[int(numbers[row])]
        for k, (x, fill) in enumerate(((first, 0.5), (second, -7.0))):
            own = torch.zeros(x.shape[1:], dtype=torch.bool)
            if k == which:
                own[spot] = True
            hides = own if hidden == "region" else ~own
            expected = x[int(index[row])].masked_fill(hides, fill)
            torch.testing.assert_close(drawn[k][place], expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: {"scores": x.mean((2, 3))}, "return a tensor, .* got dict"),
        (lambda x: x.mean((0, 2, 3)), r"one row per example, 2 in all; got shape \(3,\)"),
        (lambda x: x.mean(), r"one row per example, 2 in all; got shape \(\)"),
    ],
)
def test_outputs_that_are_not_one_row_per_view(images, answer, words):
    with pytest.raises(ArgumentError, match=words):
        InfoMask(answer).attribute(images, target=0, view="drop", regions=grid(images, 2, 2))
