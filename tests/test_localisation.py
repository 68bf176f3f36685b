# IoU, MaxBoxAcc and the readers of ground truth, against slow literal counts and files made here.
import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from reference_shapes import box, box_overlap, parts

from captum_infomask import ArgumentError, max_box_acc
from captum_infomask._run_length import encode
from captum_infomask.evaluation.coco_files import read_coco_boxes, read_coco_masks
from captum_infomask.evaluation.object_localisation import box_iou, mask_iou
from captum_infomask.evaluation.voc_wsol_files import read_voc_boxes

CUTS = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0]


@given(arrays("bool", (4, 2, 3, 3)), arrays("bool", (4, 1, 3, 3)))
@settings(deadline=None, max_examples=50)
def test_mask_iou_counts_pixels(kept, right):
    got = mask_iou(torch.from_numpy(kept), (torch.from_numpy(right),))
    for n in range(4):
        first = {p for p in np.ndindex(3, 3) if kept[n][:, p[0], p[1]].any()}
        second = {p for p in np.ndindex(3, 3) if right[n, 0][p]}
        want = len(first & second) / len(first | second) if first | second else 1.0
        assert got[n] == want


def test_box_iou_counts_pixels():
    sides = [(a, b) for a, b in itertools.product(range(4), range(5)) if a < b]
    boxes = [(x0, y0, x1, y1) for (x0, x1), (y0, y1) in itertools.product(sides, sides)][::7]
    table = box_iou(torch.tensor(boxes), torch.tensor(boxes[::3]).float())
    assert table.shape == (len(boxes), len(boxes[::3]))
    for (i, a), (j, b) in itertools.product(enumerate(boxes), enumerate(boxes[::3])):
        assert table[i, j] == box_overlap(a, b)


def literal_curve(maps, truth, deltas, cuts, keep):
    """MaxBoxAcc's curve in words of loops."""
    curve = []
    for delta in deltas:
        row = []
        for cut in cuts:
            right = 0
            for values, boxes in zip(maps, truth, strict=True):
                low, high = min(map(min, values)), max(map(max, values))
                span = (high - low) or 1
                mask = [[(value - low) / span >= cut for value in line] for line in values]
                found = sorted(parts(mask, corners=True), key=len, reverse=True)
                if keep == "largest":
                    found = found[:1]
                pairs = itertools.product(map(box, found), boxes)
                right += any(box_overlap(a, b) >= delta for a, b in pairs)
            row.append(right / len(maps))
        curve.append(row)
    return curve


def largest_parts_are_unique(values):
    """Whether every threshold has one largest part, so that ``largest`` is not a matter of luck."""
    span = (values.max() - values.min()) or 1
    for cut in CUTS:
        sizes = sorted(map(len, parts((values - values.min()) / span >= cut, corners=True)))
        if len(sizes) > 1 and sizes[-1] == sizes[-2]:
            return False
    return True


@given(
    arrays("int8", (3, 5, 6), elements=st.integers(-2, 2)),
    st.lists(st.integers(0, 10**6), min_size=5, max_size=5),
    st.sampled_from(["all", "largest"]),
)
@settings(deadline=None, max_examples=60)
def test_max_box_acc_is_its_definition(values, picks, keep):
    if keep == "largest" and not all(map(largest_parts_are_unique, values)):
        return
    every = [
        (x0, y0, x1, y1)
        for x0, x1 in itertools.combinations(range(7), 2)
        for y0, y1 in itertools.combinations(range(6), 2)
    ]
    chosen = [every[pick % len(every)] for pick in picks]
    truth = [chosen[:1], chosen[1:3], chosen[3:]]
    deltas = (0.2, 0.5, 1.0)
    bits = torch.from_numpy(values)[:, None].float().expand(3, 2, 5, 6)
    got = max_box_acc(
        bits, [torch.tensor(boxes) for boxes in truth], iou=deltas, thresholds=CUTS, keep=keep
    )
    want = literal_curve(values.tolist(), truth, deltas, CUTS, keep)
    assert np.allclose(got.curve.numpy(), want, atol=1e-12)
    assert got.best == pytest.approx([max(row) for row in want])
    assert got.best_thresholds == tuple(CUTS[row.index(max(row))] for row in want)
    assert got.mean == pytest.approx(sum(map(max, want)) / 3)


def test_one_threshold_serves_all_pictures():
    # The object is the brighter square of the first picture and the darker, larger one of the
    # second, so that each is right at a threshold of its own and never both at one.
    bits = torch.zeros(2, 1, 10, 20)
    bits[0, 0, 1:9, 1:9], bits[0, 0, 2:8, 9:19] = 0.5, 0.5
    bits[0, 0, 3:5, 3:5] = 1.0
    bits[1] = bits[0]
    small, wide = torch.tensor([[3, 3, 5, 5]]), torch.tensor([[1, 1, 19, 9]])
    each = [max_box_acc(bits[:1], [one], iou=(0.9,)).best for one in (small, wide)]
    assert each == [(1.0,), (1.0,)]
    together = max_box_acc(bits, [small, wide], iou=(0.9,))
    assert together.best == (0.5,)
    assert together.thresholds[:3] == (0.0, 0.001, 0.002)
    assert len(together.thresholds) == 1000


def test_all_parts_or_the_largest():
    bits = torch.zeros(1, 1, 12, 12)
    bits[..., 1:3, 1:3] = 1.0
    bits[..., 5:11, 5:11] = 1.0
    object_box = [torch.tensor([[1, 1, 3, 3]])]
    assert max_box_acc(bits, object_box).best == (1.0, 1.0, 1.0)
    assert max_box_acc(bits, object_box, keep="largest").best == (0.0, 0.0, 0.0)


def test_pictures_of_several_sizes_scales_and_signs():
    first, second = torch.zeros(1, 6, 6), torch.zeros(2, 9, 12, dtype=torch.float64)
    first[:, 2:5, 1:4] = 1e-3
    second[:, 4:9, 6:12] = 50.0
    truth = [torch.tensor([[1, 2, 4, 5]]), torch.tensor([[6.0, 4.0, 12.0, 9.0]])]
    assert max_box_acc([first, second - 200], truth, iou=[0.99]).best == (1.0,)
    assert max_box_acc([second, first], truth, iou=[0.99]).best == (0.0,)
    flat = max_box_acc(torch.ones(1, 1, 4, 4), [torch.tensor([[0, 0, 4, 4]])], iou=[1])
    assert flat.curve[0, 0] == 1
    assert not flat.curve[0, 1:].any()
    assert str(flat) == "1.000 (IoU 1: 1.000 at 0)"


VOC = """<annotation>
<filename>000005.jpg</filename><size><width>500</width><height>375</height><depth>3</depth></size>
<object><name>chair</name><difficult>0</difficult>
  <bndbox><xmin>263</xmin><ymin>211</ymin><xmax>324</xmax><ymax>339</ymax></bndbox></object>
<object><name>person</name>
  <part><name>head</name>
    <bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>
  <bndbox><ymax>375</ymax><xmax>500</xmax><ymin>1</ymin><xmin>45.5</xmin></bndbox></object>
<object><name>chair</name><difficult>1</difficult>
  <bndbox><xmin>5</xmin><ymin>244</ymin><xmax>67</xmax><ymax>374</ymax></bndbox></object>
<object><name>dust</name>
  <bndbox><xmin>6</xmin><ymin>4</ymin><xmax>5</xmax><ymax>4</ymax></bndbox></object>
</annotation>"""


def test_voc_counts_from_one_and_includes_the_last_pixel(tmp_path):
    (tmp_path / "b.xml").write_text(VOC)
    size = "<size><width>2</width><height>1</height></size>"
    (tmp_path / "a.xml").write_text(f"<annotation>{size}</annotation>")
    found = read_voc_boxes(tmp_path)
    assert list(found) == ["a", "b"]
    assert found["a"].boxes.shape == (0, 4)
    assert found["a"].size == (1, 2)
    assert found["b"].names == ("chair", "person")
    assert found["b"].boxes.tolist() == [[262, 210, 324, 339], [44.5, 0, 500, 375]]
    assert found["b"].size == (375, 500)
    everything = read_voc_boxes(tmp_path / "b.xml", difficult=True)["b"]
    assert everything.names == ("chair", "person", "chair")
    assert everything.boxes[2].tolist() == [4, 243, 67, 374]
    chairs = everything.of("chair").resized(750, 250)
    assert chairs.boxes.tolist() == [[131, 420, 162, 678], [2, 486, 33.5, 748]]
    assert (chairs.names, chairs.size) == (("chair", "chair"), (750, 250))


def test_one_voc_pixel_is_one_pixel(tmp_path):
    pixel = VOC.replace("<xmax>324</xmax>", "<xmax>263</xmax>").replace(">339<", ">211<")
    (tmp_path / "x.xml").write_text(pixel)
    x0, y0, x1, y1 = read_voc_boxes(tmp_path)["x"].boxes[0].tolist()
    assert (x1 - x0) * (y1 - y0) == 1


def coco(**changes):
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[1:3, 2:7] = True
    content = {
        "images": [
            {"id": 1, "file_name": "one.jpg", "height": 6, "width": 8},
            {"id": "2", "file_name": "two.jpg", "height": 3, "width": 4},
            {"id": 3, "file_name": "three.jpg", "height": 2, "width": 2},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}],
        "annotations": [
            {
                "id": 10,
                "image_id": 1,
                "category_id": 90,
                "bbox": [2, 1, 5, 2],
                "segmentation": encode(mask),
                "iscrowd": 0,
            },
            {
                "id": 11,
                "image_id": "2",
                "category_id": 18,
                "bbox": [0.5, 0.25, 3, 1.5],
                "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2], [2.9, 2, 4, 2, 4, 3, 2.9, 3]],
            },
            {
                "id": 12,
                "image_id": "2",
                "category_id": 18,
                "bbox": [0, 0, 4, 3],
                "segmentation": {"size": [3, 4], "counts": [1, 11]},
                "iscrowd": 1,
            },
            {
                "id": 13,
                "image_id": 1,
                "category_id": 18,
                "bbox": [3, 3, 0, 1],
                "segmentation": [[3, 3, 3.2, 4, 3, 4]],
            },
        ],
    }
    content["annotations"][1].update(changes)
    return content


def written(tmp_path, content):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_boxes_are_corners(tmp_path):
    path = written(tmp_path, coco())
    found = read_coco_boxes(path)
    assert list(found) == ["one.jpg", "two.jpg", "three.jpg"]
    assert found["one.jpg"].boxes.tolist() == [[2, 1, 7, 3]]  # the one without area is left out
    assert found["one.jpg"].names == ("toothbrush",)
    assert found["one.jpg"].size == (6, 8)
    assert found["two.jpg"].boxes.tolist() == [[0.5, 0.25, 3.5, 1.75]]
    assert found["three.jpg"].boxes.shape == (0, 4)
    assert len(read_coco_boxes(path, crowd=True)["two.jpg"].boxes) == 2


def test_coco_masks_are_pixels(tmp_path):
    path = written(tmp_path, coco())
    found = read_coco_masks(path)
    assert found["one.jpg"].masks.shape == (2, 6, 8)
    assert found["one.jpg"].masks[0].nonzero().tolist() == [
        [i, j] for i in (1, 2) for j in range(2, 7)
    ]
    assert found["two.jpg"].masks.int().tolist() == [[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]]]
    assert found["three.jpg"].masks.shape == (0, 2, 2)
    assert read_coco_masks(path, ["two.jpg"], crowd=True)["two.jpg"].masks[1].int().tolist() == [
        [0, 1, 1, 1],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
    ]
    [box_of_mask] = read_coco_boxes(path)["one.jpg"].boxes
    x0, y0, x1, y1 = box_of_mask.int().tolist()
    assert found["one.jpg"].masks[0, y0:y1, x0:x1].all()


BITS, BOX = torch.rand(2, 1, 4, 4), torch.tensor([[0, 0, 2, 2]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mask_iou(BITS, BITS > 0), ["`masks`", "float32"]),
        (lambda: mask_iou(BITS > 0, BITS[:1] > 0), ["`ground_truth`", "(2, 4, 4)", "(1, 4, 4)"]),
        (lambda: box_iou(BOX, BOX[0]), ["`ground_truth`", "(4,)"]),
        (lambda: box_iou(BOX[:, [2, 1, 0, 3]], BOX), ["`boxes`", "x0 < x1", "[[2, 0, 0, 2]]"]),
        (lambda: box_iou(BOX * torch.nan, BOX), ["`boxes`", "finite", "nan"]),
        (lambda: max_box_acc(BITS, [BOX]), ["`ground_truth_boxes`", "2 pictures"]),
        (lambda: max_box_acc(BITS, [BOX, BOX[:0]]), ["`ground_truth_boxes`", "picture 1"]),
        (lambda: max_box_acc(BITS, [BOX, BOX * 0]), ["`ground_truth_boxes[1]`", "x0 < x1"]),
        (lambda: max_box_acc(BITS * torch.inf, [BOX, BOX]), ["`attributions`", "infinity"]),
        (lambda: max_box_acc(BITS[0], [BOX]), ["`attributions`", "(1, 4, 4)"]),
        (lambda: max_box_acc([BITS[0], BITS], [BOX, BOX]), ["`attributions`", "at place 1"]),
        (lambda: max_box_acc([], []), ["`attributions`", "empty list"]),
        (lambda: max_box_acc(BITS > 0, [BOX, BOX]), ["`attributions`", "bool"]),
        (lambda: max_box_acc(BITS, [BOX, BOX], iou=()), ["`iou`", "at least one"]),
        (lambda: max_box_acc(BITS, [BOX, BOX], iou=(50,)), ["`iou`", "at most 1", "50"]),
        (lambda: max_box_acc(BITS, [BOX, BOX], thresholds=[1.1]), ["`thresholds`", "1.1"]),
        (lambda: max_box_acc(BITS, [BOX, BOX], keep="both"), ["`keep`", "'all'", "'both'"]),
    ],
)
def test_bad_localisation(call, words):
    with pytest.raises(ArgumentError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<annotation>", ["x.xml", "no element found"]),
        (VOC.replace("<width>500</width>", ""), ["x.xml", "no size/width"]),
        (VOC.replace(">500<", ">0<", 1), ["x.xml", "size (375, 0)"]),
        (VOC.replace("<ymin>211</ymin>", ""), ["x.xml", "no bndbox/ymin"]),
        (VOC.replace(">211<", ">low<"), ["x.xml", "'low'"]),
        (VOC.replace(">211<", ">nan<"), ["x.xml", "ymin is nan"]),
    ],
)
def test_bad_voc_files(tmp_path, xml, words):
    (tmp_path / "x.xml").write_text(xml)
    with pytest.raises(ArgumentError) as caught:
        read_voc_boxes(tmp_path)
    assert all(word in str(caught.value) for word in ["`path`", *words]), str(caught.value)


def test_missing_files_and_categories(tmp_path):
    for call in (read_voc_boxes, read_coco_boxes, read_coco_masks):
        with pytest.raises(ArgumentError, match=r"`path`.*nowhere"):
            call(tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match=r"`path`.*has none"):
        read_voc_boxes(tmp_path)
    path = written(tmp_path, coco())
    with pytest.raises(ArgumentError, match=r"`keys`.*'four\.jpg'"):
        read_coco_masks(path, ["one.jpg", "four.jpg"])
    with pytest.raises(ArgumentError, match=r"`name`.*\(toothbrush\).*'dog'"):
        read_coco_boxes(path)["one.jpg"].of("dog")
    with pytest.raises(ArgumentError, match=r"`width`"):
        read_coco_boxes(path)["one.jpg"].resized(224, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bbox": [0, 0, 3]}, ["annotation 11", "`bbox`", "[0, 0, 3]"]),
        ({"bbox": [0, 0, -3, 1]}, ["annotation 11", "`bbox`", "width"]),
        ({"bbox": [0, 0, float("nan"), 1]}, ["annotation 11", "`bbox`", "nan"]),
        ({"bbox": None}, ["annotation 11", "`bbox`", "None"]),
        ({"image_id": 2}, ["annotation 11", "`image_id`", "got 2"]),
        ({"category_id": 5}, ["annotation 11", "`category_id`", "got 5"]),
        ({"segmentation": [[0, 0, 1, 1]]}, ["annotation 11", "three corners"]),
        ({"segmentation": [["a"] * 6]}, ["annotation 11", "finite numbers"]),
        ({"segmentation": []}, ["annotation 11", "polygons or run lengths"]),
        (
            {"segmentation": {"size": [4, 3], "counts": [12]}},
            ["segmentation of annotation 11", "[3, 4]", "[4, 3]"],
        ),
    ],
)
def test_bad_coco_annotations(tmp_path, changes, words):
    path = written(tmp_path, coco(**changes))
    with pytest.raises(ArgumentError) as caught:
        (read_coco_masks if "segmentation" in changes else read_coco_boxes)(path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("categories"), ["KeyError", "categories"]),
        (lambda c: c["images"][0].pop("height"), ["KeyError", "height"]),
        (lambda c: c["images"][0].update(height=0), ["without pixels"]),
        (lambda c: c["images"][0].update(file_name="two.jpg"), ["file_name of its own"]),
        (lambda c: c.update(annotations=[3]), ["TypeError"]),
    ],
)
def test_bad_coco_files(tmp_path, change, words):
    content = coco()
    change(content)
    with pytest.raises(ArgumentError) as caught:
        read_coco_boxes(written(tmp_path, content))
    assert all(word in str(caught.value) for word in ["`path`", *words]), str(caught.value)
