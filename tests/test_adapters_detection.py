# The best detection at a box: D-RISE's similarity as a probability, for detectors of every form.
import copy
import math
from types import SimpleNamespace

import pytest
import torch
from state import differences, take_down
from torch import nn

from captum_infomask import ArgumentError, InfoMask, compare
from captum_infomask.adapters import detection

DTYPE = torch.float64
BOX, OTHER = (0.0, 0.0, 4.0, 8.0), (2.0, 0.0, 6.0, 8.0)  # IoU 1/3


def pictures(n=2):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 3, 8, 8, generator=generator, dtype=DTYPE)


X = pictures()


def left_half(shown):
    """Two detections of label 1, with the means of the halves as scores, and one of label 2."""
    boxes = torch.tensor([BOX, OTHER, BOX], dtype=DTYPE)
    scores = [[one[..., :4].mean(), one[..., 4:].mean(), torch.tensor(0.9)] for one in shown]
    labels = torch.tensor([1, 1, 2])
    return [{"boxes": boxes, "scores": torch.stack(s).double(), "labels": labels} for s in scores]


def nothing(shown):
    empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}
    return [empty | {"labels": torch.zeros(0, dtype=torch.long)} for _ in shown]


class Queries(nn.Module):
    """Three queries: fixed boxes, and logits of the means of the picture's channels."""

    def __init__(self, columns, labels=None, held=SimpleNamespace):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.weight = nn.Parameter(3 * torch.randn(3, 3, columns, generator=generator, dtype=DTYPE))
        # centre and size, as shares of width and height: BOX, OTHER, and the lower right quarter
        boxes = [[0.25, 0.5, 0.5, 1.0], [0.5, 0.5, 0.5, 1.0], [0.75, 0.75, 0.5, 0.5]]
        self.register_buffer("relative", torch.tensor(boxes, dtype=DTYPE))
        if labels is not None:
            self.config = SimpleNamespace(num_labels=labels)
        self.held = held
        self.eval()

    def forward(self, x):
        logits = torch.einsum("nc,cqm->nqm", x.mean((2, 3)), self.weight)
        return self.held(logits=logits, pred_boxes=self.relative.expand(len(x), 3, 4))


class Unnamed:
    """A config of transformers whose names of labels were taken out."""

    id2label = None

    @property
    def num_labels(self):
        return len(self.id2label)


def unnamed():
    made = Queries(4)
    made.config = Unnamed()
    return made


def best(scores, overlaps):
    return (scores * torch.tensor(overlaps, dtype=DTYPE)).amax(1)


def test_the_best_overlap_times_score():
    asked = detection(left_half, [BOX, OTHER, (4, 0, 8, 8)], [1, 1, 2])
    left, right = X[..., :4].mean((1, 2, 3)), X[..., 4:].mean((1, 2, 3))
    scores = torch.stack([left, right], 1)
    wanted = torch.stack([best(scores, [1, 1 / 3]), best(scores, [1 / 3, 1]), 0 * left + 1e-3], 1)
    found = asked(X)
    assert found.dtype == DTYPE
    assert torch.allclose(found.sigmoid(), wanted, rtol=0, atol=1e-12)
    assert not torch.allclose(wanted[:, 0], wanted[:, 1], atol=1e-2)


@pytest.mark.parametrize(
    ("box", "label", "outputs"),
    [
        (BOX, 1, 1),
        ([BOX, OTHER], 1, 2),
        (BOX, [1, 2, 0], 3),
        ([BOX, OTHER], torch.tensor([1, 2]), 2),
    ],
)
def test_boxes_and_labels_go_together(box, label, outputs):
    assert detection(left_half, box, label)(X).shape == (2, outputs)


def test_drop_of_a_full_overlap_is_the_difference_of_log_scores():
    """The one detection at the box is D-RISE's similarity, whatever the prior is."""
    asked = detection(left_half, BOX, 1)
    left = X[..., :4].mean((1, 2, 3))
    part = X[:, :, :4, :4].sum((1, 2, 3)) / 96
    wanted = (left / (left - part)).log2()
    found = {
        prior: InfoMask(asked, head="sigmoid", prior=[prior]).score_regions(
            X, target=0, view="drop", sliding_window_shapes=(3, 4, 4), strides=(3, 4, 4)
        )
        for prior in (0.5, 0.01)
    }
    for infomap in found.values():
        assert torch.allclose(infomap.scores[:, 0], wanted, rtol=0, atol=1e-10)
    assert torch.allclose(found[0.01].total - found[0.5].total, torch.tensor(50.0).double().log2())
    assert (wanted > 0.5).all()


def test_several_boxes_take_one_set_of_passes():
    passes = []
    asked = detection(lambda x: passes.append(len(x)) or left_half(x), [BOX, OTHER], 1)
    settings = {"view": "drop", "sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4)}
    info_mask = InfoMask(asked, head="sigmoid")
    both = info_mask.score_classes(X, classes=[0, 1], **settings)
    count = sum(passes)
    passes.clear()
    alone = [info_mask.score_regions(X, target=k, **settings) for k in (0, 1)]
    assert sum(passes) == 2 * count
    for k in (0, 1):
        assert torch.equal(both.of_class(k).scores, alone[k].scores)


@pytest.mark.parametrize("floor", [1e-3, 0.05])
def test_nothing_found_has_a_finite_logit(floor):
    found = detection(nothing, [BOX, OTHER], 1, floor=floor)(X)
    assert torch.allclose(found.sigmoid(), torch.full((2, 2), floor))
    sure = detection(
        lambda x: [one | {"scores": one["scores"] * 0 + 1} for one in left_half(x)], BOX, 1
    )
    assert bool(sure(X).isfinite().all())
    assert torch.allclose(sure(X).sigmoid(), torch.ones(2, 1, dtype=DTYPE))


@pytest.mark.parametrize("held", [SimpleNamespace, dict])
@pytest.mark.parametrize(
    ("labels", "head"), [(3, None), (4, None), (None, "logits"), (None, "sigmoid")]
)
def test_every_query_is_a_detection(held, labels, head):
    network = Queries(4, labels, held)
    output = network(X)
    logits = output["logits"] if held is dict else output.logits
    is_softmax = labels == 3 or head == "logits"
    scores = logits.softmax(-1) if is_softmax else logits.sigmoid()
    wanted = torch.stack(
        [best(scores[..., 1], [1, 1 / 3, 0]), best(scores[..., 2], [0, 1 / 5, 1])], 1
    )
    found = detection(network, [BOX, (4, 4, 8, 8)], [1, 2], head=head)(X).sigmoid()
    assert torch.allclose(found, wanted.clamp_min(1e-3), rtol=0, atol=1e-12)
    assert (wanted > 1e-3).any()


def test_relative_boxes_are_those_of_the_picture():
    network = Queries(3, 3)
    wide = X.repeat(1, 1, 1, 2)  # 8 × 16
    found = detection(network, (0, 0, 8, 8), 1)(wide)
    assert torch.allclose(found, detection(network, BOX, 1)(X))


def test_relay_goes_through_queries():
    asked = detection(Queries(4, 3), BOX, 1)
    infomap = InfoMask(asked, head="sigmoid").score_regions(X, target=0)
    rise = asked(X).sigmoid().log2() - asked(0 * X).sigmoid().log2()
    assert (infomap.view, infomap.engine) == ("relay", "relay (8 × 8 cells)")
    assert torch.allclose(infomap.scores.sum(1), rise[:, 0], atol=1e-3)  # another one becomes best


def test_lists_of_detections_are_dropped_by_default_and_have_gradients():
    asked = detection(left_half, BOX, 1)
    with pytest.warns(UserWarning, match=r"not made of these features.*view='drop' is used"):
        infomap = InfoMask(asked, head="sigmoid").score_regions(X)
    assert infomap.view == "drop"
    assert infomap.engine.startswith("batched")
    x = X.clone().requires_grad_()
    asked(x).sigmoid().sum().backward()
    assert torch.allclose(x.grad[..., :4], torch.tensor(1 / 96).double())
    assert not x.grad[..., 4:].any()


def test_half_precision_keeps_the_boxes_pixels():
    def rounded(shown):
        box = torch.tensor([[0.0, 0.0, 1001.0, 1001.0]])
        score = torch.tensor([0.5], dtype=torch.bfloat16)
        return [{"boxes": box, "scores": score, "labels": torch.tensor([1])} for _ in shown]

    asked = detection(rounded, (0, 0, 1001, 1001), 1).to(torch.bfloat16)
    found = asked(X.bfloat16())
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.zeros(2, 1))


def test_the_detector_is_as_it_was_and_copies_answer_alike():
    network = Queries(4, 3)
    before = take_down(network)
    asked = detection(network, BOX, 1)
    bits = InfoMask(asked, head="sigmoid").attribute(X, target=0)
    assert differences(before, take_down(network)) == []
    assert torch.equal(InfoMask(copy.deepcopy(asked), head="sigmoid").attribute(X, target=0), bits)
    assert not asked.training
    assert detection(Queries(4, 3).train(), BOX, 1).training


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"box": (0, 0, 4)}, "`box`.*(4,)"),
        ({"box": []}, "`box`"),
        ({"box": None}, "`box`"),
        ({"box": (0, 0, 4, 4j)}, "`box`.*(4,)"),
        ({"box": torch.empty(4, device="meta")}, "`box`.*(4,)"),
        ({"label": 1j}, "`label` to be the number"),
        ({"box": (4, 0, 4, 8)}, "x0 < x1"),
        ({"box": (0, 0, math.inf, 8)}, "x0 < x1"),
        ({"label": 1.5}, "`label` to be the number"),
        ({"label": -1}, "`label` to be the number"),
        ({"label": "cat"}, "`label` to be the number"),
        ({"label": True}, "`label` to be the number"),
        ({"box": [BOX, OTHER], "label": [1, 1, 1]}, "each of the 2 boxes; got 3"),
        ({"head": "softmax"}, "`head` to be one of 'logits', 'sigmoid'"),
        ({"floor": 0}, "`floor`"),
        ({"model": "detr"}, "`model` to be a model or function"),
    ],
)
def test_arguments_that_do_not_fit(options, words):
    with pytest.raises(ArgumentError, match=words):
        detection(**{"model": left_half, "box": BOX, "label": 1} | options)


def scored(x, score):
    return [one | {"scores": one["scores"] * 0 + score} for one in left_half(x)]


@pytest.mark.parametrize(
    ("network", "label", "words"),
    [
        (lambda x: {"loss_classifier": x.sum()}, 1, "in eval mode.*a dict of 'loss_classifier'"),
        (lambda x: x, 1, "got a tensor"),
        (lambda x: left_half(x)[:1], 1, "each of the 2 pictures; got 1"),
        (lambda x: [{"boxes": [BOX], "scores": [0.5], "labels": [1]}] * 2, 1, "as tensors"),
        (
            lambda x: [one | {"scores": one["scores"][:2]} for one in left_half(x)],
            1,
            r"boxes \(K, 4\), scores.*got \(3, 4\), \(2,\), \(3,\)",
        ),
        (
            lambda x: [one | {"boxes": one["boxes"].repeat(1, 2)} for one in left_half(x)],
            1,
            r"boxes \(K, 4\), scores.*got \(3, 8\), \(3,\), \(3,\)",
        ),
        (
            lambda x: {"logits": torch.rand(2, 5, 4), "pred_boxes": torch.rand(2, 4, 4)},
            1,
            r"got \(2, 5, 4\) and \(2, 4, 4\)",
        ),
        (lambda x: scored(x, 3.5), 1, "scores between 0 and 1; got some between 3.5 and 3.5"),
        (lambda x: scored(x, -0.5), 1, "scores between 0 and 1"),
        (Queries(4), 1, "Expected `head`"),
        (Queries(4, 9), 1, "Expected `head`"),
        (unnamed(), 1, "Expected `head`"),
        (Queries(4, 3), 3, "`label` below 3"),
        (Queries(4, 4), 4, "`label` below 4"),
    ],
)
def test_passes_that_do_not_fit(network, label, words):
    with pytest.raises(ArgumentError, match=words):
        detection(network, BOX, label)(X)


def test_crops_have_no_box():
    with pytest.raises(ArgumentError, match="leaves every part of the picture in its place"):
        InfoMask(detection(left_half, BOX, 1), head="sigmoid").attribute(X, target=0, view="crop")


@pytest.mark.parametrize(
    ("network", "name"), [(Queries(4, 4), "Queries"), (left_half, "left_half")]
)
def test_tables_name_the_detector_and_not_the_adapter(network, name):
    asked = detection(network, BOX, 1)
    found = compare(asked, X, 0, head="sigmoid", methods="Occlusion", metrics=[])
    assert found.settings[0] == ("Model", name)


# --- detectors of other packages ---


def _torchvision(name, threshold="score_thresh"):
    import torchvision

    make = getattr(torchvision.models.detection, name)
    sizes = {} if name.startswith("ssd") else {"min_size": 64, "max_size": 64}
    return make(weights=None, weights_backbone=None, num_classes=4, **{threshold: 0.0}, **sizes)


TORCHVISION = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": "box_score_thresh",
    "retinanet_resnet50_fpn": "score_thresh",
    "fcos_resnet50_fpn": "score_thresh",
    "ssdlite320_mobilenet_v3_large": "score_thresh",
}


def _literal(found, box, label):
    """The largest product, detection by detection."""
    from torchvision.ops import box_iou

    largest = 1e-3
    for one, score, own in zip(found["boxes"], found["scores"], found["labels"], strict=True):
        if own == label:
            overlap = box_iou(one[None].double(), torch.tensor([box]).double())
            largest = max(largest, float(overlap) * float(score))
    return largest


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_detectors_of_torchvision(name):
    torch.manual_seed(0)
    network = _torchvision(name, TORCHVISION[name]).eval()
    x = torch.rand(2, 3, 64, 64)
    box = (4.0, 2.0, 60.0, 58.0)
    with torch.no_grad():
        found = network(list(x))
    label = int(found[0]["labels"][0])
    asked = detection(network, box, label)
    wanted = torch.tensor([[_literal(one, box, label)] for one in found])
    before = take_down(network)
    assert torch.allclose(asked(x).sigmoid(), wanted, atol=1e-5)
    settings = {"sliding_window_shapes": (3, 32, 32), "strides": (3, 32, 32)}
    with pytest.warns(UserWarning, match=r"view='drop' is used"):
        infomap = InfoMask(asked, head="sigmoid").score_regions(x[:1], **settings)
    hidden = x[:1].clone()
    hidden[..., :32, :32] = 0
    with torch.no_grad():
        without = _literal(network(list(hidden))[0], box, label)
    difference = math.log2(float(wanted[0]) / without)
    assert infomap.scores[0, 0].item() == pytest.approx(difference, abs=1e-3)
    assert differences(before, take_down(network)) == []


def _backbone():
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip


def _detr(name):
    import transformers

    small = dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "d_model"), 16)
    small |= dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
    config = getattr(transformers, f"{name}Config")(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=_backbone(), encoder_layers=1, decoder_layers=1, num_queries=5,
        num_labels=3, **small,
    )  # fmt: skip
    return getattr(transformers, f"{name}ForObjectDetection")(config)


def _yolos():
    from transformers import YolosConfig, YolosForObjectDetection

    config = YolosConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        image_size=[64, 64], patch_size=16, num_detection_tokens=5, num_labels=3,
    )  # fmt: skip
    return YolosForObjectDetection(config)


QUERIES = {
    "Detr": (lambda: _detr("Detr"), "softmax", (32, 32)),
    "ConditionalDetr": (lambda: _detr("ConditionalDetr"), "sigmoid", (32, 32)),
    "Yolos": (_yolos, "softmax", (4, 4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_detectors_of_transformers(name):
    make, form, cells = QUERIES[name]
    torch.manual_seed(0)
    network = make().eval()
    x = torch.rand(1, 3, 64, 64)
    box = (8.0, 8.0, 56.0, 56.0)
    with torch.no_grad():
        output = network(x)
    scores = output.logits.softmax(-1) if form == "softmax" else output.logits.sigmoid()
    x0, y0 = (output.pred_boxes[0, :, :2] - output.pred_boxes[0, :, 2:] / 2).mul(64).unbind(1)
    x1, y1 = (output.pred_boxes[0, :, :2] + output.pred_boxes[0, :, 2:] / 2).mul(64).unbind(1)
    found = {"boxes": torch.stack([x0, y0, x1, y1], 1), "scores": scores[0, :, 1]}
    wanted = _literal(found | {"labels": torch.ones(len(x0))}, box, 1)
    asked = detection(network, box, 1)
    assert asked(x).detach().sigmoid().item() == pytest.approx(wanted, abs=1e-5)
    infomap = InfoMask(asked, head="sigmoid").score_regions(x, target=0)
    assert infomap.engine == f"relay ({cells[0]} × {cells[1]} cells)"
    assert float(infomap.residual.abs()) < 0.01
