# Layers in the order of their calls, new weights, and new statistics of batch norms.
import pytest
import torch
from deep_network import deep_network
from torch import nn

from captum_infomask.evaluation.redrawn_layers import (
    estimate_statistics,
    even_stages,
    layers_in_order,
    redraw,
)


@pytest.fixture
def deep():
    return deep_network()


@pytest.fixture
def picture():
    return torch.randn(1, 3, 16, 16)


def test_layers_come_in_the_order_of_their_calls(deep, picture):
    names = [name for name, _ in layers_in_order(deep, picture)]
    # The model's own scale and the layer that is never called come first.
    assert names == ["", "first.0", "first.1", "second.0", "second.1", "head"]
    assert not any(module._forward_pre_hooks for module in deep.modules())
    held = dict(layers_in_order(deep, picture))[""]
    assert held == [deep, deep.never]


def test_parts_that_are_not_called_belong_to_what_is_around_them():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(3, 1, batch_first=True)
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2)
            return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))

    model = Attending().train()
    layers = layers_in_order(model, torch.randn(1, 3, 4, 4))
    assert [name for name, _ in layers] == ["attention", "head"]
    assert model.attention.out_proj in layers[0][1]


def test_stages_are_even_and_start_at_the_output():
    layers = [(str(k), [nn.Linear(k + 1, 1)]) for k in range(30)]
    stages = even_stages(layers, 12)
    assert len(stages) == 12
    assert {len(modules) for _, modules in stages} == {2, 3}
    assert stages[-1][0] == "0"
    flat = [module for _, modules in stages for module in modules]
    assert flat == [modules[0] for _, modules in layers[::-1]]
    assert [name for name, _ in even_stages(layers[:2], 12)] == ["1", "0"]
    assert even_stages([], 12) == []


def test_redrawn_weights():
    linear = nn.Linear(400, 300)
    nn.init.constant_(linear.weight, 7.0)
    plain = nn.ParameterList([torch.randn(20_000) * 3 + 5, torch.full((5,), 2.0)])
    before = plain[0].detach().clone()
    with torch.no_grad():
        redraw([linear, plain])
    weight, drawn = linear.weight.detach(), plain[0].detach()
    assert float(weight.abs().max()) <= 1 / 20
    assert float(weight.std()) == pytest.approx(1 / 20 / 3**0.5, rel=0.02)
    assert float(drawn.std()) == pytest.approx(3, rel=0.05)
    assert float(drawn.mean()) == pytest.approx(5, abs=0.1)
    assert abs(float(torch.corrcoef(torch.stack([before, drawn]))[0, 1])) < 0.05
    assert torch.equal(plain[1], torch.full((5,), 2.0))


def test_batch_norms_take_the_statistics_of_the_pictures(deep, picture):
    norm, other = deep.first[1], deep.second[1]
    kept = other.running_mean.clone()
    pictures = torch.cat([picture, picture.flip(3)])
    with torch.no_grad():
        estimate_statistics(deep, [norm, deep.head], pictures)
        seen = deep.first[0](pictures)
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, seen.var((0, 2, 3)))
    assert torch.equal(other.running_mean, kept)
    assert not any(module.training for module in deep.modules())
    assert norm.momentum == 0.1
