"""`zero_shot` on two towers whose bits have a closed form, and on transformers and open_clip."""

import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from captum.attr import NoiseTunnel
from captum.metrics import infidelity
from PIL import Image
from refused import refused
from state import unchanged
from torch import nn
from torchvision import transforms

from captum_infomask import InfoMask, compare, fit_temperature, grid, run_dataset
from captum_infomask.adapters import zero_shot
from captum_infomask.datasets import sample_photo
from captum_infomask.models.preprocessing import Preprocess

SCALE, BIAS = 5.0, -3.0
WORDS = {"left": (2.0, 0.0), "right": (0.0, 3.0), "both": (4.0, 4.0)}
PROMPTS = ["left", "right"]
PIXELS = Preprocess((1, 2), (1, 2), mean=(0.0,), std=(1.0,))


def words_to_ids(texts):
    return torch.tensor([[list(WORDS).index(text)] for text in texts])


class OpenTowers(nn.Module):
    """A picture of two pixels is its own embedding; a text has a row of a table. As open_clip."""

    def __init__(self, bias=None):
        super().__init__()
        self.visual = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
        self.table = nn.Embedding.from_pretrained(torch.tensor(list(WORDS.values())))
        self.dropout = nn.Dropout(0.5)
        self.logit_scale = nn.Parameter(torch.tensor(SCALE).log())
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor([bias]))

    def encode_image(self, pictures):
        return self.visual(pictures)

    def encode_text(self, ids):
        return self.dropout(self.table(ids[:, 0]))


class PooledTowers(OpenTowers):
    """The same with the names of transformers."""

    config = SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=1))

    class Tower(nn.Module):
        def forward(self, pixel_values):
            return SimpleNamespace(pooler_output=pixel_values.flatten(1))

    def __init__(self, bias=None):
        super().__init__(bias)
        del self.visual
        self.vision_model = self.Tower()
        self.visual_projection = nn.Linear(2, 2, bias=False)
        self.visual_projection.weight.data.copy_(torch.eye(2))

    encode_image = encode_text = property()

    def get_image_features(self, pixel_values):
        return SimpleNamespace(
            pooler_output=self.visual_projection(self.vision_model(pixel_values).pooler_output)
        )

    def get_text_features(self, input_ids):
        return self.dropout(self.table(input_ids[:, 0]))


def as_processor(text, padding, max_length):
    assert (padding, max_length) == ("max_length", 1)
    return {"input_ids": words_to_ids(text).tolist()}


MODELS = {OpenTowers: words_to_ids, PooledTowers: as_processor}


def made(kind=OpenTowers, prompts=PROMPTS, bias=None):
    return zero_shot(kind(bias).eval(), MODELS[kind], prompts, preprocess=PIXELS)


def picture(left, right):
    return torch.tensor([[[[left, right]]]])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("kind", MODELS)
def test_bits_of_two_pixels_about_a_prompt_are_those_of_the_closed_form(kind):
    found = made(kind)
    x = picture(3.0, 4.0)  # cosines 0.6 and 0.8 with the two prompts
    whole = math.log2(2 * sigmoid(SCALE * (0.6 - 0.8)))
    infomap = InfoMask(found).score_regions(x, target="left", view="drop", regions=grid(x, 1, 2))
    without_left = math.log2(2 * sigmoid(-SCALE))
    without_right = math.log2(2 * sigmoid(SCALE))
    expected = [whole - without_left, whole - without_right]
    assert float(infomap.total) == pytest.approx(whole, abs=1e-5)
    assert infomap.scores[0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("prior", [None, 1 / 1024])
def test_bits_of_a_sigmoid_have_the_models_bias(prior):
    found = made(bias=BIAS)
    x = picture(3.0, 4.0)
    infomap = InfoMask(found, head="sigmoid", prior=prior).score_regions(
        x, target="right", view="drop", regions=grid(x, 1, 2)
    )
    logs = [math.log2(sigmoid(SCALE * cosine + BIAS)) for cosine in (0.8, 1.0, 0.0)]
    assert float(infomap.total) == pytest.approx(logs[0] - math.log2(prior or 0.5), abs=1e-5)
    expected = [logs[0] - logs[1], logs[0] - logs[2]]
    assert infomap.scores[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_bias_changes_nothing_among_prompts():
    x = torch.rand(3, 1, 1, 2)
    assert torch.allclose(
        made(bias=BIAS).network(x).softmax(1), made().network(x).softmax(1), atol=1e-6
    )


def test_several_texts_of_a_category_are_the_mean_of_directions():
    found = made(prompts={"a side": ["left", "right"], "one side": "left", "all": ("both",)})
    assert found.categories == ("a side", "one side", "all")
    logits = found.network(picture(1.0, 0.0))[0].tolist()
    half = SCALE / math.sqrt(2)
    assert logits == pytest.approx([half, SCALE, half], abs=1e-5)


def test_many_texts_are_encoded_in_turn(monkeypatch):
    monkeypatch.setattr("captum_infomask.adapters.zero_shot_classifier._TEXTS", 2)
    sizes = []

    def tokenizer(texts):
        sizes.append(len(texts))
        return words_to_ids(texts)

    found = zero_shot(OpenTowers().eval(), tokenizer, list(WORDS), preprocess=PIXELS)
    assert sizes == [2, 1]
    expected = torch.nn.functional.normalize(torch.tensor(list(WORDS.values())), dim=1)
    assert torch.allclose(found.network.references, expected)


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_nothing_of_the_model_changes_and_its_dropout_rests(kind, is_training):
    model = kind().train(is_training)
    with unchanged(model), torch.inference_mode():
        found = zero_shot(model, MODELS[kind], PROMPTS, preprocess=PIXELS)
    assert found.network.training == is_training == model.training
    assert torch.equal(found.network.references, torch.eye(2))
    assert not found.network.references.is_inference()
    assert not any(each is model.table for each in found.network.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_of_half_precision_have_the_digits_of_single_precision(dtype):
    found = zero_shot(OpenTowers().eval().to(dtype), words_to_ids, PROMPTS, preprocess=PIXELS)
    logits = found.network(picture(3.0, 4.0).to(dtype))
    assert logits.dtype == torch.float32
    scale = float(torch.tensor(SCALE).log().to(dtype).exp())
    assert logits[0].tolist() == pytest.approx([0.6 * scale, 0.8 * scale], abs=1e-5)


def test_a_fitted_temperature_is_the_one_that_made_the_labels():
    found = made()
    x = picture(4.0, 3.0)  # the gap of the logits is 5 (0.8 - 0.6) = 1
    labels = torch.tensor([0, 0, 0, 1])
    fitted = fit_temperature(found.network, [(x.expand(4, -1, -1, -1), labels)])
    assert float(fitted) == pytest.approx(1 / math.log(3), rel=1e-4)  # 1 / τ = ln 3: 75%
    total = InfoMask(found, temperature=fitted).score_regions(x, target="left", view="drop").total
    assert float(total) == pytest.approx(math.log2(0.75 / 0.5), abs=1e-4)


class Averages(nn.Module):
    """Two colours and 1, averaged over the picture; a picture of zeros lies between the prompts."""

    def __init__(self):
        super().__init__()
        self.colours = nn.Conv2d(2, 2, 1)
        self.colours.weight.data.copy_(torch.eye(2)[..., None, None])
        self.colours.bias.data.fill_(1.0)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.pool(self.colours(x)).flatten(1)


@pytest.fixture
def colours():
    model = OpenTowers()
    model.visual = Averages()
    pixels = Preprocess((4, 4), (4, 4), mean=(0.0, 0.0), std=(1.0, 1.0))
    return zero_shot(model.eval(), words_to_ids, PROMPTS, preprocess=pixels)


def test_features_and_crops_of_a_region_are_those_of_its_mean_colour(colours):
    x = torch.rand(2, 2, 4, 4) + 0.1
    x[..., :2, :2] = torch.tensor([2.0, 3.0])[:, None, None]
    expected = math.log2(2 * sigmoid(SCALE * (0.6 - 0.8)))
    for view in ("features", "crop"):
        scores = (
            InfoMask(colours)
            .score_regions(x, target="left", view=view, regions=grid(x, 2, 2))
            .scores
        )
        assert scores[:, 0].tolist() == pytest.approx([expected] * 2, abs=1e-5)


@pytest.mark.parametrize("view", [None, "evidence", "relay", "chain"])
def test_views_that_share_out_add_up(colours, view):
    x = torch.rand(2, 2, 4, 4) + 0.1
    x[:, 0] *= torch.linspace(2, 6, 16).reshape(4, 4)
    infomap = InfoMask(colours).score_regions(x, target="left", view=view)
    cosines = torch.nn.functional.normalize(1 + x.mean((2, 3)), dim=1)
    whole = (2 * torch.sigmoid(SCALE * (cosines[:, 0] - cosines[:, 1]))).log2()
    assert torch.allclose(
        infomap.scores.sum(1).double(), whole.double(), atol=1e-3
    )  # i(y; nothing) = 0
    assert float(whole.min()) > 0.1


def test_incremental_runs_what_regions_change(colours):
    x = torch.rand(1, 2, 4, 4)
    given = {"target": "left", "view": "drop", "regions": grid(x, 2, 2)}
    fast = InfoMask(colours).score_regions(x, engine="incremental", **given)
    plain = InfoMask(colours).score_regions(x, engine="batched", **given)
    assert fast.engine.startswith("incremental")
    assert torch.allclose(fast.scores, plain.scores, atol=1e-5)


def test_compare_and_run_dataset_take_it(colours, tmp_path):
    x = torch.rand(2, 2, 4, 4) + 0.1
    found = compare(colours, x, "left", methods=["InfoMask"], metrics=["deletion"])
    assert found.labels == ("left", "left")
    assert not found.outcomes[0].error
    done = run_dataset([(one, 0) for one in x], colours, tmp_path / "run", view="drop")
    assert done.categories == ("left", "right")
    assert len(done) == 2
    assert not done.errors


def test_captums_own_tools_take_it(colours):
    x = torch.rand(1, 2, 4, 4) + 0.1
    given = {"target": 0, "view": "drop", "regions": grid(x, 2, 2)}
    smooth = NoiseTunnel(InfoMask(colours)).attribute(x, nt_samples=2, stdevs=0.01, **given)
    assert torch.allclose(smooth, InfoMask(colours).attribute(x, **given), atol=0.1)

    def hide_all(inputs):
        # Both channels hold a pixel's value, so half of each.
        return torch.full_like(inputs, 0.5), torch.zeros_like(inputs)

    def log_posterior(inputs):
        return colours.network(inputs).log_softmax(1)

    x[:, 0] *= 5
    shared = InfoMask(colours, unit="nats").attribute(x, target=0)
    missed = infidelity(log_posterior, hide_all, x, shared, target=0)
    assert float(missed) < 1e-6  # what the parts add up to is what hiding all of them takes away
    assert float(infidelity(log_posterior, hide_all, x, 0 * shared, target=0)) > 0.01


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (("`model`", "Linear", "gallery("), {"model": nn.Linear(2, 2)}),
        (("`model`", "is no network yet"), {"model": "openai/clip-vit-base-patch32"}),
        (("`prompts`", "a list of texts", "'left'"), {"prompts": "left"}),
        (("`prompts`", "at least two", "got 1"), {"prompts": ["left"]}),
        (("`prompts`", "'left' comes again"), {"prompts": ["left", "right", "left"]}),
        (("`prompts`", "a mapping from names", "'left', 3"), {"prompts": ["left", 3]}),
        (("`prompts`", "a mapping from names"), {"prompts": [["left", "both"], ["right"]]}),
        (("`prompts`", "a mapping from names"), {"prompts": {1: "left", 2: "right"}}),
        (("`prompts`", "texts"), {"prompts": {"a": "left", "b": []}}),
        (("`prompts`", "texts"), {"prompts": []}),
        (
            ("`preprocess`", "RandomCrop"),
            {
                "preprocess": transforms.Compose(
                    [transforms.Resize(2), transforms.RandomCrop(2), transforms.Normalize([0], [1])]
                )
            },
        ),
        (
            ("`model`", "(1, 1, 3, 3)", "RuntimeError"),
            {"preprocess": Preprocess(3, 3, mean=(0.0,), std=(1.0,)), "model": "wide"},
        ),
        (("`model`", "does more", "Sequential"), {"model": "more"}),
        (("`preprocess`", "image processor", "function"), {"preprocess": None}),
        (("`processor`", "texts too", "Preprocess"), {"processor": PIXELS, "preprocess": None}),
        (("`processor`", "texts too", "SimpleNamespace"), {"processor": SimpleNamespace()}),
    ],
)
def test_refused(words, change):
    given = {"model": OpenTowers().eval(), "processor": words_to_ids, "prompts": PROMPTS}
    given |= {"preprocess": PIXELS, **change}
    if given["model"] == "more":
        given["model"] = OpenTowers().eval()
        given["model"].encode_image = lambda x: x.flatten(1) + torch.tensor([0.0, 1.0])
    if given["model"] == "wide":
        given["model"] = OpenTowers().eval()
        given["model"].visual = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).eval()
    refused(words, lambda: zero_shot(**given))


def test_a_network_of_texts_is_told_the_adapter():
    class Pair(OpenTowers):
        def forward(self, pictures, texts=None):
            return pictures @ texts.shape

    words = (
        "pictures and texts",
        "adapters.zero_shot(model, processor, prompts)",
        "AttributeError",
    )
    refused(words, lambda: InfoMask(Pair().eval()).attribute(torch.rand(1, 1, 2, 2), target=0))


def test_prompts_that_are_too_long_are_refused():
    def processor(**given):  # only the second is too long
        return {"input_ids": [[0], [0, 1, 2]]}

    refused(
        ("`prompts`", "at most 1 tokens", "has 3"),
        lambda: zero_shot(PooledTowers().eval(), processor, PROMPTS, preprocess=PIXELS),
    )


# The real packages, with random weights from small configurations.

SIZE = {"height": 32, "width": 32}
TEXTS = ["a photo of a cat", "a dog", "the cup on a table"]


def tiny_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = dict.fromkeys(word for text in TEXTS for word in text.split())
    numbers = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *words])}
    inner = Tokenizer(models.WordLevel(numbers, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
TEXT = {
    **SMALL,
    "vocab_size": 13,
    "max_position_embeddings": 16,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
VISION = {**SMALL, "image_size": 32, "patch_size": 8}


def of_transformers(name):
    """A model of transformers with random weights, and its processor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import transformers as hf
    torch.manual_seed(0)
    if name == "clip":
        config = hf.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)
        pixels = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIZE)
        return hf.CLIPModel(config).eval(), hf.CLIPProcessor(pixels, tiny_tokenizer())
    config = hf.SiglipConfig(text_config=TEXT, vision_config=VISION)
    pixels = hf.SiglipImageProcessor(size=SIZE)
    return hf.SiglipModel(config).eval(), hf.SiglipProcessor(pixels, tiny_tokenizer())


def photo():
    return Image.fromarray(sample_photo("coffee"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip", "siglip"])
@pytest.mark.parametrize("is_whole", [True, False], ids=["processor", "tokenizer"])
def test_one_prompt_that_is_too_long_is_refused_by_its_length(name, is_whole):
    model, processor = of_transformers(name)
    reader = processor if is_whole else processor.tokenizer
    given = ["a dog", "a " * 30]
    refused(
        ("`prompts`", "at most 16 tokens", "has 32"),
        lambda: zero_shot(model, reader, given, preprocess=processor.image_processor),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_logits_are_those_of_transformers(name):
    model, processor = of_transformers(name)
    with unchanged(model):
        found = zero_shot(model, processor, TEXTS)
    given = processor(
        text=TEXTS, images=photo(), padding="max_length", max_length=16, return_tensors="pt"
    )
    pictures = (
        given.pop("pixel_values").expand(3, -1, -1, -1)
        * torch.tensor([1.0, 0.5, -1.0])[:, None, None, None]
    )
    with torch.no_grad():
        expected = model(pixel_values=pictures, **given).logits_per_image
        logits = found.network(pictures)
    assert float((logits - expected).abs().max()) < 1e-6
    assert float(expected.std()) > 0.05
    assert found.categories == tuple(TEXTS)
    assert tuple(found.preprocess(photo()).shape) == (1, 3, 32, 32)


@pytest.mark.slow
@pytest.mark.parametrize("view", [None, "evidence", "drop", "crop", "keep", "chain"])
@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_views_of_transformers_towers(name, view):
    model, processor = of_transformers(name)
    found = zero_shot(model, processor, TEXTS)
    x = torch.cat([found.preprocess(photo()), torch.randn(1, 3, 32, 32)])
    head = "sigmoid" if name == "siglip" else "logits"
    regions = {} if view in (None, "evidence") else {"regions": grid(x, 2, 2)}
    with warnings.catch_warnings():
        # The logits of random weights may all lie in [0, 1].
        warnings.filterwarnings("ignore", message="All outputs lie in")
        infomap = InfoMask(found, head=head).score_regions(x, target="a dog", view=view, **regions)
    assert infomap.view == (view or "relay")
    assert len(infomap.scores) == 2
    assert float(infomap.scores.abs().max()) > 1e-4
    if view in (None, "evidence"):
        assert float(infomap.residual.abs().max()) < 2e-3


@pytest.mark.slow
def test_a_model_whose_pictures_are_patches_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from transformers import Siglip2Config, Siglip2Model
    vision = {**SMALL, "patch_size": 8, "num_patches": 16}
    model = Siglip2Model(Siglip2Config(text_config=TEXT, vision_config=vision)).eval()
    _, processor = of_transformers("siglip")
    refused(("`model`", "(1, 3, 32, 32)"), lambda: zero_shot(model, processor, TEXTS))


def of_open_clip(layers=2, **text):
    """A model of open_clip, a vision transformer or a ResNet, with the package's vocabulary."""
    import open_clip

    torch.manual_seed(0)
    vision = open_clip.CLIPVisionCfg(
        layers=layers, width=32, head_width=16, patch_size=8, image_size=32
    )
    texts = open_clip.CLIPTextCfg(context_length=16, width=32, heads=2, layers=1)
    model = open_clip.CLIP(16, vision, texts, **text).eval()
    return (
        model,
        open_clip.SimpleTokenizer(context_length=16),
        open_clip.image_transform(32, is_train=False),
    )


@pytest.mark.slow
@pytest.mark.parametrize("bias", [None, -10.0])
@pytest.mark.parametrize("layers", [2, (1, 1, 1, 1)])
def test_logits_and_views_are_those_of_open_clip(layers, bias):
    model, tokenizer, transform = of_open_clip(layers, init_logit_bias=bias)
    with unchanged(model):
        found = zero_shot(model, tokenizer, TEXTS, preprocess=transform)
    x = torch.cat([transform(photo())[None], torch.randn(1, 3, 32, 32)])
    assert torch.equal(found.preprocess(photo()), x[:1])
    with torch.no_grad():
        expected = model.get_logits(x, tokenizer(TEXTS))[0]
        assert float((found.network(x) - expected).abs().max()) < 2e-6
    given = {"target": "a dog"}
    infomap = InfoMask(found).score_regions(x, **given)
    assert (infomap.view, len(infomap.scores)) == ("relay", 2)
    assert float(infomap.residual.abs().max()) < 2e-3
    fill = {"view": "drop", "regions": grid(x, 4, 4)}
    plain = InfoMask(found).score_regions(x, engine="batched", **given, **fill)
    fast = InfoMask(found).score_regions(x, **given, **fill)
    assert torch.allclose(plain.scores, fast.scores, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coca", "timm"])
def test_other_towers_of_open_clip(name):
    import open_clip
    from open_clip.coca_model import CoCa, MultimodalCfg

    _, tokenizer, _ = of_open_clip()
    torch.manual_seed(0)
    size = {"context_length": 16, "width": 32, "heads": 2, "layers": 1}
    if name == "coca":  # its towers return tokens too, and its pooler has learned queries
        pooler = {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4}
        vision = open_clip.CLIPVisionCfg(
            layers=2, width=32, head_width=16, patch_size=8, image_size=32, **pooler
        )
        vision.output_tokens = True
        texts = open_clip.CLIPTextCfg(**size, embed_cls=True, output_tokens=True)
        model = CoCa(16, MultimodalCfg(**size), texts, vision).eval()
    else:
        vision = open_clip.CLIPVisionCfg(timm_model_name="test_vit", timm_pool="", image_size=32)
        model = open_clip.CustomTextCLIP(16, vision, open_clip.CLIPTextCfg(**size)).eval()
    found = zero_shot(
        model, tokenizer, TEXTS, preprocess=open_clip.image_transform(32, is_train=False)
    )
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        pictures = torch.nn.functional.normalize(model.encode_image(x), dim=1)
        texts = torch.nn.functional.normalize(model.encode_text(tokenizer(TEXTS)), dim=1)
        expected = model.logit_scale.exp() * pictures @ texts.T
        assert float((found.network(x) - expected).abs().max()) < 2e-6
    infomap = InfoMask(found).score_regions(x, target="a dog")
    assert (infomap.view, len(infomap.scores)) == ("relay", 2)
    assert float(infomap.residual.abs().max()) < 2e-3


@pytest.mark.slow
def test_transforms_of_open_clip_that_squash():
    import open_clip

    model, tokenizer, _ = of_open_clip()
    squash = open_clip.image_transform(32, is_train=False, resize_mode="squash")
    found = zero_shot(model, tokenizer, TEXTS, preprocess=squash)
    assert torch.equal(found.preprocess(photo())[0], squash(photo()))
    longest = open_clip.image_transform(32, is_train=False, resize_mode="longest")
    refused(
        ("`preprocess`", "ResizeKeepRatio"),
        lambda: zero_shot(model, tokenizer, TEXTS, preprocess=longest),
    )


@pytest.mark.slow
def test_compare_and_temperature_on_clip():
    found = zero_shot(*of_transformers("clip"), TEXTS)
    x = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        posterior = (found.network(x) / 2).softmax(1)
    counts = (posterior * 40).round().long()  # labels as they would be if τ were 2
    labels = torch.cat([torch.arange(3).repeat_interleave(own) for own in counts])
    pictures = x.repeat_interleave(counts.sum(1), 0)
    fitted = fit_temperature(found.network, [(pictures, labels)])
    assert float(fitted) == pytest.approx(2, rel=0.05)
    result = compare(found, x[:2], "a dog", methods=["InfoMask", "Occlusion", "Input x gradient"])
    assert [outcome.error for outcome in result.outcomes] == ["", "", ""]
