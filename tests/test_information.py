import math

import pytest
import reference
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from captum_infomask import ArgumentError, InfoMask, information

OUTPUTS = torch.tensor([[1.5, -2.0, 0.25, 3.0], [0.0, 4.0, -1.0, 0.5]], dtype=torch.float64)
SKEWED = [0.1, 0.2, 0.3, 0.4]

# Some rows that Hypothesis draws look like probabilities.
pytestmark = pytest.mark.filterwarnings("ignore:All outputs lie in .0, 1. and sum to 1")

logit_rows = arrays("float64", 5, elements=st.floats(-50, 50))
priors = arrays("float64", 5, elements=st.floats(0.01, 1)).map(lambda p: p / p.sum())


def outputs_for(head):
    if head == "log_probs":
        return OUTPUTS.log_softmax(1)
    if head == "probs":
        return OUTPUTS.softmax(1)
    return OUTPUTS


READINGS = [
    (head, trained_with, prior)
    for head, trained_with in [
        ("logits", "cross_entropy"),
        ("logits", "pc_softmax"),
        ("log_probs", "cross_entropy"),
        ("probs", "cross_entropy"),
        ("sigmoid", "cross_entropy"),
        ("raw", "cross_entropy"),
    ]
    for prior in (None, SKEWED)
    if head != "raw" or prior is None
]


@pytest.mark.parametrize("unit", ["bits", "nats"])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
@pytest.mark.parametrize(("head", "trained_with", "prior"), READINGS)
def test_formulas(head, trained_with, prior, temperature, unit):
    given_settings = {
        "head": head,
        "trained_with": trained_with,
        "prior": prior,
        "temperature": temperature,
        "unit": unit,
    }
    output = outputs_for(head)
    got = information(output, [3, 1], **given_settings)
    want = [
        reference.information(row, y, **given_settings)
        for row, y in zip(output.tolist(), [3, 1], strict=True)
    ]
    assert got.tolist() == pytest.approx(want, abs=1e-12)
    assert max(map(abs, want)) > 0.1


def test_uniform_prior_is_log_softmax_plus_log_m():
    want = OUTPUTS.log_softmax(1)[:, 2] + math.log(4)
    for trained_with in ("cross_entropy", "pc_softmax"):
        got = information(OUTPUTS, 2, trained_with=trained_with, unit="nats")
        torch.testing.assert_close(got, want)


def test_base_of_the_softmax_is_a_temperature():
    base = 2.0
    probabilities = base**OUTPUTS / (base**OUTPUTS).sum(1, keepdim=True)
    got = information(OUTPUTS, 0, temperature=1 / math.log(base))
    torch.testing.assert_close(got, (probabilities[:, 0] * 4).log2())


@given(logit_rows, priors)
@settings(deadline=None, max_examples=50)
def test_mean_information_is_a_divergence(row, prior):
    """E_p[i] = KL(p ‖ π) ≥ 0, and i ≤ −log π."""
    output = torch.from_numpy(row)[None]
    i = torch.cat([information(output, y, prior=prior) for y in range(5)])
    p = output.softmax(1)[0]
    divergence = float((p * i).sum())
    assert divergence >= -1e-9
    assert bool((i <= -torch.from_numpy(prior).log2() + 1e-9).all())


@given(logit_rows, st.floats(-1000, 1000), priors)
@settings(deadline=None, max_examples=50)
def test_shifting_logits_changes_nothing(row, shift, prior):
    output = torch.from_numpy(row)[None]
    for trained_with in ("cross_entropy", "pc_softmax"):
        plain = information(output, 1, prior=prior, trained_with=trained_with)
        shifted = information(output + shift, 1, prior=prior, trained_with=trained_with)
        torch.testing.assert_close(shifted, plain, atol=1e-9, rtol=1e-9)


@given(logit_rows, priors)
@settings(deadline=None, max_examples=50)
def test_prior_corrected_softmax_is_normalised_under_the_prior(row, prior):
    """Σ_k π_k e^{i_k} = 1: the critic is normalised under the prior."""
    output = torch.from_numpy(row)[None]
    i = torch.cat(
        [
            information(output, y, prior=prior, trained_with="pc_softmax", unit="nats")
            for y in range(5)
        ]
    )
    assert float((torch.from_numpy(prior) * i.exp()).sum()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_large_logits_stay_finite_and_right(dtype):
    output = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype)
    exact = output.double()[0].tolist()
    for trained_with in ("cross_entropy", "pc_softmax"):
        for y in range(3):
            got = float(information(output, y, trained_with=trained_with))
            want = reference.information(exact, y, trained_with=trained_with)
            assert got == pytest.approx(want, rel=1e-6)
    got = float(information(output[:, 1:2], head="sigmoid"))
    assert got == pytest.approx(exact[1] / math.log(2) + 1, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    output = OUTPUTS.to(dtype)
    got = information(output, 0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), information(output.double(), 0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("head", ["probs", "log_probs"])
def test_probability_zero_is_the_smallest_the_type_can_tell(dtype, head):
    output = torch.tensor([[0.0, 0.25, 0.75]], dtype=dtype)
    if head == "log_probs":
        output = output.log()
    got = float(information(output, 0, head=head))
    limits = {torch.float16: -24, torch.bfloat16: -126, torch.float32: -126, torch.float64: -1022}
    assert got == pytest.approx(limits[dtype] + math.log2(3), abs=1e-3)


def test_one_logit_is_binary():
    logit = torch.tensor([0.3, -2.0])
    want = (torch.sigmoid(logit) * 2).log2()
    torch.testing.assert_close(information(logit, head="sigmoid"), want)
    torch.testing.assert_close(information(logit[:, None], head="sigmoid"), want)
    torch.testing.assert_close(information(logit[:, None], 0, head="sigmoid"), want)
    torch.testing.assert_close(
        information(logit, head="sigmoid", prior=0.25), (torch.sigmoid(logit) * 4).log2()
    )


def test_target_in_further_dimensions():
    output = torch.randn(2, 3, 4, 5)
    got = information(output, [(2, 1, 0), (0, 3, 4)])
    want = [
        reference.information(output[0, :, 1, 0].tolist(), 2),
        reference.information(output[1, :, 3, 4].tolist(), 0),
    ]
    assert got.tolist() == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"head": "logit"}, ["`head`", "'logits'", "'logit'"]),
        ({"unit": "bit"}, ["`unit`", "'bits'"]),
        ({"trained_with": "pc"}, ["`trained_with`", "'pc_softmax'"]),
        ({"prior": [0.5, 0.6]}, ["`prior`", "sum to 1", "1.1"]),
        ({"prior": [1.5, -0.5]}, ["`prior`", "between 0 and 1"]),
        ({"prior": [float("nan"), 1.0]}, ["`prior`", "between 0 and 1"]),
        ({"prior": "uniform"}, ["`prior`", "uniform"]),
        ({"prior": [[0.5, 0.5]]}, ["`prior`", "one-dimensional"]),
        ({"prior": 0.5}, ["`prior`", "one-dimensional"]),
        ({"prior": [0.5, 0.5], "head": "raw"}, ["`prior`", "raw"]),
        ({"prior": [0.0, 1.0], "head": "sigmoid"}, ["`prior`", "sigmoid"]),
        ({"temperature": 0}, ["`temperature`", "above 0", "0"]),
        ({"temperature": -1.0}, ["`temperature`", "-1.0"]),
        ({"temperature": float("nan")}, ["`temperature`", "nan"]),
        ({"temperature": float("inf")}, ["`temperature`", "inf"]),
        ({"temperature": "1"}, ["`temperature`", "'1'"]),
        ({"trained_with": "pc_softmax", "head": "probs"}, ["pc_softmax", "logits", "probs"]),
    ],
)
def test_bad_settings(settings_, words):
    for call in (
        lambda: InfoMask(lambda x: x, **settings_),
        lambda: information(OUTPUTS, 0, **settings_),
    ):
        with pytest.raises(ArgumentError) as caught:
            call()
        assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("output", "target", "settings_", "words"),
    [
        (OUTPUTS, None, {}, ["`target`", "None"]),
        (OUTPUTS, 4, {}, ["`target`", "between 0 and 3", "4"]),
        (OUTPUTS, -1, {}, ["`target`", "-1"]),
        (OUTPUTS, [0], {}, ["`target`", "2 in all", "1"]),
        (OUTPUTS, 1.0, {}, ["`target`", "1.0"]),
        (OUTPUTS, (1, 1), {}, ["`target`", "(1, 1)"]),
        (OUTPUTS, 0, {"prior": [0.5, 0.5]}, ["`prior`", "4", "2"]),
        (OUTPUTS, 0, {"prior": [0.0, 0.5, 0.25, 0.25]}, ["`prior`", "class 0"]),
        (OUTPUTS, 0, {"head": "probs"}, ["`forward_func`", "probabilities", "head='logits'"]),
        (OUTPUTS, 0, {"head": "log_probs"}, ["log-probabilities", "head='logits'"]),
        (OUTPUTS[:, 0], None, {}, ["M ≥ 2", "head='sigmoid'"]),
        (OUTPUTS[:, :1], 0, {}, ["M ≥ 2", "head='sigmoid'"]),
        ([1.0, 2.0], 0, {}, ["`output`", "list"]),
    ],
)
def test_bad_outputs_and_targets(output, target, settings_, words):
    with pytest.raises(ArgumentError) as caught:
        information(output, target, **settings_)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_outputs_with_a_graph_are_read_without_a_warning():
    """PyTorch warns where a tensor with a graph becomes a number; the gradient still comes back."""
    logits = torch.tensor([[0.2, 0.9]], requires_grad=True)
    information(logits, 1).sum().backward()
    assert logits.grad.abs().min() > 0
