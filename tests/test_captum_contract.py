# What Captum asks of an attribution method: formats, targets, arguments, autograd, the bar.
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, Occlusion
from captum.attr._utils.attribution import PerturbationAttribution
from tiny import Net, images, two_inputs
from torch import Tensor

from captum_infomask import ArgumentError, InfoMap, InfoMask


def test_family_and_names() -> None:
    infomask = InfoMask(Net())
    assert isinstance(infomask, PerturbationAttribution)
    assert not isinstance(infomask, FeatureAblation | Occlusion)
    assert infomask.get_name() == "Info Mask"
    assert infomask.multiplies_by_inputs is False
    assert not infomask.has_convergence_delta()


def test_attribute_itself_is_without_grad_and_can_be_unwrapped() -> None:
    """Captum asks for both: NoiseTunnel unwraps the outer decorator and relies on the inner one."""
    grad_modes = []

    class Recording(InfoMask):
        def score_regions(self, *args: Any, **kwargs: Any) -> InfoMap:
            grad_modes.append(torch.is_grad_enabled())
            return super().score_regions(*args, **kwargs)

    infomask = Recording(Net())
    bits = infomask.attribute(images(), target=0)
    assert torch.equal(InfoMask.attribute.__wrapped__(infomask, images(), target=0), bits)
    assert grad_modes == [False, False]


@pytest.mark.parametrize("view", ["keep", "drop", "chain"])
def test_tuple_in_tuple_out(view: str) -> None:
    x, y = images().reshape(-1, 2), images(seed=1).reshape(-1, 2)
    result = InfoMask(two_inputs).attribute((x, y), target=1, view=view)
    assert isinstance(result, tuple)
    assert [part.shape for part in result] == [x.shape, y.shape]
    assert all(float(part.abs().max()) > 0.05 for part in result)


def test_token_ids_are_inputs_too() -> None:
    embedding = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    result = InfoMask(lambda i: embedding[i].sum(1)).attribute(ids, 0, 2, view="drop")
    assert result.dtype == torch.float32
    assert result.shape == ids.shape
    assert float(result.abs().max()) > 0.1


@pytest.mark.parametrize(
    ("target", "same"),
    [
        (np.int64(2), 2),
        (np.array(2), 2),
        (torch.tensor(2), 2),
        (torch.tensor([2]), 2),
        ((2,), 2),
        ([2, 2, 2], 2),
        ([0, 1, 2], [0, 1, 2]),
        (torch.tensor([0, 1, 2]), [0, 1, 2]),
        (torch.tensor([0, 1, 2], dtype=torch.int32), [0, 1, 2]),
        (np.array([0, 1, 2]), [0, 1, 2]),
        ([(0,), (1,), (2,)], [0, 1, 2]),
        ([np.int64(0), torch.tensor(1), 2], [0, 1, 2]),
    ],
    ids=repr,
)
def test_every_form_of_target(target: Any, same: int | list[int]) -> None:
    """In each view: tests/test_conformance_views.py."""
    x = images(3)
    infomask = InfoMask(Net())
    targets = same if isinstance(same, list) else [same] * 3
    expected = torch.cat(
        [infomask.attribute(x[i : i + 1], target=t, view="drop") for i, t in enumerate(targets)]
    )
    got = infomask.attribute(x, target=target, view="drop")
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    other = infomask.attribute(x, target=4, view="drop")
    assert float((got - other).abs().max()) > 0.1


@pytest.mark.parametrize(
    ("target", "column"),
    [((1, 0), (1, 0)), ([(1, 0), (0, 1)], None)],
    ids=["tuple", "list of tuples"],
)
def test_targets_of_outputs_with_more_dimensions(
    target: Any, column: tuple[int, int] | None
) -> None:
    net, x = Net(), images()

    def two_heads(x: Tensor) -> Tensor:
        return torch.stack([net(x), 2 * net(x).flip(1)], dim=2)

    pairs = [column] * 2 if column else target
    got = InfoMask(two_heads).attribute(x, target=target, view="drop")
    for i, (label, head) in enumerate(pairs):

        def one_head(x: Tensor, head: int = head) -> Tensor:
            return two_heads(x)[:, :, head]

        expected = InfoMask(one_head).attribute(x[i : i + 1], target=label, view="drop")
        torch.testing.assert_close(got[i : i + 1], expected, atol=1e-5, rtol=1e-5)
    assert float(got.abs().max()) > 0.1


def test_one_additional_argument_needs_no_tuple() -> None:
    net, x, scale = Net(), images(), torch.tensor([[0.5], [3.0]])
    forward = InfoMask(lambda x, scale: net(x) * scale)
    bare = forward.attribute(x, target=1, additional_forward_args=scale)
    assert torch.equal(bare, forward.attribute(x, target=1, additional_forward_args=(scale,)))


def test_results_can_be_used_in_autograd() -> None:
    net, x = Net(), images()
    bits = InfoMask(net).attribute(x, target=1, view="drop")
    assert not bits.is_inference()
    loss = (net(x).softmax(1)[:, 1] * (bits**2).sum((1, 2, 3))).sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    weight = bits.clone().requires_grad_()
    (weight * x).sum().backward()
    assert torch.equal(weight.grad, x)


def test_a_model_that_uses_gradients_inside() -> None:
    net = Net()

    def forward(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(net(x).square().sum(), x)
        return net(x) + slope.mean((1, 2, 3))[:, None] * torch.arange(5)

    result = InfoMask(forward).attribute(images(), target=1, view="drop")
    assert not result.requires_grad
    assert float(result.abs().max()) > 0.1


def test_no_progress_bar_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    InfoMask(Net()).attribute(images(), target=1)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_errors_are_value_errors_and_assertion_errors() -> None:
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(ArgumentError, AssertionError)
    for kind in (ValueError, AssertionError):
        with pytest.raises(kind, match="`perturbations_per_eval`"):
            InfoMask(Net()).attribute(images(), target=1, perturbations_per_eval=0)
        with pytest.raises(kind, match="`target`"):
            InfoMask(Net()).attribute(images(), target=99)
