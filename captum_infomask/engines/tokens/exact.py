# Whether the network taken apart is the network: measured, before it is relied on.
from __future__ import annotations

import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask.engines.agreement import roundings
from captum_infomask.engines.tokens.transformers import Transformer


def check_exact(transformer: Transformer, picture: Tensor, expected: Tensor) -> None:
    """Refuse a transformer whose tokens, in another order, do not give the network's own output.

    The other order tells a network that minds the order of its tokens, of which none can be
    removed as if it had never been there.

    Args:
        transformer: The network taken apart.
        picture: One picture (1, C, H, W).
        expected: The network's own output for it (1, M).

    Raises:
        ArgumentError: They differ by more than 1e-5 of the largest number in the output; in half
            precision, and where float32 factors are rounded (TF32), by more than that explains.
    """
    tokens = transformer.embed(picture)
    first, patches = tokens.tensor_split([transformer.prefix], dim=1)
    order = torch.randperm(patches.shape[1], generator=torch.Generator().manual_seed(0))
    output = transformer.classify(torch.cat([first, patches[:, order.to(patches.device)]], dim=1))
    difference = float((output - expected).abs().max() / expected.abs().max())
    allowed = max(1e-5, 10 * torch.finfo(expected.dtype).eps)
    if expected.dtype == torch.float32:
        allowed = max(allowed, roundings(expected.dtype, expected.device))
    if difference > allowed:
        raise ArgumentError(
            f"Expected `forward_func` to be a vision transformer that does not mind the order of "
            f"its tokens, positions added; its output changed by {difference:.1e} of its largest "
            f"number. engine='batched' runs it, with imputers of pixels."
        )
