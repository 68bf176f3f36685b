# The metric against literal means, in batches, in collections, across processes.
from __future__ import annotations

import copy
import math
import pickle
from types import SimpleNamespace

import pytest
import reference
import torch
from refused import refused
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from two_processes import measure_part

from captum_infomask import ConditionalMutualInformation

PRIOR = [0.6, 0.3, 0.1]
SETTINGS = [
    {},
    {"prior": PRIOR},
    {"prior": PRIOR, "trained_with": "pc_softmax"},
    {"prior": PRIOR, "temperature": 1.7, "unit": "nats"},
    {"head": "probs", "prior": PRIOR},
    {"head": "log_probs"},
]


def batch(n=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return logits, torch.arange(n) % 3


def literal(outputs, labels, **options):
    values = [
        reference.information(row, y, **options)
        for row, y in zip(outputs.tolist(), labels.tolist(), strict=True)
    ]
    return math.fsum(values) / len(values)


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("size", [1, 4, 11])
def test_it_is_the_mean_information_whatever_the_batches(options, size):
    outputs, labels = batch()
    if options.get("head") == "probs":
        outputs = outputs.softmax(1)
    if options.get("head") == "log_probs":
        outputs = outputs.log_softmax(1)
    metric = ConditionalMutualInformation(**options)
    for some, wanted in zip(outputs.split(size), labels.split(size), strict=True):
        now = metric(some, wanted)
        assert now.item() == pytest.approx(literal(some, wanted, **options), abs=1e-10)
    assert metric.compute().item() == pytest.approx(literal(outputs, labels, **options), abs=1e-10)
    metric.reset()
    metric.update(outputs[:2], labels[:2])
    want = literal(outputs[:2], labels[:2], **options)
    assert metric.compute().item() == pytest.approx(want, abs=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_precision_of_outputs_and_of_sums(dtype):
    outputs, labels = batch()
    outputs = outputs.to(dtype)
    metric = ConditionalMutualInformation()
    metric.update(outputs, labels)
    want = literal(outputs.float(), labels)
    assert metric.compute().item() == pytest.approx(want, abs=1e-6)
    # A sum of this size in float32 would lose every later batch.
    metric.update(torch.tensor([[3e4, -3e4, 0.0]] * 1000, dtype=dtype), torch.ones(1000).long())
    large = metric.total.clone()
    for _ in range(100):
        metric.update(torch.tensor([[2e1, 0.0, 0.0]], dtype=dtype), torch.tensor([0]))
    assert (metric.total - large).item() == pytest.approx(100 * math.log2(3), abs=1e-4)
    one, many = ConditionalMutualInformation(), ConditionalMutualInformation()
    one.update(outputs[:1], labels[:1])
    many.update(outputs[:1].expand(99_999, 3), labels[:1].expand(99_999))
    assert many.compute().item() == pytest.approx(one.compute().item(), rel=1e-12)


def test_it_watches_training_without_changing_it():
    outputs, labels = batch()
    outputs.requires_grad_(True)
    metric = ConditionalMutualInformation(unit="nats")
    metric(outputs, labels).backward()
    want = torch.autograd.grad(-nn.functional.cross_entropy(outputs, labels), outputs)[0]
    torch.testing.assert_close(outputs.grad, want)
    metric.update(outputs, labels)
    assert not metric.total.requires_grad


def test_collections_keep_settings_apart():
    made = {
        name: ConditionalMutualInformation(temperature=temperature)
        for name, temperature in (("one", 1.0), ("near one", 1.001), ("four", 4.0))
    }
    made["in nats"] = ConditionalMutualInformation(unit="nats")
    made["by prior"] = ConditionalMutualInformation(prior=[1 / 3 - 1e-9, 1 / 3, 1 / 3 + 1e-9])
    made["again"] = ConditionalMutualInformation(temperature=4.0)
    together = MetricCollection({**made, "accuracy": MulticlassAccuracy(3, average="micro")})
    outputs, labels = batch()
    # A first batch for which every setting sees 0: their sums cannot be told apart.
    together.update(torch.zeros(2, 3), torch.tensor([0, 1]))
    together.update(outputs, labels)
    found = together.compute()
    everything = torch.cat([torch.zeros(2, 3), outputs]), torch.cat([torch.tensor([0, 1]), labels])
    for name, options in {
        "one": {},
        "near one": {"temperature": 1.001},
        "four": {"temperature": 4.0},
        "again": {"temperature": 4.0},
        "in nats": {"unit": "nats"},
    }.items():
        assert found[name].item() == pytest.approx(literal(*everything, **options), abs=1e-9)
    assert ["again", "four"] in [sorted(group) for group in together.compute_groups.values()]
    assert len(together.compute_groups) == 6


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    outputs, labels = batch()
    arguments = (str(tmp_path), outputs, labels)
    other = torch.multiprocessing.get_context("spawn").Process(
        target=measure_part, args=(1, *arguments)
    )
    other.start()
    measure_part(0, *arguments)
    other.join()
    assert other.exitcode == 0
    want = literal(outputs, labels, prior=PRIOR)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for value, _, _ in parts:
        assert value.item() == pytest.approx(want, abs=1e-10)
    # Each process keeps its own part: the mean of the parts' means is another number.
    means = [(total / count).item() for _, total, count in parts]
    assert [int(count) for _, _, count in parts] == [5, 6]
    assert abs(sum(means) / 2 - want) > 1e-3


def test_states_merge_and_copies_are_whole():
    outputs, labels = batch()
    first, second = ConditionalMutualInformation(), ConditionalMutualInformation()
    first.update(outputs[:4], labels[:4])
    second.update(outputs[4:], labels[4:])
    for other in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        other.merge_state(second)
        assert other.compute().item() == pytest.approx(literal(outputs, labels), abs=1e-10)
    assert first.compute().item() == pytest.approx(literal(outputs[:4], labels[:4]), abs=1e-10)


def test_what_it_says_of_itself():
    metric = ConditionalMutualInformation()
    assert metric.higher_is_better
    assert metric.is_differentiable
    assert metric.full_state_update is False
    with pytest.warns(UserWarning, match="compute"):
        assert metric.compute().isnan()


def test_sums_fall_to_float32_where_there_is_no_float64():
    outputs, labels = batch()
    metric = ConditionalMutualInformation()
    metric.update(outputs, labels)

    def move(tensor):
        """As a move to Apple's GPU answers."""
        if tensor.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        empty = SimpleNamespace(device=torch.device("mps"))
        return empty if tensor.numel() == 0 else tensor

    metric._apply(move)
    assert metric.total.dtype == torch.float32
    assert metric.compute().item() == pytest.approx(literal(outputs, labels), abs=1e-5)
    metric.reset()
    metric.update(outputs.float(), labels)
    assert metric.compute().dtype == torch.float32
    assert ConditionalMutualInformation().half().total.dtype == torch.float64


@pytest.mark.parametrize(
    ("preds", "target", "words"),
    [
        (torch.zeros(3), torch.tensor([0, 1, 2]), ("preds", "(B, M)")),
        (torch.zeros(0, 3), torch.zeros(0).long(), ("preds", "(0, 3)")),
        (torch.zeros(2, 3), torch.tensor([0, 3]), ("target", "got 3")),
        (torch.zeros(2, 3), torch.tensor([0, -1]), ("target", "got -1")),
        (torch.zeros(2, 3), torch.tensor([0, 2]), ("prior", "class 2")),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), ("target", "integers (2,)")),
        (torch.zeros(2, 3), torch.tensor([0]), ("target", "integers (2,)")),
        (torch.zeros(2, 3), [0, 1], ("target", "integers (2,)")),
        (torch.zeros(2, 4), torch.tensor([0, 1]), ("prior", "4 prob", "got 3")),
        (torch.zeros(2, 3).long(), torch.tensor([0, 1]), ("int64",)),
        (torch.full((2, 3), math.nan), torch.tensor([0, 1]), ("preds", "finite", "2 of 2")),
    ],
)
def test_a_bad_batch_is_refused_and_not_counted(preds, target, words):
    metric = ConditionalMutualInformation(prior=[0.5, 0.5, 0.0])
    good = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0])
    metric.update(*good)
    before = metric.compute().item()
    refused(words, lambda: metric.update(preds, target))
    assert metric.compute().item() == before
    assert int(metric.count) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"head": "sigmoid"}, ("head", "'logits'")),
        ({"head": "raw"}, ("head",)),
        ({"prior": [0.5, 0.6]}, ("prior", "sum")),
        ({"unit": "bytes"}, ("unit",)),
        ({"temperature": -1}, ("temperature",)),
        ({"trained_with": "mse"}, ("trained_with",)),
    ],
)
def test_bad_settings_are_refused(options, words):
    refused(words, lambda: ConditionalMutualInformation(**options))
