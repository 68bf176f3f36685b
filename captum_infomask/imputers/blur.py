# The blur imputer: a Gaussian-blurred copy of the picture.
from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from captum_infomask._checks import finite_number
from captum_infomask._types import Tensors
from captum_infomask.imputers.base import Pictures
from captum_infomask.imputers.checks import float_images
from captum_infomask.imputers.filled import wide


@dataclass(frozen=True)
class Blur:
    """Hidden pixels take the values of a Gaussian-blurred copy of the picture.

    Args:
        sigma: Standard deviation in pixels; a sixteenth of the shorter side if None.

    Raises:
        ArgumentError: ``sigma`` is not above 0; when used: the inputs are no floating-point images.

    Example:
        >>> from captum_infomask import Blur, InfoMask
        >>> import torch
        >>> infomask = InfoMask(lambda x: 2 + x.flatten(1)[:, :2])
        >>> infomask.attribute(torch.rand(1, 1, 8, 8), target=0, view="drop", imputer=Blur(2)).shape
        torch.Size([1, 1, 8, 8])
    """

    sigma: float | None = None

    def __post_init__(self) -> None:
        if self.sigma is not None:
            finite_number("sigma", self.sigma, above=0)

    def prepare(self, inputs: Tensors) -> Pictures:
        """Blur every image once."""
        float_images("Blur", inputs)
        return Pictures(tuple(self._blurred(x) for x in inputs))

    def _blurred(self, x: Tensor) -> Tensor:
        from torchvision.transforms.v2.functional import gaussian_blur

        height, width = x.shape[2:]
        sigma = self.sigma or min(height, width) / 16
        blurred = wide(x.detach())
        # One dimension at a time: the same Gaussian at a fraction of the two-dimensional kernel's
        # cost.
        for size, along in ((height, 1), (width, 0)):
            taps = 2 * min(round(4 * sigma), size - 1) + 1
            kernel = [taps, 1] if along == 0 else [1, taps]
            blurred = gaussian_blur(blurred, kernel, [sigma, sigma])
        return blurred.to(x.dtype)
