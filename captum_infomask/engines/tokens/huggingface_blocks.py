# Vision transformers of Hugging Face's transformers and of open_clip, in the parts that the engine
# needs. Their own forward functions run on the tokens that are left.
from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from captum_infomask._errors import ArgumentError
from captum_infomask.engines.traced_network import StandsAside

# Tokens before those of patches, besides registers, of networks of transformers.
_PREFIXES = {
    **dict.fromkeys(("ViTForImageClassification", "ViTMSNForImageClassification", "ViTModel"), 1),
    **dict.fromkeys(("DeiTForImageClassification", "DeiTModel"), 2),
    "DeiTForImageClassificationWithTeacher": 2,
    **dict.fromkeys(("BeitForImageClassification", "BeitModel"), 1),
    **dict.fromkeys(("Dinov2ForImageClassification", "Dinov2Model"), 1),
    "Dinov2WithRegistersForImageClassification": 1,
    "Dinov2WithRegistersModel": 1,
    **dict.fromkeys(("CLIPForImageClassification", "CLIPVisionModel", "CLIPVisionTransformer"), 1),
    "CLIPVisionModelWithProjection": 1,
    "SiglipForImageClassification": 0,
    **dict.fromkeys(("SiglipVisionModel", "SiglipVisionTransformer"), 0),
}
# Those whose output is made from a mean over patches, or from them alone.
_POOLING = ("Dinov2For", "Dinov2WithRegistersFor", "CLIPFor", "Siglip")
_BIAS = "BeitRelativePositionBias"


@dataclass(frozen=True, eq=False)
class HuggingFaceTransformer:
    """The way into the tokens of a network of transformers, and out of them.

    Attributes:
        network: One whose class is known.
    """

    network: Any

    def __post_init__(self) -> None:
        name = type(self.network).__name__
        if "Beit" in name and not hasattr(self.network.base_model, "layers"):
            raise StandsAside(f"transformers before version 5.9 made {name}")

    @classmethod
    def knows(cls, network: nn.Module) -> bool:
        """Whether a network's class is known."""
        is_theirs = type(network).__module__.startswith("transformers.models.")
        return is_theirs and type(network).__name__ in _PREFIXES

    @property
    def prefix(self) -> int:
        """The number of tokens of the prefix: the class token, a teacher's token, registers."""
        registers = int(getattr(self.network.config, "num_register_tokens", 0))
        return _PREFIXES[type(self.network).__name__] + registers

    @property
    def needs_patches(self) -> bool:
        """Whether the head reads only the tokens of patches, or their mean too."""
        is_mean = "Beit" in type(self.network).__name__ and self.network.config.use_mean_pooling
        return bool(is_mean) or type(self.network).__name__.startswith(_POOLING)

    @property
    def embedding(self) -> nn.Module:
        """The convolution that embeds patches."""
        (conv,) = (part for part in self._embeddings.modules() if isinstance(part, nn.Conv2d))
        return conv

    @property
    def _path(self) -> str:
        names: list[str] = [name for name, _ in self.network.named_modules()]
        return next(name for name in names if name.split(".")[-1] == "embeddings")

    @property
    def _embeddings(self) -> Any:
        return self.network.get_submodule(self._path)

    @property
    def _biases(self) -> dict[str, nn.Module]:
        """The modules that add a number to attention for each pair of places."""
        parts = self.network.named_modules()
        return {name: part for name, part in parts if type(part).__name__ == _BIAS}

    @property
    def _size(self) -> tuple[int, int]:
        """Height and width of the pictures that the network was made for."""
        size = getattr(self.network.config, "image_size", 1)
        return (size, size) if isinstance(size, int) else tuple(size)

    def embed(self, pictures: Tensor) -> Tensor:
        """Turn pictures into tokens with their positions.

        Raises:
            ArgumentError: Positions are relative, and pictures have another size than in training.
        """
        size = tuple(pictures.shape[2:])
        if self._biases and size != self._size:
            raise ArgumentError(
                f"Expected `inputs` of {self._size[0]} × {self._size[1]} pixels, for engine="
                f"'tokens' on {type(self.network).__name__}, whose positions are relative; got "
                f"{size[0]} × {size[1]}."
            )
        return self._embeddings(pictures)  # type: ignore[no-any-return]

    def classify(self, tokens: Tensor, places: Tensor) -> Any:
        """Turn tokens into the network's output; its other modules are the network's own."""
        given = _shared(self._embeddings)
        given.__dict__["forward"] = lambda *_, **__: tokens
        parts: dict[str, nn.Module] = {self._path: given}
        parts |= {name: _AtPlaces(part, places) for name, part in self._biases.items()}
        # Nothing of these pictures is read but their size.
        pictures = tokens.new_zeros(1).expand(len(tokens), 1, *self._size)
        return _with_parts(self.network, parts)(pictures)


class _AtPlaces(nn.Module):
    """The relative positions of some tokens (B, s), out of those of all."""

    def __init__(self, whole: nn.Module, places: Tensor) -> None:
        super().__init__()
        self.whole, self.places = whole, places
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        bias = self.whole(*args, **kwargs)[0]  # (heads, S, S)
        rows, columns = self.places[:, :, None], self.places[:, None, :]
        return bias[:, rows, columns].transpose(0, 1)  # type: ignore[no-any-return]


def _shared(module: nn.Module) -> nn.Module:
    """Return a copy of a module that holds the same modules, parameters and buffers."""
    made = copy.copy(module)
    made.__dict__["_modules"] = dict(module._modules)
    return made


def _with_parts(network: nn.Module, parts: Mapping[str, nn.Module]) -> nn.Module:
    """Return a network with some modules exchanged; it shares all others with the given one."""
    made = {"": _shared(network)}
    for path, part in parts.items():
        *names, last = path.split(".")
        at = ""
        for name in names:
            inner = f"{at}.{name}" if at else name
            if inner not in made:
                made[inner] = _shared(made[at].get_submodule(name))
                made[at]._modules[name] = made[inner]
            at = inner
        made[at]._modules[last] = part
    return made[""]


@dataclass(frozen=True, eq=False)
class OpenClipTransformer:
    """The way into the tokens of open_clip's vision transformer, and out of them.

    Attributes:
        network: The tower of a CLIP model, which gives features (N, D).
    """

    network: Any
    prefix = 1

    def __post_init__(self) -> None:
        if not hasattr(self.network, "_embeds"):
            raise StandsAside("this version of open_clip does not embed patches by themselves")
        if self.network.attn_pool is None and self.network.pool_type == "none":
            raise StandsAside("it does not pool its tokens (pool_type='none')")

    @property
    def needs_patches(self) -> bool:
        """Whether the pool uses only the tokens of patches."""
        return self.network.attn_pool is None and bool(self.network.pool_type == "avg")

    @property
    def embedding(self) -> nn.Module:
        """The convolution that embeds patches."""
        return self.network.conv1  # type: ignore[no-any-return]

    def embed(self, pictures: Tensor) -> Tensor:
        """Turn pictures into tokens with their positions."""
        return self.network._embeds(pictures)  # type: ignore[no-any-return]

    def classify(self, tokens: Tensor, places: Tensor) -> Any:
        """Turn tokens into the network's output."""
        made = _shared(self.network)
        made.__dict__["_embeds"] = lambda _: tokens
        return made(tokens)
