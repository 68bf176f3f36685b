# What tokens cannot be removed from is refused, before the network has run.
from functools import partial

import pytest
import torch
from refused import refused
from timm.layers import PatchEmbed
from tiny_vits import timm_network, torchvision_network
from torch import nn
from torchvision.models import VisionTransformer, vision_transformer

from captum_infomask import InfoMask, RemoveTokens, grid


@pytest.fixture
def x():
    return torch.randn(2, 3, 32, 32, dtype=torch.float64)


def never(*_):
    pytest.fail("the network ran")


def unrun(network):
    """A network that fails the test if it is run."""
    network.forward = never
    return network


def hooked(network):
    network.register_forward_hook(lambda *_: None)
    return network


def stem(**convolution):
    network = torchvision_network()
    network.conv_proj = nn.Conv2d(3, 32, **convolution).double().eval()
    return network


REMOVE = {"imputer": RemoveTokens(), "view": "keep"}
REFUSED = {
    "no transformer": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)).eval(),
        {},
        ("`forward_func`", "vision transformer", "RemoveTokens()", "Sequential is none"),
    ),
    "a function": (lambda: never, {}, ("`forward_func`", "no torch.nn.Module")),
    "a wrapper": (
        lambda: nn.Sequential(torchvision_network()).eval(),
        {},
        ("`forward_func`", "unwrapped", "Sequential is none"),
    ),
    "a subclass": (
        lambda: type("Mine", (VisionTransformer,), {})(32, 8, 1, 1, 8, 8).eval(),
        {},
        ("`forward_func`", "Mine is none"),
    ),
    "training": (lambda: torchvision_network().train(), {}, ("`forward_func`", "training mode")),
    "hooks": (lambda: hooked(torchvision_network()), {}, ("`forward_func`", "has hooks")),
    "no pooling": (
        lambda: timm_network(global_pool="", class_token=False),
        {},
        ("`forward_func`", "global_pool=''"),
    ),
    "a stem of convolutions": (
        lambda: torchvision_network(
            conv_stem_configs=[vision_transformer.ConvStemConfig(8, 3, 2)] * 3
        ),
        {},
        ("`forward_func`", "Sequential", "each patch by itself"),
    ),
    **{
        f"patches that see others: {name}": (
            partial(stem, **convolution),
            {},
            ("`forward_func`", "Conv2d", "each patch by itself"),
        )
        for name, convolution in {
            "overlap": {"kernel_size": 11, "stride": 7},
            "padding": {"kernel_size": 8, "stride": 8, "padding": 1},
            "dilation": {"kernel_size": 4, "stride": 4, "dilation": 2},
        }.items()
    },
    "an embedding of one's own": (
        lambda: timm_network(embed_layer=type("Mine", (PatchEmbed,), {})),
        {},
        ("`forward_func`", "Mine", "each patch by itself"),
    ),
    "named, and pixels imputed": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)).eval(),
        {"imputer": None, "engine": "tokens"},
        ("`forward_func`", "engine='tokens'", "Sequential is none"),
    ),
    "another engine": (
        torchvision_network,
        {"engine": "batched"},
        ("`engine`", "'tokens'", "RemoveTokens()", "'batched'"),
    ),
    "no engine": (torchvision_network, {"engine": "token"}, ("`engine`", "'token'", "'tokens'")),
    "crop": (torchvision_network, {"view": "crop"}, ("`imputer`", "view='crop'")),
    "crop from the blank": (
        torchvision_network,
        {"view": "crop", "reference": "blank"},
        ("view='keep'", "view='crop'", "RemoveTokens()"),
    ),
    "baselines too": (torchvision_network, {"baselines": 0}, ("`baselines`", "`imputer`")),
    "half a patch": (
        torchvision_network,
        {"regions": None, "sliding_window_shapes": (3, 16, 12), "strides": (3, 8, 8)},
        (
            "whole patches of 8 × 8 pixels",
            "region 0 [0:3, 0:16, 0:12]",
            "grid(x, rows=4, columns=4)",
            "sliding_windows(x, (3, 16, 16), (3, 8, 8))",
        ),
    ),
    "one channel": (
        torchvision_network,
        {"regions": None, "sliding_window_shapes": (1, 8, 8), "strides": (1, 8, 8)},
        ("whole patches", "[0:1, 0:8, 0:8]"),
    ),
    "half a patch in an order": (
        torchvision_network,
        {"view": "chain", "regions": grid(torch.empty(1, 3, 32, 32), 5, 4)},
        ("whole patches", "region 0 [0:3, 0:6, 0:8]"),
    ),
    "nothing left to pool": (
        lambda: timm_network(global_pool="avg"),
        {},
        ("keep a patch", "image 0 all imputed", "reference='prior'"),
    ),
    "no patch left to pool": (
        lambda: timm_network(global_pool="avg"),
        {"view": "drop", "regions": grid(torch.empty(1, 3, 32, 32), 1, 1)},
        ("keep a patch", "region 0", "image 0"),
    ),
    "further arguments": (
        timm_network,
        {"additional_forward_args": (None,)},
        ("`additional_forward_args`", "engine='tokens'"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_is_refused_before_anything_runs(name, x):
    make, changes, words = REFUSED[name]
    network = make()
    if isinstance(network, nn.Module):
        unrun(network)
    options = {"regions": grid(x, 4, 4), **REMOVE} | changes
    refused(words, lambda: InfoMask(network).attribute(x, target=0, **options))


def test_pictures_of_parts_of_patches():
    network = unrun(timm_network(dynamic_img_size=True))
    x = torch.rand(1, 3, 40, 36).double()
    refused(
        ("`inputs`", "8 × 8", "40 × 36"),
        lambda: InfoMask(network).attribute(x, target=0, regions=grid(x, 5, 4), **REMOVE),
    )


class Running(nn.Module):
    """Tokens that see those before them."""

    def forward(self, tokens):
        return tokens.cumsum(1) / 10


@pytest.mark.parametrize("imputer", [RemoveTokens(), None])
def test_a_network_that_minds_the_order_of_tokens(imputer, x):
    network = torchvision_network()
    network.encoder.layers[1].mlp = Running().eval()
    refused(
        ("`forward_func`", "order of its tokens", "engine='batched'"),
        lambda: InfoMask(network).attribute(
            x, target=0, view="drop", regions=grid(x, 4, 4), engine="tokens", imputer=imputer
        ),
    )


def test_only_an_engine_of_tokens_can_remove_them(x):
    two = (x, x)
    refused(("one tensor", "RemoveTokens", "2"), lambda: RemoveTokens().prepare(two))
    refused(("images", "RemoveTokens"), lambda: RemoveTokens().prepare((x[0],)))
    removed = RemoveTokens().prepare((x,))
    refused(
        ("`imputer`", "RemoveTokens()", "engine='tokens'"),
        lambda: removed(torch.zeros(1).long(), (None,)),
    )
