# A copy is held to what the network's own arithmetic can repeat, under PyTorch's settings in force.
from __future__ import annotations

import pytest
import torch
from tiny_vits import timm_network, torchvision_network

from captum_infomask import ArgumentError
from captum_infomask.engines.tokens.tokens_engine import check_exact
from captum_infomask.engines.tokens.transformers import transformer_of
from captum_infomask.engines.traced_network import StandsAside
from captum_infomask.engines.verified_copy import check_agreement, roundings

GPU, CPU = torch.device("cuda"), torch.device("cpu")
TF32, BF16, EXACT = 8 * 2**-11, 8 * 2**-8, 64 * 2**-24


class Flags:
    """Stands for one of PyTorch's rooms of settings."""

    def __init__(self, **flags: object) -> None:
        self.__dict__.update(flags)


@pytest.fixture
def settings(monkeypatch):
    """Puts other settings in the place of PyTorch's, as a release that has them names them."""

    def put(matmul: str, conv: str, by_operation: bool) -> None:
        if by_operation:
            of = {"matmul": Flags(fp32_precision=matmul), "conv": Flags(fp32_precision=conv)}
            monkeypatch.setattr(torch.backends.cuda, "matmul", of["matmul"])
            monkeypatch.setattr(torch.backends, "cudnn", Flags(enabled=True, **of))
            monkeypatch.setattr(torch.backends, "mkldnn", Flags(**of))
            return
        monkeypatch.setattr(torch.backends.cuda, "matmul", Flags(allow_tf32=matmul == "tf32"))
        monkeypatch.setattr(torch.backends, "cudnn", Flags(allow_tf32=conv == "tf32"))
        monkeypatch.setattr(torch.backends, "mkldnn", Flags())
        named = {"bf16": "medium", "tf32": "high"}.get(matmul, "highest")
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: named)

    return put


@pytest.mark.parametrize("by_operation", [True, False])
@pytest.mark.parametrize(
    ("matmul", "conv", "allowed"),
    [
        ("none", "none", EXACT),
        ("ieee", "ieee", EXACT),
        ("tf32", "ieee", TF32),
        ("none", "tf32", TF32),
    ],
)
def test_a_copy_under_tf32_is_not_held_to_1e_4(settings, matmul, conv, allowed, by_operation):
    settings(matmul, conv, by_operation)
    assert roundings(torch.float32, GPU) == allowed
    assert roundings(torch.float64, GPU) == 64 * 2**-53


@pytest.mark.parametrize("by_operation", [True, False])
def test_a_copy_on_the_cpu_is_held_to_bfloat16_only_where_products_are_in_it(
    settings, by_operation
):
    settings("bf16", "none", by_operation)
    assert roundings(torch.float32, CPU) == BF16
    settings("none", "none", by_operation)
    assert roundings(torch.float32, CPU) == EXACT
    settings("none", "tf32", False)  # flags of the GPU alone
    assert roundings(torch.float32, CPU) == EXACT


def test_a_device_without_such_settings_is_exact(settings):
    settings("tf32", "tf32", True)
    assert roundings(torch.float32, torch.device("mps")) == EXACT


@pytest.mark.parametrize("by_operation", [True, False])
def test_outputs_within_the_rounding_of_bfloat16_agree_while_it_is_in_force(settings, by_operation):
    own = torch.randn(2, 1000)
    near, far = own + 0.02 * own.abs().max(), own + 0.05 * own.abs().max()
    settings("none", "none", by_operation)
    with pytest.raises(StandsAside, match="off by"):
        check_agreement(near, own)
    settings("bf16", "none", by_operation)
    check_agreement(near, own)
    with pytest.raises(StandsAside, match="off by"):
        check_agreement(far, own)
    with pytest.raises(StandsAside, match="off by"):
        check_agreement(near.double(), own.double())


@pytest.mark.parametrize("make", [torchvision_network, timm_network])
@torch.no_grad()
def test_tokens_in_another_order_are_held_to_what_the_arithmetic_can_repeat(settings, make):
    network = make().float()
    picture = torch.randn(1, 3, 32, 32)
    own = network(picture)
    transformer, off = transformer_of(network), 0.02 * own.abs().max()
    settings("none", "none", True)
    check_exact(transformer, picture, own)
    with pytest.raises(ArgumentError, match="order of its tokens"):
        check_exact(transformer, picture, own + off)
    settings("bf16", "none", True)
    check_exact(transformer, picture, own + off)
    with pytest.raises(ArgumentError, match="order of its tokens"):
        check_exact(transformer, picture, own + 2 * off)
