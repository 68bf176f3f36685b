# The tokens of transformers' and open_clip's networks, against their own blocks, run literally.
from __future__ import annotations

import inspect
import warnings

import pytest
import torch
from reference import information
from refused import refused
from state import unchanged
from tiny import randomise
from tiny_vits import timm_network
from torch import nn

pytestmark = pytest.mark.slow
hf = pytest.importorskip("transformers")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    open_clip = pytest.importorskip("open_clip")

from huggingface_networks import (  # noqa: E402
    HAS_NEW_BEIT,
    TRANSFORMERS,
    beit,
    clip_tower,
    clip_tower_with_projection,
    random_network,
    siglip_tower,
)
from open_clip.transformer import VisionTransformer  # noqa: E402

from captum_infomask import Constant, InfoMask, RemoveTokens, grid  # noqa: E402
from captum_infomask.adapters import huggingface  # noqa: E402

of_new_beit = pytest.mark.skipif(
    not HAS_NEW_BEIT, reason="the engine takes BEiT from version 5.9 on"
)
EXACT = {"rtol": 0, "atol": 1e-10}
POOLED = ("beit", "beit, absolute", "dinov2", "dinov2 with registers", "siglip", "clip")


class Reading(nn.Module):
    """A step behind a tower, in the form that engines see through."""

    def __init__(self, tower, read):
        super().__init__()
        self.tower, self.head = tower, nn.Linear(32, 5).double()
        self.own = read
        randomise(self, 0.25)

    def read(self, output):
        features = self.own(output)
        return self.head(features) if features.shape[1] == 32 else features

    def forward(self, x):
        return self.read(self.tower(x))


def open_clip_tower(**options):
    sizes = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "heads": 4}
    return VisionTransformer(**sizes, mlp_ratio=2.0, output_dim=32, **options).double().eval()


def timm_tower():
    from open_clip.timm_model import TimmModel

    made = TimmModel("test_vit", 32, image_size=32, pool="avg", proj="linear")
    made.trunk = timm_network(num_classes=0, global_pool="avg", reg_tokens=1)
    made.head = nn.Linear(48, 32)
    return made.double().eval()


TOWERS = {
    "clip": lambda: Reading(clip_tower().double().eval(), lambda out: out.pooler_output),
    "clip with projection": lambda: Reading(
        clip_tower_with_projection().double().eval(), lambda out: out.image_embeds
    ),
    "siglip": lambda: Reading(siglip_tower().double().eval(), lambda out: out.pooler_output),
    "open_clip": lambda: Reading(open_clip_tower(), lambda out: out),
    "open_clip, mean": lambda: Reading(open_clip_tower(pool_type="avg"), lambda out: out),
    "open_clip, attention": lambda: Reading(
        open_clip_tower(attentional_pool=True, attn_pooler_heads=4), lambda out: out
    ),
    "open_clip, tokens too": lambda: Reading(
        open_clip_tower(output_tokens=True), lambda out: out[0]
    ),
    "open_clip, of timm": lambda: Reading(timm_tower(), lambda out: out),
}
NETWORKS = {
    **{
        name: lambda name=name: huggingface(random_network(name)).network
        for name in TRANSFORMERS
        if HAS_NEW_BEIT or "beit" not in name
    },
    **{f"tower of {name}": make for name, make in TOWERS.items()},
}


@pytest.fixture
def x():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()


def blocks_of(model):
    """The blocks of a network of transformers, whatever its version calls them."""
    if hasattr(model, "layers"):
        return model.layers
    return model.encoder.layers if hasattr(model.encoder, "layers") else model.encoder.layer


def encoded(model, tokens):
    """Tokens after all blocks of a network of transformers, without masks."""
    for block in blocks_of(model):
        asked = inspect.signature(block.forward).parameters.values()
        needed = [one for one in asked if one.default is one.empty and one.kind != one.VAR_KEYWORD]
        tokens = block(tokens, *[None] * (len(needed) - 1))
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
    return tokens


def kept(tokens, prefix, patches):
    return tokens[:, [*range(prefix), *(prefix + patch for patch in patches)]]


def of_vit(model, base, x, patches):
    tokens = base.layernorm(encoded(base, kept(base.embeddings(x), 1, patches)))
    return model.classifier(tokens[:, 0])


def of_deit(model, x, patches):
    base = model.deit
    tokens = base.layernorm(encoded(base, kept(base.embeddings(x), 2, patches)))
    if hasattr(model, "classifier"):
        return model.classifier(tokens[:, 0])
    return (model.cls_classifier(tokens[:, 0]) + model.distillation_classifier(tokens[:, 1])) / 2


def of_beit(model, x, patches):
    """The bias is cut to the rows and columns of the tokens that are left."""
    base, places = model.beit, [0, *(1 + patch for patch in patches)]
    tokens = base.embeddings(x)[:, places]
    for block in base.layers:
        bias = None
        whole = base.shared_position_bias or block.relative_position_bias
        if whole is not None:
            bias = whole((4, 4))[:, :, places][..., places]
        normed = block.layernorm_before(tokens)
        attended = block.attention(normed, attention_mask=bias)[0]
        tokens = tokens + block.lambda_1 * attended
        tokens = tokens + block.lambda_2 * block.mlp(block.layernorm_after(tokens))
    return model.classifier(base.pooler(base.layernorm(tokens)))


def of_dinov2(model, base, prefix, x, patches):
    tokens = base.layernorm(encoded(base, kept(base.embeddings(x), prefix, patches)))
    return model.classifier(torch.cat([tokens[:, 0], tokens[:, prefix:].mean(1)], 1))


def of_siglip(model, x, patches):
    base = model.vision_model
    tokens = base.post_layernorm(encoded(base, kept(base.embeddings(x), 0, patches)))
    return model.classifier(tokens.mean(1))


def of_clip(model, x, patches):
    base = model.vision_model
    tokens = encoded(base, base.pre_layrnorm(kept(base.embeddings(x), 1, patches)))
    return model.classifier(tokens[:, 1:].mean(1))


LITERAL = {
    "vit": lambda model, *rest: of_vit(model, model.vit, *rest),
    "deit": of_deit,
    "deit with teacher": of_deit,
    "beit": of_beit,
    "beit, absolute": of_beit,
    "beit, class token": of_beit,
    "dinov2": lambda model, *rest: of_dinov2(model, model.dinov2, 1, *rest),
    "dinov2 with registers": lambda model, *rest: of_dinov2(
        model, model.dinov2_with_registers, 3, *rest
    ),
    "siglip": of_siglip,
    "clip": of_clip,
}


def of_open_clip(tower, x, patches):
    embedded = tower.conv1(x).flatten(2).transpose(1, 2)
    first = tower.class_embedding.expand(len(x), 1, -1)
    tokens = torch.cat([first, embedded], 1) + tower.positional_embedding
    tokens = tower.transformer(kept(tower.ln_pre(tokens), 1, patches))
    if tower.attn_pool is not None:
        return tower.ln_post(tower.attn_pool(tokens))[:, 0] @ tower.proj
    tokens = tower.ln_post(tokens)
    pooled = tokens[:, 1:].mean(1) if tower.pool_type == "avg" else tokens[:, 0]
    return pooled @ tower.proj


def of_timm(tower, x, patches):
    trunk = tower.trunk
    tokens = trunk._pos_embed(trunk.patch_embed(x))
    tokens = trunk.blocks(trunk.norm_pre(kept(tokens, trunk.num_prefix_tokens, patches)))
    return tower.head(trunk.forward_head(trunk.norm(tokens)))


def of_clip_tower(tower, x, patches):
    projection = getattr(tower, "visual_projection", lambda features: features)
    base = getattr(tower, "vision_model", tower)
    tokens = encoded(base, base.pre_layrnorm(kept(base.embeddings(x), 1, patches)))
    return projection(base.post_layernorm(tokens[:, 0]))


def of_siglip_tower(tower, x, patches):
    base = getattr(tower, "vision_model", tower)
    return base.head(base.post_layernorm(encoded(base, kept(base.embeddings(x), 0, patches))))


def literal(name, network, x, patches):
    """The logits if only some patches are left, by the network's own blocks."""
    if name in LITERAL:
        return LITERAL[name](network.tower, x, patches)
    if "timm" in name:
        features = of_timm(network.tower, x, patches)
    elif "open_clip" in name:
        features = of_open_clip(network.tower, x, patches)
    else:
        of_tower = of_siglip_tower if "siglip" in name else of_clip_tower
        features = of_tower(network.tower, x, patches)
    return network.head(features) if features.shape[1] == 32 else features


def bits(output, target):
    (row,) = output
    return information(row, target)


def needs_patches(name):
    return name in POOLED or "siglip" in name or "mean" in name or "timm" in name


@pytest.mark.parametrize("name", NETWORKS)
def test_a_removed_patch_is_one_that_the_blocks_never_see(name, x):
    network = NETWORKS[name]()
    regions = grid(x, 2, 2)
    corners = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    options = {"target": 3, "regions": regions, "imputer": RemoveTokens()}
    with unchanged(network, x):
        keep = InfoMask(network).score_regions(x, view="keep", reference="prior", **options)
        drop = InfoMask(network).score_regions(x, view="drop", **options)
    assert keep.engine == drop.engine == "tokens"
    with torch.no_grad():
        torch.testing.assert_close(literal(name, network, x, range(16)), network(x), **EXACT)
        whole = [information(row, 3) for row in network(x)]
        for image in range(2):
            picture = x[image : image + 1]
            for region, corner in enumerate(corners):
                alone = bits(literal(name, network, picture, corner), 3)
                rest = sorted({*range(16)} - {*corner})
                without = bits(literal(name, network, picture, rest), 3)
                assert keep.scores[image, region] == pytest.approx(alone, abs=1e-9)
                assert drop.scores[image, region] == pytest.approx(whole[image] - without, abs=1e-9)
    assert keep.scores.std() > 1e-3
    assert drop.scores.std() > 1e-3


@pytest.mark.parametrize("name", [name for name in NETWORKS if not needs_patches(name)])
def test_without_patches_the_class_token_is_left(name, x):
    network = NETWORKS[name]()
    options = {"target": 1, "view": "keep", "regions": grid(x, 4, 4), "imputer": RemoveTokens()}
    found = InfoMask(network).score_regions(x, **options)
    with torch.no_grad():
        blank = bits(literal(name, network, x[:1], []), 1)
        alone = bits(literal(name, network, x[:1], [5]), 1)
    assert found.scores[0, 5] == pytest.approx(alone - blank, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in NETWORKS if needs_patches(name)])
def test_a_pool_of_patches_needs_one(name, x):
    network = NETWORKS[name]()
    call = {"target": 1, "view": "keep", "regions": grid(x, 4, 4), "imputer": RemoveTokens()}
    refused(("keep a patch", "pools patches"), lambda: InfoMask(network).attribute(x, **call))


@pytest.mark.parametrize("view", ["crop", "drop"])
@pytest.mark.parametrize("name", NETWORKS)
def test_pixel_imputers_run_the_whole_sequence(name, view, x):
    network = NETWORKS[name]()
    options = {
        "target": 0,
        "view": view,
        "sliding_window_shapes": (3, 13, 11),
        "strides": (3, 9, 7),
        **({"imputer": Constant(0.3)} if view == "drop" else {}),
    }
    tokens = InfoMask(network).score_regions(x, engine="tokens", **options)
    plain = InfoMask(network).score_regions(x, engine="batched", **options)
    assert tokens.engine == "tokens"
    torch.testing.assert_close(tokens.scores, plain.scores, **EXACT)
    assert plain.scores.std() > 1e-3


@of_new_beit
def test_relative_positions_are_those_of_training():
    network = huggingface(random_network("beit")).network
    x = torch.rand(1, 3, 48, 48).double()
    call = {"target": 1, "view": "drop", "regions": grid(x, 6, 6), "imputer": RemoveTokens()}
    refused(
        ("32 × 32", "BeitForImageClassification", "48 × 48"),
        lambda: InfoMask(network).attribute(x, **call),
    )


def test_positions_between_those_of_training():
    network = huggingface(random_network("dinov2")).network
    x = torch.rand(1, 3, 48, 32).double()
    options = {"target": 1, "view": "drop", "regions": grid(x, 6, 4), "imputer": RemoveTokens()}
    found = InfoMask(network).score_regions(x, **options)
    with torch.no_grad():
        rest = literal("dinov2", network, x, range(1, 24))
        expected = bits(network(x), 1) - bits(rest, 1)
    assert found.scores[0, 0] == pytest.approx(expected, abs=1e-9)


def hooked(model):
    blocks_of(model.vit)[0].register_forward_hook(lambda module, inputs, output: None)
    return model


@pytest.mark.parametrize("asks", ["once", "always"])
def test_hooks_that_transformers_leaves_change_nothing(asks, x):
    model, options = random_network("vit"), {"target": 1, "view": "drop", "regions": grid(x, 4, 4)}
    options["imputer"] = RemoveTokens()
    wanted = InfoMask(huggingface(model)).score_regions(x, **options)
    if asks == "once":
        model(x, output_hidden_states=True)
        leaves = any(block._forward_hooks for block in blocks_of(model.vit))
        if not leaves:
            pytest.skip("this version of transformers leaves none")
    else:
        model.config.output_hidden_states = True
    found = InfoMask(huggingface(model)).score_regions(x, **options)
    assert torch.equal(found.scores, wanted.scores)
    assert wanted.scores.std() > 1e-3


class Shifting(Reading):
    """What it reads is not all that it does."""

    def forward(self, x):
        return self.read(self.tower(x.flip(3)))


def of_an_old_version():
    model = random_network("beit")
    if HAS_NEW_BEIT:
        model.beit.encoder = model.beit._modules.pop("layers")
    return huggingface(model).network


REFUSED = {
    "an old version": (of_an_old_version, ("before version 5.9 made BeitForImageClassification",)),
    "no transformer": (
        lambda: huggingface(random_network("resnet")).network,
        ("ResNetForImageClassification is none",),
    ),
    "hooks": (lambda: huggingface(hooked(random_network("vit"))).network, ("has hooks",)),
    "no pooling": (
        lambda: Reading(open_clip_tower(pool_type="none"), lambda out: out[:, 0]),
        ("pool_type='none'",),
    ),
    "another forward": (
        lambda: Shifting(clip_tower().double().eval(), lambda out: out.pooler_output),
        ("order of its tokens",),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_exact_is_refused(name, x):
    make, words = REFUSED[name]
    network = make()
    call = {"target": 1, "view": "drop", "regions": grid(x, 4, 4), "imputer": RemoveTokens()}
    refused(words, lambda: InfoMask(network).attribute(x, **call))


@of_new_beit
def test_half_precision(x):
    network = huggingface(beit(use_relative_position_bias=True)).network
    network = randomise(network, 0.2).bfloat16()
    options = {"target": 1, "view": "drop", "regions": grid(x, 4, 4), "imputer": RemoveTokens()}
    half = InfoMask(network).score_regions(x.bfloat16(), **options).scores
    wide = InfoMask(network.double()).score_regions(x, **options).scores
    assert wide.std() > 0.01
    torch.testing.assert_close(half.double(), wide, rtol=0, atol=0.1)
