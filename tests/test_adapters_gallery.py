"""`gallery` on networks whose bits have a closed form, its bound, and real embeddings."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from refused import refused
from state import unchanged
from torch import nn

from captum_infomask import InfoMask, compare, fit_temperature, grid, information
from captum_infomask.adapters import gallery
from captum_infomask.datasets import CategoricalPatches, GaussianPatches, IndependentPatches

EYE = torch.eye(3)


class OnSphere(nn.Module):
    """Embeddings of length 1 whose first entries are a network's logits, times a small number."""

    def __init__(self, network, step):
        super().__init__()
        self.network, self.step = network, step

    def forward(self, x):
        small = self.network(x).log_softmax(1) * self.step  # shifts of logits change no posterior
        rest = (1 - (small**2).sum(1, keepdim=True)).sqrt()
        return torch.cat([small, rest], 1)


@pytest.mark.parametrize("view", ["keep", "drop", "chain"])
@pytest.mark.parametrize("family", [GaussianPatches, CategoricalPatches])
def test_bits_are_those_of_bayes_rule_if_similarities_are_log_likelihoods(family, view):
    # e_k is the k-th axis, so cos / τ is the k-th logit if τ is the small number.
    patches = family.random(classes=3, positions=4)
    pictures = IndependentPatches(patches, rows=2, columns=2, baseline=0.5)
    images, labels = pictures.draw(6, seed=1, dtype=torch.float64)
    model = OnSphere(pictures.network(), 1e-3).eval()
    found = gallery(model, torch.eye(3, 4).double(), 1e-3)
    infomap = InfoMask(found).score_regions(
        images,
        baselines=0.5,
        target=labels,
        view=view,
        regions=grid(images, 2, 2),
        **({"n_samples": 24 * 4} if view == "chain" else {}),
    )
    exact = pictures.information(images, labels, view=view)
    tolerance = 0.15 if view == "chain" else 1e-6  # the chain draws orders
    assert torch.allclose(infomap.scores, exact, rtol=0, atol=tolerance)
    assert torch.allclose(infomap.total, pictures.total(images, labels), rtol=0, atol=1e-6)
    assert float(exact.abs().max()) > 0.3


def test_bits_of_a_linear_embedding_have_the_closed_form():
    tau = 0.2
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))
    model[1].weight.data.copy_(2 * EYE)
    found = gallery(model.eval(), 7 * EYE, tau)
    x = torch.tensor([[[[2.0, 1.0, 2.0]]]])  # cosines 2/3, 1/3, 2/3
    infomap = InfoMask(found).score_regions(x, target="1", view="drop", regions=grid(x, 1, 3))

    def bits(*cosines):
        return math.log2(3 * math.exp(cosines[1] / tau) / sum(math.exp(c / tau) for c in cosines))

    one, two = 1 / math.sqrt(5), 2 / math.sqrt(5)
    whole, half = bits(2 / 3, 1 / 3, 2 / 3), 1 / math.sqrt(2)
    expected = [whole - bits(0, one, two), whole - bits(half, 0, half), whole - bits(two, one, 0)]
    assert float(infomap.total) == pytest.approx(whole, abs=1e-5)
    assert infomap.scores[0].tolist() == pytest.approx(expected, abs=1e-5)


@given(
    st.integers(2, 40),
    st.integers(1, 8),
    st.floats(1e-3, 10),
    st.integers(0, 2**31),
)
def test_no_picture_holds_more_than_log_k_bits(count, width, tau, seed):
    generator = torch.Generator().manual_seed(seed)
    references = torch.randn(count, width, generator=generator, dtype=torch.float64)
    pictures = torch.randn(5, width, generator=generator, dtype=torch.float64)
    found = gallery(nn.Identity().eval(), references, tau)
    bits = torch.stack(
        [information(found.network(pictures), torch.full((5,), k)) for k in range(count)], 1
    )
    limit = math.log2(count)
    assert float(bits.max()) <= limit + 1e-9
    assert torch.allclose((2**bits).mean(1), torch.ones(5).double())  # posteriors sum to 1
    own = information(found.network(references), torch.arange(count))
    assert float(own.max()) <= limit + 1e-9


def test_a_reference_reaches_the_bound_and_copies_of_it_share_it():
    found = gallery(nn.Identity().eval(), torch.eye(8), 0.01)
    bits = information(found.network(torch.eye(8)), torch.arange(8))
    assert torch.allclose(bits, torch.full((8,), 3.0).to(bits))
    twins = gallery(nn.Identity().eval(), torch.eye(8)[[0, 0, 1, 1, 2, 2, 3, 3]], 0.01)
    assert float(information(twins.network(torch.eye(8)[:1]), 0)) == pytest.approx(2)  # 3 - 1


def test_a_part_that_all_references_share_tells_nothing():
    model = nn.Flatten().eval()
    found = gallery(model, torch.tensor([[1.0, 2.0, 0.0], [1.0, 0.0, 2.0]]), 0.1)
    x = torch.tensor([[[[1.0, 2.0, 0.0]]]])
    scores = InfoMask(found).score_regions(x, target=0, view="keep", regions=grid(x, 1, 3)).scores
    assert scores[0, 0] == pytest.approx(0, abs=1e-6)
    assert scores[0, 1] == pytest.approx(1, abs=1e-3)


def test_references_of_one_name_are_the_mean_of_directions():
    embeddings = torch.tensor([[5.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    found = gallery(nn.Identity().eval(), embeddings, names=["Ada", "Bob", "Ada"])
    assert found.categories == ("Ada", "Bob")
    half = 1 / math.sqrt(2)
    assert torch.allclose(found.network.references, torch.tensor([[half, half], [0.0, 1.0]]))
    logits = found.network(torch.tensor([[2.0, 0.0]]))
    assert logits[0].tolist() == pytest.approx([half - 1, -1.0])


def test_a_temperature_is_fitted_on_cosines_and_read_in_either_place():
    model = nn.Identity().eval()
    cosines = gallery(model, torch.eye(2))
    x = torch.tensor([[0.8, 0.6]])
    labels = torch.tensor([0, 0, 0, 1])
    fitted = fit_temperature(cosines.network, [(x.expand(4, 2), labels)])
    assert float(fitted) == pytest.approx(0.2 / math.log(3), rel=1e-4)
    outside = InfoMask(cosines, temperature=fitted).score_regions(x, target=0, view="drop")
    assert float(cosines.network(x).max()) == pytest.approx(-0.2)  # else it may look like a softmax
    inside = InfoMask(gallery(model, torch.eye(2), fitted)).score_regions(x, target=0, view="drop")
    assert float(outside.total) == pytest.approx(math.log2(0.75 / 0.5), abs=1e-4)
    assert torch.allclose(outside.scores, inside.scores, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_have_the_digits_of_single_precision_at_least(dtype):
    found = gallery(nn.Identity().eval(), 5 * torch.eye(2, dtype=dtype), 0.01)
    logits = found.network(torch.tensor([[3.0, 4.0]], dtype=dtype))
    assert logits.dtype == torch.promote_types(dtype, torch.float32)
    assert logits[0].tolist() == pytest.approx([-40.0, -20.0], abs=1e-4)


@pytest.mark.parametrize("is_training", [False, True])
def test_nothing_of_the_model_or_the_embeddings_changes(is_training):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.5)).train(is_training)
    embeddings = torch.randn(5, 3, requires_grad=True)
    with unchanged(model, embeddings):
        found = gallery(model, embeddings, 0.1)
    assert found.network.training == is_training
    assert not found.network.references.requires_grad
    assert found.network.references.data_ptr() != embeddings.data_ptr()


@pytest.mark.parametrize("view", [None, "evidence", "drop", "crop", "keep", "chain", "features"])
def test_views_of_a_convolutional_embedding(view):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(8, 4)).double().eval()
    x = torch.rand(2, 3, 16, 16).double()
    found = gallery(model, torch.randn(6, 4).double(), 0.1)
    regions = {} if view in (None, "evidence") else {"regions": grid(x, 4, 4)}
    infomap = InfoMask(found).score_regions(x, target=3, view=view, **regions)
    assert infomap.view == (view or "relay")
    plain = (found.network(x).log_softmax(1)[:, 3] / math.log(2)) + math.log2(6)
    assert torch.allclose(infomap.total, plain, atol=1e-9)
    assert infomap.residual is None or float(infomap.residual.abs().max()) < 1e-4
    assert float(infomap.scores.abs().max()) > 1e-3


def test_compare_takes_it():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x = torch.rand(2, 3, 8, 8)
    found = gallery(model, torch.rand(3, 4), 0.1, names=["Ada", "Bob", "Cem"])
    result = compare(found, x, "Cem", methods=["InfoMask", "Grad-CAM", "Occlusion"])
    assert [outcome.error for outcome in result.outcomes] == ["", "", ""]
    assert result.labels == ("Cem", "Cem")
    assert dict(result.settings)["Model"] == "Sequential"  # the user's, not the adapter's module


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (("`model`", "torch.nn.Module", "function"), {"model": lambda x: x}),
        (("`embeddings`", "(K, D)", "(3,)"), {"embeddings": torch.ones(3)}),
        (("`embeddings`", "int64"), {"embeddings": torch.eye(3).long()}),
        (("`embeddings`", "torch.from_numpy(embeddings)"), {"embeddings": np.eye(3)}),
        (("`embeddings`", "dict", "names=list("), {"embeddings": {"Ada": EYE[0], "Bob": EYE[1]}}),
        (("`embeddings`", "at least two", "got 1"), {"embeddings": torch.eye(1)}),
        (("`embeddings`", "model(pictures)"), {"embeddings": torch.rand(3, 3, 8, 8)}),
        (("reference 2", "length 0"), {"embeddings": torch.diag(torch.tensor([1.0, 1.0, 0.0]))}),
        (("reference 1", "length nan"), {"embeddings": EYE / torch.tensor([[1.0], [0.0], [1.0]])}),
        (("`names`", "3 names"), {"names": ["Ada", "Bob"]}),
        (("`names`", "3 names", "'Ada'"), {"names": "Ada"}),
        (("`names`", "3 names", "got 5"), {"names": 5}),
        (("at least two", "got 1"), {"names": ["Ada"] * 3}),
        (("`temperature`", "above 0"), {"temperature": 0.0}),
        (("`temperature`", "'cold'"), {"temperature": "cold"}),
    ],
)
def test_refused(words, change):
    given = {"model": nn.Identity().eval(), "embeddings": EYE, **change}
    refused(words, lambda: gallery(**given))


def test_categories_are_called_names():
    with pytest.raises(TypeError, match=r"'categories'\. `names` are"):
        gallery(nn.Identity().eval(), EYE, categories=["Ada", "Bob", "Cem"])


class Returning(nn.Module):
    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, x):
        return self.made(x)


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (("tuple", "self.model(x)[0]"), lambda x: (x, x)),
        (("dict", "self.model(x)['pooler_output']"), lambda x: {"last": x, "pooler_output": x}),
        (("dict", "self.model(x)['last']"), lambda x: {"last": x}),
        (("(N, 3)", "(1, 2)"), lambda x: x[:, :2]),
        (("(N, 3)", "(1, 3, 1)"), lambda x: x[..., None]),
    ],
)
def test_networks_that_return_something_else_are_told_the_wrapper(words, made):
    found = gallery(Returning(made).eval(), EYE)
    refused(
        ("`model`", "embeddings", *words),
        lambda: InfoMask(found).score_regions(torch.ones(1, 3), target=0, view="drop"),
    )


@pytest.mark.slow
def test_embeddings_of_transformers_and_timm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import timm
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )
    model = CLIPVisionModelWithProjection(config).eval()
    x = torch.randn(2, 3, 32, 32)
    refused(
        ("CLIPVisionModelOutput", "self.model(x)['image_embeds']"),
        lambda: InfoMask(gallery(model, torch.randn(3, 16))).attribute(x, target=0),
    )
    wrapped = Returning(lambda x: model(x).image_embeds).eval()
    with torch.no_grad():
        references = wrapped(torch.randn(4, 3, 32, 32))
    infomap = InfoMask(gallery(wrapped, references, 0.05)).score_regions(x, target=2)
    assert infomap.view == "relay"
    assert float(infomap.residual.abs().max()) < 2e-3
    vit = timm.create_model("test_vit", num_classes=0).eval()
    found = gallery(vit, torch.randn(4, vit.num_features), 0.05)
    assert found.preprocess.shape == (3, 160, 160)
    infomap = InfoMask(found).score_regions(torch.randn(1, 3, 160, 160), target=2)
    assert infomap.view == "relay"
    assert float(infomap.residual.abs().max()) < 2e-3


def test_references_in_half_precision_count_as_they_are():
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(4, 8, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8)).eval()
    x = torch.rand(3, 3, 2, 2, generator=generator)
    for scale in (1, 20_000):  # squares of the second overflow
        half = (references * scale).half()
        found, wanted = (gallery(model, own, 0.01).network(x) for own in (half, half.float()))
        assert torch.equal(found, wanted)
        assert wanted.isfinite().all()
