# The kinds of models of the table in docs/your_model.md: one entry each, tiny, with random weights.
from __future__ import annotations

import copy
import io
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask import Gaussian, Normal
from captum_infomask.adapters import area, detection, gallery, zero_shot
from captum_infomask.models.preprocessing import Preprocess

SIDE, PATCH, CLASSES = 32, 8, 4


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of model.

    Attributes:
        model: The network or the function.
        inputs: Two inputs for it, or a tuple of them.
        target: The target.
        score: The settings of InfoMask, such as its head.
        windows: The windows of regions, and their strides: patches of pictures.
        few: Whether its batches have one size, that of the inputs.
    """

    model: Callable[..., Any]
    inputs: Tensor | tuple[Tensor, ...]
    target: Any = 1
    score: dict[str, Any] = field(default_factory=dict)
    windows: Any = (3, PATCH, PATCH)
    few: bool = False


class Network(nn.Module):
    """A small network of convolutions; with a form, it returns its logits in an object."""

    def __init__(self, form: Callable[[Tensor], Any] | None = None, places: int = 2) -> None:
        super().__init__()
        conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[places - 1]
        norm: Any = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[places - 1]
        pool: Any = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[places - 1]
        first = 3 if places == 2 else 1
        self.layers = nn.Sequential(
            conv(first, 8, 3, padding=1, stride=2),
            norm(8),
            nn.ReLU(),
            conv(8, 6, 3, padding=1),
            nn.ReLU(),
            pool(1),
            nn.Flatten(),
            nn.Linear(6, CLASSES),
        )
        self.form = form

    def forward(self, x: Tensor) -> Any:
        logits = 20 * self.layers(x)
        return logits if self.form is None else self.form(logits)


class TwoInputs(nn.Module):
    """A picture and a row of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.of_picture, self.of_row = Network(), nn.Linear(5, CLASSES)

    def forward(self, picture: Tensor, row: Tensor) -> Tensor:
        return self.of_picture(picture) + self.of_row(row)


def seeded(make: Callable[[], Any]) -> Any:
    """A network in evaluation mode, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = make()
    return made.eval()


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def pictures() -> Tensor:
    """Two pictures in which few patches tell all."""
    made = torch.zeros(2, 3, SIDE, SIDE)
    made[..., PATCH : 2 * PATCH, PATCH : 3 * PATCH] = 40 * random(2, 3, PATCH, 2 * PATCH)
    return made


def torchvision_cnn() -> Kind:
    from torchvision.models import resnet18

    return Kind(seeded(lambda: resnet18(num_classes=CLASSES)), pictures())


def timm_vit() -> Kind:
    from timm.models.vision_transformer import VisionTransformer

    size = {"img_size": SIDE, "patch_size": PATCH, "num_classes": CLASSES}
    made = seeded(lambda: VisionTransformer(embed_dim=16, depth=2, num_heads=2, **size))
    return Kind(made, pictures())


def huggingface_vit() -> Kind:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import ViTConfig, ViTForImageClassification

    size = {"image_size": SIDE, "patch_size": PATCH, "num_labels": CLASSES}
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, **size
    )
    return Kind(seeded(lambda: ViTForImageClassification(config)), pictures())


def named_logits() -> Kind:
    return Kind(seeded(lambda: Network(lambda logits: SimpleNamespace(logits=logits))), pictures())


def multi_label() -> Kind:
    return Kind(seeded(Network), pictures(), score={"head": "sigmoid"})


def clip() -> Kind:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    small["intermediate_size"] = 32
    words = {"vocab_size": 16, "max_position_embeddings": 4, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(
        text_config={**small, **words},
        vision_config={**small, "image_size": SIDE, "patch_size": PATCH},
        projection_dim=8,
    )
    prompts = {str(number): number * torch.ones(1, 4).long() for number in range(CLASSES)}
    model = seeded(lambda: CLIPModel(config))

    def ids(text: list[str], **options: Any) -> dict[str, Tensor]:
        return {"input_ids": torch.cat([prompts[each] for each in text])}

    return Kind(
        zero_shot(model, ids, list(prompts), preprocess=Preprocess(SIDE, SIDE)).network, pictures()
    )


def gallery_of_references() -> Kind:
    network = seeded(Network)
    with torch.no_grad():
        references = network(20 * random(CLASSES, 3, SIDE, SIDE))
    return Kind(gallery(network, references, temperature=0.1).network, pictures())


def segmentation() -> Kind:
    layers = seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))
    )
    return Kind(area(layers, (PATCH, PATCH, 2 * PATCH, 3 * PATCH)), pictures())


def detections() -> Kind:
    def found(shown: Tensor) -> list[dict[str, Tensor]]:
        boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0], [8.0, 8.0, 24.0, 24.0]])
        return [
            {"boxes": boxes, "scores": each.flatten(1).mean(1)[:2] / 20, "labels": torch.ones(2)}
            for each in shown
        ]

    asked = detection(found, (PATCH, PATCH, 2 * PATCH, 3 * PATCH), label=1)
    return Kind(asked, pictures(), target=0, score={"head": "sigmoid"})


def regression() -> Kind:
    score = {"head": Gaussian(1.0), "prior": Normal(0.0, 4.0)}
    return Kind(seeded(Network), pictures(), score=score)


def signal() -> Kind:
    return Kind(seeded(lambda: Network(places=1)), random(2, 1, 64), windows=(1, 16))


def volume() -> Kind:
    return Kind(seeded(lambda: Network(places=3)), random(2, 1, 16, 16, 16), windows=(1, 8, 8, 8))


def two_inputs() -> Kind:
    windows = ((3, PATCH, PATCH), (1,))
    return Kind(seeded(TwoInputs), (pictures(), random(2, 5)), windows=windows)


def _session(batch: str | None) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        axes = {} if batch is None else {"dynamic_axes": {"x": {0: batch}, "y": {0: batch}}}
        names = {"input_names": ["x"], "output_names": ["y"]}
        network = seeded(Network)
        torch.onnx.export(network, (pictures(),), path, dynamo=False, **names, **axes)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["y"], {"x": x.numpy()})[0])


def onnx_session() -> Kind:
    return Kind(_session("batch"), pictures())


def onnx_of_one_size() -> Kind:
    return Kind(_session(None), pictures(), few=True)


def torchscript() -> Kind:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = io.BytesIO()
        torch.jit.save(torch.jit.trace(seeded(Network), pictures()), file)
        file.seek(0)
        return Kind(torch.jit.load(file), pictures())


def exported() -> Kind:
    sizes = {"x": {0: torch.export.Dim("batch", min=1, max=4096)}}
    program = torch.export.export(seeded(Network), (pictures(),), dynamic_shapes=sizes)
    return Kind(program.module(), pictures())


def exported_of_one_size() -> Kind:
    program = torch.export.export(seeded(Network), (pictures(),))
    return Kind(program.module(), pictures(), few=True)


def compiled() -> Kind:
    return Kind(torch.compile(seeded(Network), backend="eager"), pictures())


def bfloat16() -> Kind:
    return Kind(seeded(Network).bfloat16(), pictures().bfloat16())


def float16() -> Kind:
    return Kind(seeded(Network).half(), pictures().half())


def channels_last() -> Kind:
    last = {"memory_format": torch.channels_last}
    return Kind(seeded(Network).to(**last), pictures().to(**last))


def data_parallel() -> Kind:
    return Kind(nn.DataParallel(seeded(Network)), pictures())


def function() -> Kind:
    network = copy.deepcopy(seeded(Network))
    return Kind(lambda x: network(x.flip(3)), pictures())


# The rows of the table, in order: a function above and an entry here for each kind.
KINDS: dict[str, Callable[[], Kind]] = {
    "torchvision, convolutions": torchvision_cnn,
    "timm, vision transformer": timm_vit,
    "Hugging Face, vision transformer": huggingface_vit,
    "logits in an object": named_logits,
    "multi-label, sigmoid": multi_label,
    "`adapters.zero_shot`, CLIP": clip,
    "`adapters.gallery`": gallery_of_references,
    "`adapters.area`": segmentation,
    "`adapters.detection`": detections,
    "regression, `Gaussian`": regression,
    "signal (N, C, T)": signal,
    "volume (N, C, D, H, W)": volume,
    "picture and row of a table": two_inputs,
    "`torch.compile`": compiled,
    "bfloat16": bfloat16,
    "float16": float16,
    "channels-last memory": channels_last,
    "`DataParallel`": data_parallel,
    "`torch.export`, `.module()`": exported,
    "`torch.export`, one batch size": exported_of_one_size,
    "TorchScript": torchscript,
    "function": function,
    "ONNX session, in a function": onnx_session,
    "ONNX session, one batch size": onnx_of_one_size,
}
