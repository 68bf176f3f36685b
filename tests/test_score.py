"""The settings by which outputs are read, as one value."""

import inspect
import math
import pickle
from dataclasses import fields, replace

import pytest
import reference
import torch
from refused import refused
from run_samples import run_tiny, save_pictures
from test_views import READINGS, SKEWED
from tiny import Net, images

import captum_infomask
from captum_infomask import (
    ConditionalMutualInformation,
    InfoMask,
    Score,
    compare,
    default_methods,
    fit_temperature,
    information,
    log_softmax_sandwich,
    measure_bounds,
)

SETTINGS = {"prior": SKEWED, "temperature": 2.0, "unit": "nats"}
OTHERS = {"head": "log_probs", "prior": SKEWED, "trained_with": "pc_softmax", "temperature": 2.0}
OTHERS |= {"unit": "nats", "groups": [[0, 1], [2]]}
OF_NET = [0.1, 0.2, 0.3, 0.2, 0.2]
LOGITS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = LOGITS.argmax(1)
LABELS[::4] = 2  # some are wrong, so that a temperature is best
LOADER = [(LOGITS, LABELS)]


def metric(**settings):
    found = ConditionalMutualInformation(**settings)
    found.update(LOGITS, LABELS)
    return found.compute()


def fitted(**settings):
    return float(fit_temperature(torch.nn.Identity(), LOADER, **settings))


def compared(**settings):
    found = compare(Net().eval(), images(1), 1, methods=["InfoMask drop", "Occlusion"], **settings)
    return torch.from_numpy(found["InfoMask drop"].planes), found.information[0], found.settings


def methods(**settings):
    infomask, _ = default_methods(Net().eval(), images(1), **settings)["InfoMask"]
    return infomask.score


# A function that reads outputs; the settings that it takes by name.
READERS = {
    "InfoMask": (lambda **given: InfoMask(torch.nn.Identity(), **given).score, SETTINGS),
    "information": (lambda **given: information(LOGITS, LABELS, **given), SETTINGS),
    "log_softmax_sandwich": (
        lambda **given: log_softmax_sandwich(LOGITS, LABELS, **given).per_example,
        SETTINGS,
    ),
    "measure_bounds": (
        lambda **given: measure_bounds(torch.nn.Identity(), LOADER, **given).per_example,
        SETTINGS,
    ),
    "ConditionalMutualInformation": (metric, SETTINGS),
    "fit_temperature": (fitted, {"prior": SKEWED, "trained_with": "pc_softmax"}),
    "compare": (compared, {"prior": OF_NET, "temperature": 2.0}),
    "default_methods": (methods, {"prior": OF_NET, "temperature": 2.0}),
}


def is_same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple):
        return all(map(is_same, one, other))
    return one == other


@pytest.mark.parametrize("name", READERS)
def test_one_value_reads_as_its_settings_do(name):
    call, settings = READERS[name]
    by_value = call(score=Score(**settings))
    assert is_same(by_value, call(**settings))
    assert not is_same(by_value, call())


@pytest.mark.parametrize("name", READERS)
def test_a_value_and_a_setting_are_refused(name):
    call, settings = READERS[name]
    setting = next(iter(settings))
    refused(("`score`", f"{setting}="), lambda: call(score=Score(), **settings))
    refused(("`score`", "'bits'"), lambda: call(score="bits"))


@pytest.mark.parametrize("name", READERS)
def test_signatures_show_every_setting_with_its_default(name):
    shown = inspect.signature(getattr(captum_infomask, name)).parameters
    usual = inspect.signature(Score).parameters
    assert shown["score"].default is None
    taken = set(usual) & set(shown)
    assert taken >= set(READERS[name][1])
    assert all(shown[setting].default == usual[setting].default for setting in taken)
    with pytest.raises((TypeError, ValueError), match="hed"):
        READERS[name][0](hed="probs")


def test_a_run_takes_either(tmp_path):
    data, settings = tmp_path / "data", {"temperature": 2.0, "unit": "nats", "prior": OF_NET}
    score = Score(**settings)
    save_pictures(data, 2)
    by_name = run_tiny(data, tmp_path / "names", **settings)
    by_value = run_tiny(data, tmp_path / "value", score=score)
    assert len(by_name) == 2
    for key in by_name:
        assert torch.equal(by_name[key].scores, by_value[key].scores)
    assert run_tiny(data, tmp_path / "names", score=score).scored == 0
    refused(
        ("settings.prior",),
        lambda: run_tiny(data, tmp_path / "names", score=replace(score, prior=None)),
    )
    refused(("`score`", "unit="), lambda: run_tiny(data, tmp_path / "x", score=score, unit="bits"))


@pytest.mark.parametrize("reading", READINGS)
def test_a_score_is_a_value(reading):
    score = Score(**READINGS[reading])
    assert score == Score(**READINGS[reading])
    assert hash(score) == hash(Score(**READINGS[reading]))
    assert score == replace(score) == pickle.loads(pickle.dumps(score))
    assert score == eval(repr(score), {"Score": Score})
    assert score != replace(score, temperature=score.temperature + 1)
    with pytest.raises(AttributeError):
        score.unit = "nats"


def test_every_setting_tells_scores_apart():
    for field in fields(Score):
        given = OTHERS[field.name]
        changed = Score(**{field.name: given})
        assert changed != Score()
        assert list(changed.changed()) == [field.name]


def test_a_score_is_no_other_value():
    assert Score() != "logits"
    assert Score().is_usual
    assert Score(unit="nats").is_usual
    assert not Score(prior=[0.5, 0.5]).is_usual


@pytest.mark.parametrize("form", [torch.Tensor.numpy, torch.Tensor.clone])
def test_a_score_does_not_follow_what_it_was_given(form):
    """A prior that is changed in its place later is another prior."""
    given = form(torch.tensor(SKEWED, dtype=torch.float64))
    score = Score(prior=given)
    given[:] = 0.25
    assert score == Score(prior=SKEWED)
    assert float(information(LOGITS[:1], 0, score=score)) == float(
        information(LOGITS[:1], 0, prior=SKEWED)
    )


def test_a_fitted_temperature_is_one():
    found = fit_temperature(torch.nn.Identity(), [(LOGITS * 9, LABELS)])
    assert replace(Score(), temperature=found).temperature == found.temperature


def test_the_temperature_of_a_score_is_not_fitted_twice():
    """Of a score that InfoMask takes too, the fit needs the head and the training only."""
    score = Score(prior=SKEWED, temperature=3.0, unit="nats", groups=[[0, 1]])
    assert fitted(score=score) == fitted()
    refused(("prior", "pc_softmax"), lambda: fitted(prior=SKEWED))


def test_a_comparison_is_in_bits_whatever_the_unit():
    assert is_same(compared(score=Score(unit="nats")), compared())


@pytest.mark.parametrize("trained_with", ["cross_entropy", "pc_softmax"])
def test_bounds_of_groups(trained_with):
    """The bounds of samples by literal sums: T_G = log of the prior's mean of exp T_y over G."""
    groups, settings = [[2, 0], [3, 1]], {"prior": SKEWED, "trained_with": trained_with}
    samples = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1)).double()
    targets = [1, 0, 1]
    found = log_softmax_sandwich(samples, targets, groups=groups, **settings)
    for n, target in enumerate(targets):
        group = groups[target]
        values = [
            reference.group_information(sample[n].tolist(), group, **settings) for sample in samples
        ]
        mass = sum(SKEWED[y] for y in group)
        ceiling = -math.log2(mass)
        lower, mean, upper, most = found.per_example[:, n].tolist()
        assert most == pytest.approx(ceiling)
        assert mean == pytest.approx(math.fsum(values) / 5)
        assert upper == pytest.approx(math.log2(math.fsum(2**value for value in values) / 5))
        assert lower <= mean + 1e-12
    one = log_softmax_sandwich(samples[:1], targets, groups=groups, **settings).per_example
    torch.testing.assert_close(one[0], one[1])
    loader = [(samples[0], torch.tensor(targets))]
    measured = measure_bounds(torch.nn.Identity(), loader, groups=groups, **settings)
    torch.testing.assert_close(measured.per_example, one)
