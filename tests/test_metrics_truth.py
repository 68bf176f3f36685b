# Ground truth in all its forms becomes a mask and boxes per picture.
import numpy as np
import pytest
import torch
from refused import refused

from captum_infomask.evaluation.coco_files import ImageBoxes
from captum_infomask.evaluation.given_truth import ground_truth

PICTURES = torch.zeros(2, 3, 4, 6)
ONE = PICTURES[:1]
FIRST = torch.zeros(4, 6, dtype=torch.bool)
FIRST[0:2, 1:4] = True
FIRST[3, 5] = True
SECOND = torch.zeros(4, 6, dtype=torch.bool)
SECOND[2:4, 0:2] = True
FIRST_BOXES, SECOND_BOXES = [[1, 0, 4, 2], [5, 3, 6, 4]], [[0, 2, 2, 4]]


def check(found, masks=(FIRST, SECOND), boxes=(FIRST_BOXES, SECOND_BOXES)):
    assert len(found) == len(masks)
    for truth, mask, box in zip(found, masks, boxes, strict=True):
        assert truth.mask.dtype == torch.bool
        assert torch.equal(truth.mask, mask)
        assert truth.boxes.dtype == torch.float64
        assert truth.boxes.tolist() == box


def test_masks():
    both = torch.stack([FIRST, SECOND])
    check(ground_truth(both, PICTURES, [0, 1]))
    check(ground_truth(both[:, None], PICTURES, [0, 1]))
    check(ground_truth(both.numpy(), PICTURES, [0, 1]))
    channels = torch.zeros(2, 3, 4, 6, dtype=torch.bool)
    channels[:, 0, :2], channels[:, 2, 2:] = both[:, :2], both[:, 2:]
    check(ground_truth(channels, PICTURES, [0, 1]))
    check(ground_truth(FIRST, ONE, [0]), [FIRST], [FIRST_BOXES])
    for shared in (FIRST[None], FIRST[None, None]):
        check(ground_truth(shared, PICTURES, [0, 1]), [FIRST] * 2, [FIRST_BOXES] * 2)


def test_boxes():
    first, second = torch.tensor(FIRST_BOXES), torch.tensor(SECOND_BOXES)
    check(ground_truth([first, second.float()], PICTURES, [0, 1]))
    check(ground_truth((first, second.numpy()), PICTURES, [0, 1]))
    check(ground_truth(first, ONE, [0]), [FIRST], [FIRST_BOXES])
    check(ground_truth(first.numpy(), ONE, [0]), [FIRST], [FIRST_BOXES])
    objects = ImageBoxes(first.double(), ("cat", "dog"), (4, 6))
    check(ground_truth(objects, ONE, [0]), [FIRST], [FIRST_BOXES])
    check(ground_truth([objects, second], PICTURES, [0, 1]))


def test_overlapping_boxes_have_one_union_and_stay_apart():
    boxes = [[0, 0, 3, 2], [2, 1, 6, 4]]
    (found,) = ground_truth(torch.tensor(boxes), ONE, [0])
    want = torch.zeros(4, 6, dtype=torch.bool)
    want[0:2, 0:3] = True
    want[1:4, 2:6] = True
    check([found], [want], [boxes])


@pytest.mark.parametrize(
    ("span", "columns"),
    [((0.5, 2.5), [0, 1]), ((0.6, 2.6), [1, 2]), ((-3.0, 1.0), [0]), ((4.4, 99.0), [4, 5])],
)
def test_a_box_holds_the_pixels_whose_middle_it_holds(span, columns):
    box = torch.tensor([[span[0], 0.0, span[1], 4.0]])
    (found,) = ground_truth(box, ONE, [0])
    assert found.mask[0].nonzero()[:, 0].tolist() == columns
    assert found.boxes.tolist() == box.double().tolist()


def test_label_maps():
    labels = torch.full((2, 4, 6), 255, dtype=torch.int32)
    labels[0][FIRST], labels[1][SECOND] = 7, 9
    check(ground_truth(labels, PICTURES, [7, 9]))
    check(ground_truth(labels.numpy(), PICTURES, [7, 9]))
    check(ground_truth((labels, [7, 9]), PICTURES, [0, 0]))
    check(ground_truth((labels, torch.tensor([7, 9])), PICTURES, [0, 0]))
    labels[1][SECOND] = 7
    check(ground_truth((labels, 7), PICTURES, [0, 0]))
    check(ground_truth((labels.numpy(), np.int64(7)), PICTURES, [0, 0]))
    check(ground_truth(labels[0], ONE, [7]), [FIRST], [FIRST_BOXES])
    check(ground_truth((labels[0], 7), ONE, [0]), [FIRST], [FIRST_BOXES])


def test_nothing_given_is_changed():
    mask = torch.stack([FIRST, SECOND])
    before = mask.clone()
    found = ground_truth(mask, PICTURES, [0, 1])
    assert torch.equal(mask, before)
    assert found[0].mask.device.type == "cpu"


LABELS = torch.zeros(2, 4, 6, dtype=torch.long)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, ("`ground_truth`", "boolean mask", "boxes", "label map", "None")),
        ("mask.png", ("`ground_truth`", "'mask.png'")),
        (torch.rand(2, 4, 6), ("`ground_truth`", "boolean mask", "float32")),
        (FIRST, ("2 pictures of 4 × 6", "(4, 6)")),
        (torch.ones(2, 5, 6, dtype=torch.bool), ("2 pictures of 4 × 6", "(2, 5, 6)")),
        (torch.ones(3, 1, 4, 6, dtype=torch.bool), ("2 pictures", "(3, 1, 4, 6)")),
        (torch.ones(4, dtype=torch.bool), ("2 pictures", "(4,)")),
        (torch.stack([FIRST, FIRST & False]), ("right pixel", "picture 1", "Leave")),
        (torch.tensor(FIRST_BOXES), ("each of the 2 pictures", "got 1")),
        ([torch.tensor(FIRST_BOXES)] * 3, ("each of the 2 pictures", "got 3")),
        ([torch.tensor([[3, 0, 1, 2]])] * 2, ("`ground_truth[0]`", "x0 < x1")),
        ([torch.tensor([[0.0, 0, float("nan"), 2]])] * 2, ("`ground_truth[0]`", "finite")),
        ([torch.zeros(0, 4)] * 2, ("`ground_truth`[0]", "covers a pixel", "Leave")),
        ([torch.tensor([[9, 9, 12, 12]])] * 2, ("covers a pixel",)),
        ([ImageBoxes(torch.tensor(FIRST_BOXES), ("a", "b"), (8, 6))] * 2, ("4 × 6", "8 × 6")),
        (LABELS[:1], ("label map", "2 pictures", "(1, 4, 6)")),
        (LABELS, ("right pixel", "picture 0")),
        ((LABELS, [0, 1, 2]), ("right labels", "2 pictures")),
        ((LABELS, 0.5), ("`ground_truth`", "pair")),
        ((LABELS, ["cat", "dog"]), ("right labels", "integer")),
        ((LABELS.float(), 1), ("label map of integers", "float32")),
        ((LABELS, 3), ("right pixel", "picture 0")),
    ],
)
def test_bad_truth(given, words):
    refused(words, lambda: ground_truth(given, PICTURES, [5, 6]))
