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


# The sizes of small transformers.
_SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def _transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers
    return transformers


def huggingface_vit() -> Kind:
    hf = _transformers()
    size = {"image_size": SIDE, "patch_size": PATCH, "num_labels": CLASSES}
    config = hf.ViTConfig(**_SMALL, **size)
    return Kind(seeded(lambda: hf.ViTForImageClassification(config)), pictures())


def huggingface_resnet() -> Kind:
    hf = _transformers()
    config = hf.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 12],
        depths=[1, 1],
        layer_type="basic",
        num_labels=CLASSES,
    )
    return Kind(seeded(lambda: hf.ResNetForImageClassification(config)), pictures())


def named_logits() -> Kind:
    return Kind(seeded(lambda: Network(lambda logits: SimpleNamespace(logits=logits))), pictures())


def multi_label() -> Kind:
    return Kind(seeded(Network), pictures(), score={"head": "sigmoid"})


_PROMPTS = {str(number): number * torch.ones(1, 4).long() for number in range(CLASSES)}


def _ids(text: list[str], **options: Any) -> dict[str, Tensor]:
    return {"input_ids": torch.cat([_PROMPTS[each] for each in text])}


def _of_two_towers(name: str) -> nn.Module:
    """A model of pictures and texts of transformers, among prompts."""
    hf = _transformers()
    words = {"vocab_size": 16, "max_position_embeddings": 4, "bos_token_id": 0, "eos_token_id": 1}
    config = getattr(hf, f"{name}Config")(
        text_config={**_SMALL, **words},
        vision_config={**_SMALL, "image_size": SIDE, "patch_size": PATCH},
    )
    model = seeded(lambda: getattr(hf, f"{name}Model")(config))
    return zero_shot(model, _ids, list(_PROMPTS), preprocess=Preprocess(SIDE, SIDE)).network


def clip() -> Kind:
    return Kind(_of_two_towers("CLIP"), pictures())


def siglip() -> Kind:
    score = {"head": "sigmoid", "prior": 1 / 32768}
    return Kind(_of_two_towers("Siglip"), pictures(), score=score)


def clip_of_open_clip() -> Kind:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import open_clip

    vision = open_clip.CLIPVisionCfg(
        layers=2, width=16, head_width=8, patch_size=PATCH, image_size=SIDE
    )
    texts = open_clip.CLIPTextCfg(context_length=4, vocab_size=16, width=16, heads=2, layers=2)
    model = seeded(lambda: open_clip.CLIP(8, vision, texts))

    def ids(given: list[str], **options: Any) -> Tensor:
        return _ids(given)["input_ids"]

    prepared = Preprocess(SIDE, SIDE)
    return Kind(zero_shot(model, ids, list(_PROMPTS), preprocess=prepared).network, pictures())


def gallery_of_references() -> Kind:
    network = seeded(Network)
    with torch.no_grad():
        references = network(20 * random(CLASSES, 3, SIDE, SIDE))
    return Kind(gallery(network, references, temperature=0.1).network, pictures())


_BOX = (PATCH, PATCH, 2 * PATCH, 3 * PATCH)


def segmentation() -> Kind:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    network = seeded(lambda: lraspp_mobilenet_v3_large(num_classes=CLASSES, weights_backbone=None))
    return Kind(area(network, _BOX), pictures())


def segformer() -> Kind:
    hf = _transformers()
    config = hf.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        num_labels=CLASSES,
    )
    network = seeded(lambda: hf.SegformerForSemanticSegmentation(config))
    return Kind(area(network, _BOX), pictures())


def detector() -> Kind:
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    def made() -> nn.Module:
        backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=PATCH, padding=1), nn.ReLU())
        backbone.out_channels = 8
        sizes = {"min_size": SIDE, "max_size": SIDE, "topk_candidates": 20, "score_thresh": 0.001}
        anchors = AnchorGenerator(((2 * PATCH,),), ((1.0,),))
        return RetinaNet(backbone, CLASSES, anchor_generator=anchors, **sizes)

    return _of_boxes(seeded(made))


def yolos() -> Kind:
    hf = _transformers()
    config = hf.YolosConfig(
        **_SMALL,
        image_size=[SIDE, SIDE],
        patch_size=PATCH,
        num_detection_tokens=5,
        num_labels=CLASSES,
    )
    return _of_boxes(seeded(lambda: hf.YolosForObjectDetection(config)))


def _of_boxes(network: nn.Module) -> Kind:
    asked = detection(network, _BOX, label=1)
    return Kind(asked, pictures(), target=0, score={"head": "sigmoid"})


def regression() -> Kind:
    score = {"head": Gaussian(1.0), "prior": Normal(0.0, 4.0)}
    return Kind(seeded(Network), pictures(), score=score)


def signal() -> Kind:
    return Kind(seeded(lambda: Network(places=1)), random(2, 1, 64), windows=(1, 16))


def volume() -> Kind:
    return Kind(seeded(lambda: Network(places=3)), random(2, 1, 16, 16, 16), windows=(1, 8, 8, 8))


def monai() -> Kind:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.networks.nets import DenseNet

    sizes = {"init_features": 8, "growth_rate": 4, "block_config": (2, 2)}
    network = seeded(lambda: DenseNet(3, 1, CLASSES, **sizes))
    return Kind(network, random(2, 1, 16, 16, 16), windows=(1, 8, 8, 8))


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
    "Hugging Face, convolutions": huggingface_resnet,
    "logits in an object": named_logits,
    "multi-label, sigmoid": multi_label,
    "`adapters.zero_shot`, CLIP": clip,
    "`adapters.zero_shot`, CLIP of open_clip": clip_of_open_clip,
    "`adapters.zero_shot`, SigLIP, sigmoid": siglip,
    "`adapters.gallery`": gallery_of_references,
    "`adapters.area`, torchvision": segmentation,
    "`adapters.area`, SegFormer": segformer,
    "`adapters.detection`, torchvision": detector,
    "`adapters.detection`, YOLOS": yolos,
    "regression, `Gaussian`": regression,
    "signal (N, C, T)": signal,
    "volume (N, C, D, H, W)": volume,
    "volume, MONAI's DenseNet": monai,
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
