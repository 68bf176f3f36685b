# One picture of a data set, from its bytes to the tensor that the network sees, or to an error.
from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet
from captum_infomask.dataset_run.data.pictures import Pictures
from captum_infomask.dataset_run.errors import in_one_line
from captum_infomask.engines.memory import is_out_of_memory
from captum_infomask.models.pictures import decode_image


@dataclass(frozen=True)
class Decoded:
    """A picture's tensor, or what is wrong with it.

    Attributes:
        index: The picture's number in its data set.
        sha256: Of the file's bytes, in hexadecimal; None if they cannot be read.
        tensor: (C, H, W), float32; None if the picture is bad.
        error: What is wrong, in one line; empty if nothing is.
    """

    index: int
    sha256: str | None
    tensor: Tensor | None
    error: str


def decode(
    pictures: Pictures,
    k: int,
    preprocess: Callable[[Image.Image], Tensor],
    shape: tuple[int, ...],
) -> Decoded:
    """Read, decode and preprocess one picture; whatever is wrong with it becomes its error.

    The same bytes give the same result, error included, in any process. No warning is given.

    Args:
        pictures: A data set.
        k: The picture's number.
        preprocess: Picture → (1, C, H, W), as of a ``Classifier``.
        shape: (C, H, W) that is expected.

    Returns:
        The tensor, or the error. Only what is no fault of the picture is raised: MemoryError,
        KeyboardInterrupt.

    Example:
        >>> import os, tempfile
        >>> from captum_infomask.dataset_run.data.decode import decode
        >>> from captum_infomask.dataset_run.data.pictures import find_pictures
        >>> from captum_infomask.models.pictures import Preprocess
        >>> path = os.path.join(tempfile.mkdtemp(), "notes.jpg")
        >>> with open(path, "w") as file:
        ...     print("not a picture", file=file)
        >>> decode(find_pictures(path), 0, Preprocess(), (3, 224, 224)).error
        'Expected the image to be a picture file such as PNG or JPEG; it is not one.'
    """
    sha256 = None
    try:
        with quiet(""):
            content = pictures.read(k)
            sha256 = hashlib.sha256(content).hexdigest()
            tensor = _checked(preprocess(decode_image(content, "it")), shape)
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        return Decoded(k, sha256, None, in_one_line(error))
    return Decoded(k, sha256, tensor, "")


def _checked(made: object, shape: tuple[int, ...]) -> Tensor:
    """Take the picture out of its batch of one, or say what is wrong with it."""
    if not isinstance(made, Tensor) or tuple(made.shape) != (1, *shape):
        raise ArgumentError(
            f"Expected the preprocessing to return a tensor of shape {(1, *shape)}; "
            f"got {describe(made)}."
        )
    picture = made.detach()[0].to("cpu", torch.float32)
    if not bool(picture.isfinite().all()):
        raise ArgumentError("Expected the preprocessed picture to be finite; got NaN or infinity.")
    return picture.contiguous()
