# Small vision transformers of every make, and what they answer to some of their patches, literally.
from __future__ import annotations

import torch
from timm.models import vision_transformer as timm_vit
from tiny import randomise
from torchvision.models import VisionTransformer


def torchvision_network(**changes):
    options = {
        "image_size": 32,
        "patch_size": 8,
        "num_layers": 3,
        "num_heads": 4,
        "hidden_dim": 32,
        "mlp_dim": 48,
        "num_classes": 5,
    }
    return randomise(VisionTransformer(**options | changes).double(), 0.3)


def timm_network(**changes):
    options = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 48,
        "depth": 3,
        "num_heads": 3,
        "num_classes": 5,
    }
    return randomise(timm_vit.VisionTransformer(**options | changes).double(), 0.25)


class PlainQuery(timm_vit.Attention):
    """An attention that the engine does not know: its block runs whole."""


CLASS_TOKEN = {
    "torchvision": torchvision_network,
    "torchvision: two layers of head": lambda: torchvision_network(representation_size=7),
    "timm": timm_network,
    "timm: registers": lambda: timm_network(reg_tokens=2),
    "timm: registers without positions": lambda: timm_network(reg_tokens=2, no_embed_class=True),
    "timm: normed queries, scaled layers": lambda: timm_network(qk_norm=True, init_values=0.5),
    "timm: norms inside": lambda: timm_network(scale_attn_norm=True, scale_mlp_norm=True),
    "timm: norm before": lambda: timm_network(pre_norm=True, qkv_bias=False),
    "timm: any size": lambda: timm_network(dynamic_img_size=True),
    "timm: no positions": lambda: timm_network(pos_embed="none"),
    "timm: oblong patches": lambda: timm_network(patch_size=(8, 4)),
    "timm: parallel blocks": lambda: timm_network(block_fn=timm_vit.ParallelScalingBlock),
    "timm: norm after": lambda: timm_network(block_fn=timm_vit.ResPostBlock, init_values=0.5),
    "timm: attention of its own": lambda: timm_network(attn_layer=PlainQuery),
}
POOLED = {
    "timm: mean": lambda: timm_network(global_pool="avg"),
    "timm: mean, no class token": lambda: timm_network(global_pool="avg", class_token=False),
    "timm: largest": lambda: timm_network(global_pool="max", reg_tokens=1),
    "timm: attention": lambda: timm_network(global_pool="map", class_token=False),
}
POOLED_WITH_PREFIX = {
    "timm: mean of all": lambda: timm_network(global_pool="avg", pool_include_prefix=True),
}
NETWORKS = CLASS_TOKEN | POOLED | POOLED_WITH_PREFIX


def sequence(network, picture):
    """One picture's tokens before the first block, and how many come before the patches."""
    if isinstance(network, VisionTransformer):
        patches = network.conv_proj(picture).flatten(2).transpose(1, 2)
        tokens = torch.cat([network.class_token, patches], 1) + network.encoder.pos_embedding
        return tokens, 1
    tokens = network._pos_embed(network.patch_embed(picture))
    return network.norm_pre(tokens), network.num_prefix_tokens


def literal(network, picture, patches):
    """The output for one picture of which only some patches are left: whole blocks, one view."""
    tokens, prefix = sequence(network, picture)
    tokens = tokens[:, [*range(prefix), *(prefix + patch for patch in patches)]]
    if isinstance(network, VisionTransformer):
        return network.heads(network.encoder.ln(network.encoder.layers(tokens))[:, 0])[0]
    return network.forward_head(network.norm(network.blocks(tokens)))[0]


def masked(network, picture, patches):
    """The output of the whole sequence, if no token attends to a patch that is hidden."""
    tokens, prefix = sequence(network, picture)
    seen = torch.zeros(tokens.shape[1], dtype=torch.bool)
    seen[:prefix] = True
    seen[[prefix + patch for patch in patches]] = True
    if not isinstance(network, VisionTransformer):
        for block in network.blocks:
            tokens = block(tokens, attn_mask=seen.expand(len(seen), -1))
        return network.forward_head(network.norm(tokens))[0]
    for block in network.encoder.layers:
        normed = block.ln_1(tokens)
        hidden = ~seen.expand(len(seen), -1)
        attended = block.self_attention(normed, normed, normed, attn_mask=hidden)[0]
        tokens = tokens + attended
        tokens = tokens + block.mlp(block.ln_2(tokens))
    return network.heads(network.encoder.ln(tokens)[:, 0])[0]
