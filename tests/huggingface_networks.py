# Tiny networks of transformers, one per family, with random weights; nothing is downloaded.
from __future__ import annotations

import transformers as hf
from tiny import randomise
from torch import nn

# BEiT was another network before version 5.9.
HAS_NEW_BEIT = tuple(map(int, hf.__version__.split(".")[:2])) >= (5, 9)
LABELS = ["tabby cat", "dog", "cup", "tripod", "boat"]
_OPTIONS = {
    "id2label": dict(enumerate(LABELS)),
    "label2id": {name: number for number, name in enumerate(LABELS)},
}
_TOKENS = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
_WITHOUT_MLP = {name: size for name, size in _TOKENS.items() if name != "intermediate_size"}
_MAPS = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1]}


def vit(**changes: object) -> nn.Module:
    return hf.ViTForImageClassification(hf.ViTConfig(**_TOKENS | changes, **_OPTIONS))


def deit() -> nn.Module:
    return hf.DeiTForImageClassification(hf.DeiTConfig(**_TOKENS, **_OPTIONS))


def deit_with_teacher() -> nn.Module:
    return hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(**_TOKENS, **_OPTIONS))


def beit(**changes: object) -> nn.Module:
    return hf.BeitForImageClassification(hf.BeitConfig(**_TOKENS | changes, **_OPTIONS))


def dinov2() -> nn.Module:
    return hf.Dinov2ForImageClassification(hf.Dinov2Config(**_WITHOUT_MLP, **_OPTIONS))


def dinov2_with_registers() -> nn.Module:
    config = hf.Dinov2WithRegistersConfig(**_WITHOUT_MLP, num_register_tokens=2, **_OPTIONS)
    return hf.Dinov2WithRegistersForImageClassification(config)


def siglip() -> nn.Module:
    return hf.SiglipForImageClassification(hf.SiglipConfig(vision_config=_TOKENS, **_OPTIONS))


def clip() -> nn.Module:
    return hf.CLIPForImageClassification(hf.CLIPConfig(vision_config=_TOKENS, **_OPTIONS))


def clip_tower() -> nn.Module:
    return hf.CLIPVisionModel(hf.CLIPVisionConfig(**_TOKENS))


def clip_tower_with_projection() -> nn.Module:
    return hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**_TOKENS, projection_dim=5))


def siglip_tower() -> nn.Module:
    return hf.SiglipVisionModel(hf.SiglipVisionConfig(**_TOKENS))


def swin() -> nn.Module:
    sizes = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4}
    return hf.SwinForImageClassification(
        hf.SwinConfig(image_size=32, patch_size=4, **sizes, **_OPTIONS)
    )


def convnext() -> nn.Module:
    return hf.ConvNextForImageClassification(hf.ConvNextConfig(**_MAPS, **_OPTIONS))


def resnet() -> nn.Module:
    config = hf.ResNetConfig(embedding_size=8, layer_type="basic", **_MAPS, **_OPTIONS)
    return hf.ResNetForImageClassification(config)


TRANSFORMERS = {
    "vit": vit,
    "deit": deit,
    "deit with teacher": deit_with_teacher,
    "beit": lambda: beit(use_relative_position_bias=True),
    "beit, class token": lambda: beit(
        use_shared_relative_position_bias=True, use_mean_pooling=False
    ),
    "beit, absolute": lambda: beit(use_absolute_position_embeddings=True),
    "dinov2": dinov2,
    "dinov2 with registers": dinov2_with_registers,
    "siglip": siglip,
    "clip": clip,
}
CONVOLUTIONS = {"convnext": convnext, "resnet": resnet}
CLASSIFIERS = {**TRANSFORMERS, "swin": swin, **CONVOLUTIONS}


def random_network(name: str) -> nn.Module:
    """A network in double precision whose classes answer differently."""
    return randomise(CLASSIFIERS[name]().double(), 0.4 if name in CONVOLUTIONS else 0.25)
