# The probability that a detector finds an object of a label at a box, as a logit.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_infomask._checks import check_callable, describe, model_name, one_of, open_share
from captum_infomask._errors import ArgumentError
from captum_infomask.scores.heads import widen

QueryHead = Literal["logits", "sigmoid"]

_OF_PICTURES = ("boxes", "scores", "labels")


def detection(
    model: Callable[..., Any],
    box: Tensor | npt.NDArray[Any] | Sequence[Any],
    label: int | Tensor | Sequence[int],
    *,
    head: QueryHead | None = None,
    floor: float = 1e-3,
) -> BestDetection:
    r"""Turn a detector into a network that answers whether an object is detected at a box.

    The answer is the logit of

    .. math::

        p(x) = \max_d \operatorname{IoU}(\text{box}, \text{box}_d(x)) \cdot s_d(\text{label}; x),

    the best detection's overlap with the box times its score of the label, over all detections d.
    Read it by ``head="sigmoid"``. Several boxes are several outputs of the same passes, the targets
    0, 1, …, B − 1.

    D-RISE also multiplies by the cosine of the vectors of class probabilities. Most detectors
    return the score of one label alone, so here the score of the label takes its place.

    Detectors leave out what scores little: torchvision's ``box_score_thresh`` of R-CNNs and
    ``score_thresh`` of RetinaNet are 0.05 by default, FCOS's is 0.2, SSD's 0.01. A score below the
    threshold counts as no detection. Make the detector with a lower threshold, such as 0.001, to
    see the steps below it. If nothing is detected at a box, p is ``floor``.

    The box stays in its place, so the views that leave the picture in place fit: all but ``crop``.

    Args:
        model: A detector or a function: a batch of pictures (N, C, H, W) → a list of N dictionaries
            with ``boxes`` (K, 4), ``scores`` (K,) and ``labels`` (K,), as torchvision's detectors
            return; or an object or a dictionary with ``logits`` (N, Q, M) and ``pred_boxes``
            (N, Q, 4), as DETR and its kin in Hugging Face's transformers return. Every query is a
            detection then.
        box: x0, y0, x1, y1 in pixels of the network's input, (4,), or several boxes, (B, 4).
        label: The object's label, as the detector numbers them; one for all boxes, or (B,). If
            there are several labels and one box, they all are asked about at this box.
        head: How the logits of queries become scores: ``logits`` (softmax; the last class is "no
            object": DETR, YOLOS, Table Transformer) or ``sigmoid`` (Deformable and Conditional
            DETR, RT-DETR). None compares their number with ``model.config.num_labels``.
        floor: The smallest p: with it an undetected object has a finite logit.

    Returns:
        A module from pictures to logits of p, (N, B), in float32 at least. It is in training mode
        if ``model`` is.

    Raises:
        ArgumentError: A box is empty, a label is no integer, or they do not fit each other. In a
            pass: the detector returns something else, or ``head`` must be given.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask
        >>> from captum_infomask.adapters import detection
        >>> def detector(pictures):  # finds a bright left half
        ...     box = torch.tensor([[0.0, 0.0, 4.0, 8.0]])
        ...     return [{"boxes": box, "scores": one[:, :, :4].mean()[None],
        ...              "labels": torch.tensor([1])} for one in pictures]
        >>> asked = detection(detector, box=(0, 0, 4, 8), label=1)
        >>> bits = InfoMask(asked, head="sigmoid").attribute(
        ...     torch.rand(1, 3, 8, 8), view="drop", sliding_window_shapes=(3, 4, 4), strides=4)
        >>> bool(bits[..., :4].sum() > 0), bool(bits[..., 4:].any())
        (True, False)

    Source: Petsiuk et al., "Black-box Explanation of Object Detectors via Saliency Maps" (D-RISE),
    CVPR 2021, arXiv 2006.03204, Section 3.2.
    """
    return BestDetection(model, box, label, head, floor)


class BestDetection(nn.Module):
    """What :func:`detection` returns.

    Attributes:
        model: The detector.
        is_about_a_place: True: views must not cut out or move any part of the picture.
    """

    is_about_a_place = True

    def __init__(
        self, model: Callable[..., Any], box: object, label: object, head: object, floor: object
    ) -> None:
        super().__init__()
        check_callable("model", model)
        self.model = model
        boxes, labels = _checked_boxes(box), _checked_labels(label)
        if len(labels) not in (1, len(boxes)) and len(boxes) != 1:
            raise ArgumentError(
                f"Expected `label` to be one label, or one for each of the {len(boxes)} boxes; got "
                f"{len(labels)}."
            )
        count = max(len(boxes), len(labels))
        # Lists: a module's tensors would follow .half(), which rounds pixels.
        self._boxes = boxes.expand(count, 4).tolist()
        self._labels = labels.expand(count).tolist()
        self._head = None if head is None else one_of("head", head, ("logits", "sigmoid"))
        self._floor = open_share("floor", floor)
        self.training = bool(getattr(model, "training", False))

    @property
    def name(self) -> str:
        """The name of the network."""
        return model_name(self.model)

    def forward(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logits of p for each box, (N, B)."""
        output = self.model(inputs, *args, **kwargs)
        found = self._of_pictures(output, len(inputs))
        if found is None:
            found = self._of_queries(output, inputs)
        best = torch.stack([self._best(boxes, scores) for boxes, scores in found])
        return best.clamp(self._floor, 1 - torch.finfo(best.dtype).eps).logit()

    def _best(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """Return p (B,) for detected boxes (K, 4) and their scores of each label (K, B)."""
        asked = torch.tensor(self._boxes, dtype=scores.dtype, device=scores.device)
        products = _overlap(asked, boxes.to(scores.dtype)) * scores
        with_none = torch.cat([products, products.new_zeros(1, len(asked))])
        # amax, as `relay` knows it: exactly, though another detection becomes the best on its way.
        return F.adaptive_max_pool1d(with_none.T, 1)[:, 0]

    def _of_pictures(self, output: object, count: int) -> list[tuple[Tensor, Tensor]] | None:
        """Return each picture's detections from a list of dictionaries; None if it is no such."""
        if not isinstance(output, list | tuple) or not all(map(_holds_boxes, output)):
            return None
        if not all(isinstance(one[name], Tensor) for one in output for name in _OF_PICTURES):
            raise ArgumentError(
                f"Expected `model` to return boxes, scores and labels as tensors; got "
                f"{describe(output[0])}."
            )
        if len(output) != count:
            raise ArgumentError(
                f"Expected `model` to return a dictionary for each of the {count} pictures; got "
                f"{len(output)}."
            )
        for one in output:
            count = len(one["labels"]) if one["labels"].dim() else 0
            shapes = [tuple(one[name].shape) for name in _OF_PICTURES]
            if shapes != [(count, 4), (count,), (count,)]:
                raise ArgumentError(
                    f"Expected `model` to return boxes (K, 4), scores (K,) and labels (K,) of each "
                    f"picture; got {', '.join(map(str, shapes))}."
                )
        found = []
        for one in output:
            boxes, scores, labels = (_Chosen.apply(one[name]) for name in _OF_PICTURES)
            if bool(((scores < 0) | (scores > 1)).any()):
                raise ArgumentError(
                    f"Expected `model` to return scores between 0 and 1; got some between "
                    f"{float(scores.min()):g} and {float(scores.max()):g}. If they are logits, "
                    f"return their sigmoid."
                )
            asked = torch.tensor(self._labels, device=scores.device)
            found.append((boxes, widen(scores)[:, None] * (labels[:, None] == asked)))
        return found

    def _of_queries(self, output: object, inputs: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each picture's queries as detections, from logits and relative boxes."""
        held: Any = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
        logits, centred = held.get("logits"), held.get("pred_boxes")
        if not isinstance(logits, Tensor) or not isinstance(centred, Tensor):
            raise ArgumentError(
                f"Expected `model` to return a list of dictionaries with boxes, scores and labels, "
                f"as torchvision's detectors do in eval mode, or an object with logits and "
                f"pred_boxes, as DETR of transformers does; got {_told(output)}."
            )
        if logits.dim() != 3 or tuple(centred.shape) != (*logits.shape[:2], 4):
            raise ArgumentError(
                f"Expected `model` to return logits (N, Q, M) and pred_boxes (N, Q, 4); got "
                f"{tuple(logits.shape)} and {tuple(centred.shape)}."
            )
        wide = widen(logits)
        if self._head_for(logits.shape[-1]) == "logits":
            scores = wide.softmax(-1)[..., :-1]
        else:
            scores = wide.sigmoid()
        if max(self._labels) >= scores.shape[-1]:
            raise ArgumentError(
                f"Expected `label` below {scores.shape[-1]}, the number of the detector's labels; "
                f"got {max(self._labels)}."
            )
        height, width = inputs.shape[-2:]
        centre, size = widen(centred).split(2, -1)
        sides = centre.new_tensor([width, height])
        boxes = torch.cat([centre - size / 2, centre + size / 2], -1) * sides.repeat(2)
        return list(zip(boxes, scores[..., self._labels], strict=True))

    def _head_for(self, columns: int) -> str:
        """Return how logits of so many columns become scores."""
        if self._head is not None:
            return self._head
        config = getattr(self.model, "config", None)
        is_unnamed = getattr(config, "id2label", ()) is None  # transformers then raises an error
        labels = None if is_unnamed else getattr(config, "num_labels", None)
        if labels not in (columns, columns - 1):
            raise ArgumentError(
                f"Expected `head` for a detector whose config does not tell it: 'logits' if the "
                f"last of the {columns} classes is \"no object\" (DETR, YOLOS), 'sigmoid' if each "
                f"label has its own sigmoid (Deformable DETR, RT-DETR); got None."
            )
        return "logits" if labels == columns - 1 else "sigmoid"


class _Chosen(torch.autograd.Function):
    """Detections that were chosen from many: they have gradients, but the choice has none.

    Every other picture has another choice, so no view can pass information back through it. The
    values are read and written anew, so that a record of PyTorch's functions ends here, and these
    views refuse at once.
    """

    @staticmethod
    def forward(ctx: Any, chosen: Tensor) -> Tensor:
        """Return the same values in a new tensor."""
        made = torch.tensor(chosen.tolist(), dtype=chosen.dtype, device=chosen.device)
        return made.reshape(chosen.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the same gradients."""
        return gradients[0]


def _overlap(asked: Tensor, boxes: Tensor) -> Tensor:
    """Return the intersection over union of detected boxes (K, 4) and those asked about, (K, B)."""
    first, second = boxes[:, None], asked[None]
    corners = torch.maximum(first[..., :2], second[..., :2])
    ends = torch.minimum(first[..., 2:], second[..., 2:])
    common = (ends - corners).clamp_min(0).prod(-1)
    areas = [(one[..., 2:] - one[..., :2]).clamp_min(0).prod(-1) for one in (first, second)]
    return common / (areas[0] + areas[1] - common)


def _holds_boxes(one: object) -> bool:
    return isinstance(one, Mapping) and all(name in one for name in _OF_PICTURES)


def _told(output: object) -> str:
    """Say what a detector returned."""
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} of {', '.join(map(repr, output))}"
    if isinstance(output, list | tuple) and len(output):
        return f"a {type(output).__name__} of {len(output)}, the first {_told(output[0])}"
    return describe(output) if isinstance(output, Tensor) else type(output).__name__


def _checked_boxes(given: object) -> Tensor:
    """Return boxes as a table (B, 4)."""
    boxes = _numbers(given)
    boxes = boxes[None] if boxes.dim() == 1 else boxes
    is_other = boxes.dtype == torch.bool or boxes.is_complex()
    if boxes.dim() != 2 or boxes.shape[1] != 4 or not len(boxes) or is_other:
        raise ArgumentError(
            f"Expected `box` to be x0, y0, x1, y1 in pixels, (4,) or (B, 4); got {describe(given)}."
        )
    boxes = boxes.double()
    if not bool(boxes.isfinite().all() and (boxes[:, :2] < boxes[:, 2:]).all()):
        raise ArgumentError(
            f"Expected `box` with x0 < x1 and y0 < y1; got {boxes.tolist()}. Boxes of centre and "
            f"size are torchvision.ops.box_convert(box, 'cxcywh', 'xyxy')."
        )
    return boxes


def _checked_labels(given: object) -> Tensor:
    """Return labels as integers (B,)."""
    labels = _numbers(given)
    labels = labels[None] if labels.dim() == 0 else labels
    is_whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.dim() != 1 or not len(labels) or not is_whole or int(labels.min()) < 0:
        raise ArgumentError(
            f"Expected `label` to be the number of a label, or one for each box; got "
            f"{describe(given)}."
        )
    return labels


def _numbers(given: object) -> Tensor:
    """Return numbers in any form as a tensor on the CPU; an empty one if they are none."""
    if isinstance(given, Tensor) and not given.is_meta:
        return given.detach().cpu()
    try:
        return torch.from_numpy(np.asarray(cast(Any, given)))
    except (TypeError, ValueError, RuntimeError, NotImplementedError):
        return torch.empty(0, device="cpu")
