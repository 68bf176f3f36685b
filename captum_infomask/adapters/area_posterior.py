# The posterior of a random pixel of an area, for networks that have a posterior at every pixel.
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function

from captum_infomask._checks import check_callable, describe, model_name
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import warn
from captum_infomask._types import Shape
from captum_infomask.scores.heads import sum_to_one, widen

_FAR = 0.25  # probabilities of sigmoids go further than this to both sides of 1/2
_HELD = ("out", "logits")  # the names of the map in outputs of torchvision, of Hugging Face


def area(
    model: Callable[..., Any],
    where: Tensor | npt.NDArray[Any] | Sequence[Any],
) -> AreaPosterior:
    r"""Turn a segmentation network into a network that answers for an area of the picture.

    The answer is the class of a random pixel of the area A:

    .. math::

        \log p(y \mid x) = \log \frac{1}{|A|} \sum_{a \in A} \operatorname{softmax}(f_a(x))_y.

    It is a distribution over the M classes. Its softmax is the distribution itself, so
    ``head="logits"``, the default, and ``head="log_probs"`` read it alike.

    If the network's map is smaller than its input, as Hugging Face's are, the logits are resized
    to the input's size bilinearly, with ``align_corners=False``. Those networks are trained on the
    softmax of such resized logits. A map of one channel is read by the sigmoid, as two classes: 1
    is what it speaks for, 0 is the rest.

    The area stays in its place, so the views that leave the picture in place fit: all but ``crop``.
    For several areas, make an adapter of each.

    Args:
        model: Maps (N, C, H, W) to logits (N, M, h, w), or to a dictionary or an object that holds
            them as ``out`` or ``logits``. Volumes (N, C, D, H, W) and signals (N, C, T) work too.
        where: The area: a boolean mask of the input's size, (H, W), or of the map's size, (h, w),
            which is then not resized; or one box x0, y0, x1, y1 in whole pixels of the input,
            half-open; or several boxes (R, 4), as :func:`bounding_boxes` returns them for a
            picture, whose union it is. The pixels to which the network itself gives class 2 in a
            picture are ``model(x).argmax(1)[0] == 2``.

    Returns:
        A module from pictures to log p(y | x), (N, M), in float32 at least. It is in training mode
        if ``model`` is.

    Raises:
        ArgumentError: ``where`` is something else or has no pixel. In a pass: it does not fit the
            pictures, or the network returns something else.

    Warns:
        UserWarning: In a pass, if the map's values look like probabilities.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask
        >>> from captum_infomask.adapters import area
        >>> network = torch.nn.Conv2d(3, 4, 1).eval()  # four classes at every pixel
        >>> x = torch.rand(1, 3, 8, 8)
        >>> asked = area(network, where=network(x).argmax(1)[0] == 2)
        >>> InfoMask(asked).attribute(x, target=2).shape
        torch.Size([1, 3, 8, 8])
    """
    return AreaPosterior(model, where)


class AreaPosterior(nn.Module):
    """What :func:`area` returns.

    Attributes:
        model: The network.
        is_about_a_place: True: views must not cut out or move any part of the picture.
    """

    is_about_a_place = True
    _index: Tensor | None

    def __init__(self, model: Callable[..., Any], where: object) -> None:
        super().__init__()
        check_callable("model", model)
        self.model = model
        given = _checked(where)
        self._size = tuple(given.shape) if given.dtype == torch.bool else None
        # The union of several boxes is taken once they are known to lie inside the pictures.
        self._boxes: list[list[int]] = []
        index = None
        if self._size is None:
            (x0, y0), (x1, y1) = given[:, :2].amin(0).tolist(), given[:, 2:].amax(0).tolist()
            self._spans = [(y0, y1), (x0, x1)]
            self._boxes = given.tolist() if len(given) > 1 else []
        else:
            places = given.nonzero(as_tuple=True)
            self._spans = [(int(own.min()), int(own.max()) + 1) for own in places]
            part = given[tuple(slice(*span) for span in self._spans)]
            index = None if bool(part.all()) else _index_of(part)
        self.register_buffer("_index", index, persistent=False)
        self.training = bool(getattr(model, "training", False))

    @property
    def name(self) -> str:
        """The name of the network."""
        return model_name(self.model)

    def forward(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return log p(y | x) of the area, (N, M)."""
        output = _map_in(self.model(inputs, *args, **kwargs))
        return _log_mean(output, inputs, self._index, self._boxes, self._spans, self._size)


def _map_in(output: object) -> Any:
    """Return the map in a network's output, or the output itself."""
    if isinstance(output, Mapping):
        return next((output[name] for name in _HELD if name in output), output)
    if hasattr(output, "__torch_function__"):  # a tensor, or one of the stand-ins that trace
        return output
    return next((getattr(output, name) for name in _HELD if hasattr(output, name)), output)


def _log_mean(
    output: Any,
    inputs: Tensor,
    index: Tensor | None,
    boxes: Sequence[Sequence[int]],
    spans: Sequence[tuple[int, int]],
    size: Shape | None,
) -> Tensor:
    """Return the logarithm of the mean posterior over an area, (N, M).

    Args:
        output: The network's map.
        inputs: The pictures.
        index: The pixels of the area, by their places within ``spans``; None if they are all, or
            if there are ``boxes``.
        boxes: Several boxes, whose union is the area; else none.
        spans: Start and stop of the area in each dimension.
        size: The size of the mask, or None for boxes, which are in pixels of the pictures.
    """
    if not isinstance(output, Tensor) and hasattr(output, "__torch_function__"):
        # Sizes are unknown while the network is traced: there this function is a single step.
        found: Tensor = handle_torch_function(
            _log_mean, (output,), output, inputs, index, boxes, spans, size
        )
        return found
    logits = widen(_checked_map(output, inputs.shape[2:], spans, size))
    size = size if size == logits.shape[2:] else inputs.shape[2:]
    values = _within(logits, size, spans).flatten(2)
    index = _union_of(boxes, spans) if boxes else index
    if index is not None:
        values = values.index_select(2, index.to(values.device))
    if values.shape[1] == 1:
        log_p = F.logsigmoid(torch.cat([-values, values], 1))
    else:
        log_p = F.log_softmax(values, 1)
    return log_p.logsumexp(2) - math.log(values.shape[2])


def _union_of(boxes: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]]) -> Tensor:
    """Return the pixels of some boxes, by their places within the spans."""
    (top, bottom), (left, right) = spans
    mask = torch.zeros(bottom - top, right - left, dtype=torch.bool, device="cpu")
    for x0, y0, x1, y1 in boxes:
        mask[y0 - top : y1 - top, x0 - left : x1 - left] = True
    return _index_of(mask)


def _index_of(mask: Tensor) -> Tensor:
    return mask.flatten().nonzero()[:, 0]


def _within(logits: Tensor, size: Shape, spans: Sequence[tuple[int, int]]) -> Tensor:
    """Resize a map bilinearly; return the part that the spans hold, which alone is computed."""
    for dim, (new, (start, stop)) in enumerate(zip(size, spans, strict=True), 2):
        old = logits.shape[dim]
        if old == new:
            logits = logits.narrow(dim, start, stop - start)
            continue
        pixels = torch.arange(start, stop, dtype=torch.float64, device="cpu")
        places = ((pixels + 0.5) * (old / new) - 0.5).clamp(0, old - 1)
        low = places.long()
        high = (low + 1).clamp(max=old - 1)
        low, high = low.to(logits.device), high.to(logits.device)
        share = (places - places.floor()).to(logits.device, logits.dtype)
        share = share.reshape(-1, *[1] * (logits.dim() - dim - 1))
        below, above = logits.index_select(dim, low), logits.index_select(dim, high)
        logits = below * (1 - share) + above * share
    return logits


def _checked_map(
    output: object, shown: torch.Size, spans: Sequence[tuple[int, int]], size: Shape | None
) -> Tensor:
    """Return the network's map if it is one, and if the area fits it."""
    is_map = isinstance(output, Tensor) and output.is_floating_point() and output.numel() > 0
    if not isinstance(output, Tensor) or not is_map or output.dim() != 2 + len(shown):
        raise ArgumentError(
            f"Expected `model` to return logits at every pixel, as many dimensions as the inputs, "
            f"(N, M, ...), or a dictionary or an object that holds them as 'out' or 'logits'; got "
            f"{_told(output)}. For another form pass area(lambda x: ..., where)."
        )
    own = tuple(output.shape[2:])
    if size is None and len(shown) != 2:
        raise ArgumentError(
            f"Expected `where` to be a mask for inputs of size {tuple(shown)}; got boxes, which "
            f"are parts of pictures."
        )
    if size is None and any(stop > side for (_, stop), side in zip(spans, shown, strict=True)):
        raise ArgumentError(
            f"Expected `where` to be boxes inside the pictures, whose width and height are "
            f"{shown[1]} and {shown[0]}; got x1 = {spans[1][1]}, y1 = {spans[0][1]}."
        )
    if size is not None and size not in (tuple(shown), own):
        raise ArgumentError(
            f"Expected `where` to be a mask of the pictures' size, {tuple(shown)}, or of the "
            f"network's map, {own}; got {size}.{_one_too_many(size, shown, own)}"
        )
    _doubt(output.detach())
    return output


def _one_too_many(size: Shape, *fitting: Sequence[int]) -> str:
    """Say what to pass instead of a mask for each picture."""
    is_batch = any(size[1:] == tuple(each) for each in fitting)
    return (
        " An area is the same in all pictures: where[0] is that of the first." if is_batch else ""
    )


def _told(output: object) -> str:
    """Say what a network returned."""
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} of {', '.join(map(repr, output))}"
    return describe(output) if isinstance(output, Tensor) else type(output).__name__


def _doubt(output: Tensor) -> None:
    """Warn if the map's values look like probabilities."""
    low, high = map(float, output.aminmax())
    if output.shape[1] == 1 and 0 <= low < _FAR < 1 - _FAR < high <= 1:
        warn(
            "All values of the map lie in [0, 1]: they look like probabilities, and `area` takes "
            "logits. If they are, pass area(lambda x: torch.logit(model(x), eps=1e-6), where)."
        )
    elif low >= 0 and sum_to_one(output):
        warn(
            "All values of the map lie in [0, 1] and sum to 1 over the classes: they look like "
            "probabilities, and `area` takes logits. Pass area(lambda x: model(x).log(), where)."
        )


def _checked(where: object) -> Tensor:
    """Return an area as a boolean mask, or as boxes, long (R, 4), on the CPU."""
    try:  # a flipped array has strides below 0, which tensors do not have
        own = where if isinstance(where, Tensor) else torch.from_numpy(np.array(where, order="C"))
    except (TypeError, ValueError, RuntimeError):
        raise _no_area(where) from None
    if own.is_meta:
        raise _no_area(where)
    given = own.detach().cpu()
    if given.dtype == torch.bool and given.dim() > 0:
        if not bool(given.any()):
            raise ArgumentError(
                f"Expected `where` with at least one pixel; the mask {tuple(given.shape)} is empty."
            )
        return given
    boxes = given[None] if given.dim() == 1 else given
    if boxes.dim() != 2 or boxes.shape[1] != 4 or boxes.is_complex():
        raise _no_area(where)
    if not len(boxes):
        raise ArgumentError("Expected `where` with at least one box; got none.")
    whole = boxes.long()
    fits = (whole == boxes.double()).all() and (whole[:, :2] >= 0).all()
    if not bool(fits and (whole[:, :2] < whole[:, 2:]).all()):
        raise ArgumentError(
            f"Expected `where` to be boxes x0, y0, x1, y1 in whole pixels with 0 ≤ x0 < x1 and "
            f"0 ≤ y0 < y1; got {boxes.tolist()}."
        )
    return whole


def _no_area(where: object) -> ArgumentError:
    hint = " where > 0 is boolean." if isinstance(where, Tensor | np.ndarray) else ""
    if isinstance(where, list | tuple) and any(isinstance(one, Tensor) for one in where):
        hint = " bounding_boxes(masks)[0] are the boxes of the first picture."
    if isinstance(where, str | int):
        hint = " The class is the target: InfoMask(area(model, where)).attribute(x, target=...)."
    return ArgumentError(
        f"Expected `where` to be a boolean mask, (H, W), or boxes x0, y0, x1, y1, (4,) or (R, 4); "
        f"got {describe(where)}.{hint}"
    )
