# From the user's own pictures to the network's input: by a transform, or tensors as they are.
from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._process import libraries_state, numbers_of_libraries, quiet
from captum_infomask.dataset_run.data.reading import in_one_line

_SEEDS = 32  # a step that is left out half the time is certainly seen
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@contextmanager
def own_numbers(seed: int = 0) -> Iterator[None]:
    """Inside the block, the CPU's global generators start from a seed; then they are restored.

    Example:
        >>> import torch
        >>> from captum_infomask.dataset_run.data.own_input import own_numbers
        >>> numbers = []
        >>> for _ in range(2):
        ...     with own_numbers():
        ...         numbers.append(float(torch.rand(1)))
        >>> numbers[0] == numbers[1]
        True
    """
    with torch.random.fork_rng(devices=[]), numbers_of_libraries(seed):
        torch.default_generator.manual_seed(seed)
        yield


def _numbers_state() -> tuple[bytes, bytes]:
    return libraries_state(), torch.get_rng_state().numpy().tobytes()


def is_random(make: Callable[[], Image.Image | Tensor]) -> bool:
    """Whether random numbers change a picture; blurs draw them too, but nothing depends on them.

    Example:
        >>> import torch
        >>> from captum_infomask.dataset_run.data.own_input import is_random
        >>> is_random(lambda: torch.rand(1, 2, 2)), is_random(lambda: 0 * torch.rand(1, 2, 2))
        (True, False)
    """
    with quiet(""), own_numbers():
        before = _numbers_state()
        first = picture_sha256(make())
        if _numbers_state() == before:
            return False
    for seed in range(1, _SEEDS):
        with quiet(""), own_numbers(seed):
            if picture_sha256(make()) != first:
                return True
    return False


def picture_sha256(picture: Image.Image | Tensor) -> str:
    """SHA-256 of a picture's mode, size and pixels, or of a tensor's type, shape and numbers."""
    if isinstance(picture, Tensor):
        array = picture.numpy() if picture.dtype != torch.bfloat16 else picture.float().numpy()
        head, content = f"{picture.dtype} {tuple(picture.shape)}", array.tobytes()
    else:
        head, content = f"{picture.mode} {picture.size}", picture.tobytes()
        content += bytes(picture.getpalette() or ())
    return hashlib.sha256(f"{head}\n".encode() + content).hexdigest()


@dataclass(frozen=True)
class PictureForm:
    """The form of a data set's pictures, which our own test pictures take for a transform.

    Attributes:
        mode: Pillow's mode.
        size: (width, height), in pixels. The default values are the form of our own test pictures.

    Example:
        >>> from PIL import Image
        >>> from captum_infomask.dataset_run.data.own_input import PictureForm
        >>> made = PictureForm("L", (28, 28)).of(Image.new("RGB", (640, 480)))
        >>> made.mode, made.size
        ('L', (28, 28))
    """

    mode: str = "RGB"
    size: tuple[int, int] = (640, 480)

    def of(self, image: Image.Image) -> Image.Image:
        """Return an RGB picture in this form."""
        resized = image.resize(self.size)
        try:
            return resized.convert(self.mode)
        except ValueError:  # only grey pictures become pictures of 16 bits
            return resized.convert("L").convert(self.mode)

    def words(self) -> list[str | int]:
        """The form as a manifest holds it."""
        return [self.mode, *self.size]

    @classmethod
    def from_words(cls, words: Any) -> PictureForm:
        """Read what ``words`` wrote."""
        mode, width, height = words
        return cls(str(mode), (int(width), int(height)))


class OwnTransform:
    """A user's transform as a preprocessing.

    Args:
        transform: Picture → float tensor, (C, H, W) or (1, C, H, W).
        tried: A picture in the form of the data's pictures, for a first trial.

    Attributes:
        shape: (C, H, W) of the network's input.

    Raises:
        ArgumentError: The transform raises an error for a picture, draws random numbers, or returns
            something else.
    """

    def __init__(self, transform: Callable[[Any], Any], tried: Image.Image) -> None:
        self._transform = transform
        try:
            with quiet(""), own_numbers():
                made = transform(tried.copy())
        except Exception as error:
            raise ArgumentError(
                f"Expected `transform` to take a picture of PIL and return a float tensor "
                f"(C, H, W); for a picture of mode {tried.mode!r} and {tried.width} × "
                f"{tried.height} pixels it raised {in_one_line(error)}."
            ) from error
        self.shape: tuple[int, ...] = tuple(_input(made).shape[1:])
        if is_random(lambda: _input(transform(tried.copy()))[0]):
            raise ArgumentError(
                "Expected `transform` to give the same tensor for the same picture each time; it "
                "draws random numbers, as transforms for training do. Pass the transform for "
                "evaluation (of torchvision: Resize and CenterCrop for RandomResizedCrop, no "
                "RandomHorizontalFlip)."
            )

    def __call__(self, picture: Image.Image) -> Tensor:
        """Return the network's input, (1, C, H, W)."""
        with own_numbers():
            return _input(self._transform(picture.copy()))  # it may paint into its picture

    def frame(self, picture: Image.Image) -> Image.Image:
        """Return the network's input as an RGB picture of its own size."""
        return scaled_picture(self(picture)[0])

    def __repr__(self) -> str:
        """The transform in words that are the same in all processes."""
        return f"transform {' '.join(_ADDRESS.sub('', repr(self._transform)).split())}"


def _input(made: object) -> Tensor:
    """What a transform returned, as a batch of one."""
    wanted = "Expected `transform` to return a float tensor (C, H, W)"
    if not isinstance(made, Tensor):
        hint = " Let ToTensor() be its last step." if isinstance(made, Image.Image) else ""
        raise ArgumentError(f"{wanted}; got {describe(made)}.{hint}")
    if not made.is_floating_point():
        raise ArgumentError(
            f"{wanted}; got {describe(made)}. v2.ToDtype(torch.float32, scale=True) makes one."
        )
    if made.dim() == 3:
        return made[None]
    if made.dim() == 4 and len(made) == 1:
        return made
    raise ArgumentError(f"{wanted}; got {describe(made)}.")


@dataclass(frozen=True)
class AsTensors:
    """The preprocessing of data that are tensors already: none.

    Attributes:
        shape: (C, H, W) of the network's input.

    Example:
        >>> import torch
        >>> from captum_infomask.dataset_run.data.own_input import AsTensors
        >>> tuple(AsTensors((1, 8, 8))(torch.zeros(1, 8, 8)).shape)
        (1, 1, 8, 8)
    """

    shape: tuple[int, ...]

    def __call__(self, picture: Tensor | Image.Image) -> Tensor:
        """Return a batch of one; our own test pictures get the data's shape, about −2 to 2."""
        if isinstance(picture, Tensor):
            return picture[None]
        channels, height, width = self.shape
        colours = to_tensor(picture.resize((width, height)))
        repeated = colours[torch.arange(channels) % len(colours)]
        made: Tensor = (4 * repeated - 2)[None]
        return made

    def frame(self, picture: Tensor) -> Image.Image:
        """Return the network's input as an RGB picture."""
        return scaled_picture(picture)


def scaled_picture(shown: Tensor) -> Image.Image:
    """A network's input as an RGB picture: its lowest number becomes black, its highest white.

    Three channels are colours. If there is another number of channels, their mean is shown in grey.

    Args:
        shown: (C, H, W), finite.

    Example:
        >>> import torch
        >>> from captum_infomask.dataset_run.data.own_input import scaled_picture
        >>> scaled_picture(torch.tensor([[[-1.0, 0.0, 1.0]]])).convert("L").tobytes().hex()
        '0080ff'
    """
    shown = shown.detach().cpu().double()
    if len(shown) != 3:
        shown = shown.mean(0, keepdim=True).expand(3, -1, -1)
    low, high = shown.min(), shown.max()
    scaled = (shown - low) / (high - low).clamp_min(torch.finfo(torch.double).tiny)
    pixels: Any = (255 * scaled).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels))
