# The parameter-randomisation check: stages, correlations, and what stays as it was.
import numpy as np
import pytest
import torch
from deep_network import deep_network
from refused import refused
from scipy.stats import spearmanr
from state import unchanged
from torch import nn

from captum_infomask import RandomisationCheck, randomisation_check
from captum_infomask.evaluation import randomisation
from captum_infomask.report.evaluation_figures import randomisation_figure


@pytest.fixture
def deep():
    return deep_network()


@pytest.fixture
def picture():
    return torch.randn(1, 3, 16, 16)


def gradient(model, inputs, target):
    inputs.requires_grad_()
    return torch.autograd.grad(model(inputs)[0, target], inputs)[0]


def network_blind(model, inputs, target):
    return inputs[:, :1]


def test_batch_norms_after_a_redrawn_layer_take_new_statistics(deep, picture):
    seen = []

    def watching(model, inputs, target):
        seen.append([model.first[1].running_mean.clone(), model.second[1].running_mean.clone()])
        return inputs

    randomisation_check(deep, picture, 0, {"w": watching}, layers=["head", "second.0", "first"])
    trained = [deep.first[1].running_mean, deep.second[1].running_mean]
    same = [[torch.equal(a, b) for a, b in zip(one, trained, strict=True)] for one in seen]
    assert same == [[True, True], [True, True], [True, False], [False, False]]


@pytest.mark.parametrize("anew", [True, False])
def test_new_statistics_keep_the_picture_in_sight(picture, monkeypatch, anew):
    if not anew:
        monkeypatch.setattr(randomisation, "estimate_statistics", lambda *given: None)
    layers = [(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)) for _ in range(12)]
    stack = [module for layer in layers for module in layer]
    model = nn.Sequential(nn.Conv2d(3, 8, 1), *stack, nn.AvgPool2d(16), nn.Flatten()).eval()
    changes = []

    def change(network, inputs, target):
        with torch.no_grad():
            changes.append(float((network(inputs) - network(inputs.flip(1))).abs().mean()))
        return inputs

    randomisation_check(model, picture, 0, {"change": change})
    assert (changes[-1] > 1e-3) if anew else (changes[-1] < 1e-5)


def test_methods_see_more_and_more_new_layers(deep, picture):
    seen = []

    def watching(model, inputs, target):
        assert target == 2
        assert torch.equal(inputs, picture)
        seen.append({name: value.clone() for name, value in model.named_parameters()})
        return inputs

    check = randomisation_check(deep, picture, 2, {"watching": watching})
    assert check.stages == ("head", "second.1", "second.0", "first.1", "first.0", "Deep")
    assert len(seen) == 7
    trained = dict(deep.named_parameters())
    assert all(torch.equal(seen[0][name], value) for name, value in trained.items())
    for number, after in enumerate(seen[1:], start=1):
        for layer in ("head", "second.0", "first.0"):
            was_redrawn = check.stages.index(layer) < number
            same = torch.equal(after[f"{layer}.weight"], trained[f"{layer}.weight"])
            assert same != was_redrawn
        if number > 1:  # what was re-drawn stays as it was drawn
            assert torch.equal(after["head.weight"], seen[1]["head.weight"])


def test_correlations_are_scipys(deep, picture):
    maps = []

    def method(model, inputs, target):
        maps.append(gradient(model, inputs, target))
        return (maps[-1],)

    check = randomisation_check(
        deep, picture, 1, {"gradient": method, "blind": network_blind}, seed=3
    )
    assert check.names == ("gradient", "blind")
    planes = [one.mean((0, 1)).flatten().double().numpy() for one in maps]
    for stage, plane in enumerate(planes[1:]):
        want = spearmanr(planes[0], plane).statistic
        assert check.spearman[0, stage] == pytest.approx(want, abs=1e-9)
        absolute = spearmanr(np.abs(planes[0]), np.abs(plane)).statistic
        assert check.magnitudes[0, stage] == pytest.approx(absolute, abs=1e-9)
    assert abs(check.spearman[0, -1]) < 0.5
    np.testing.assert_allclose(check.spearman[1], 1, rtol=0, atol=1e-12)


def test_a_constant_map_has_no_order(deep, picture):
    def flat(model, inputs, target):
        return torch.ones_like(inputs)

    check = randomisation_check(deep, picture, 0, {"flat": flat})
    assert np.isnan(check.spearman).all()
    assert "nan" in check.text()
    check.figure()


def test_default_methods_forget(deep, picture):
    check = randomisation_check(deep, picture, 0)
    assert check.names == ("InfoMask", "InfoMask drop", "Occlusion")
    # Occlusion of log p with the same windows is drop in other units.
    np.testing.assert_allclose(check.spearman[1], check.spearman[2], rtol=0, atol=0.02)
    assert (np.abs(check.spearman[:, -1]) < 0.9).all()


def test_named_layers_in_the_users_order(deep, picture):
    seen = []

    def watching(model, inputs, target):
        seen.append([model.first[0].weight.clone(), model.head.weight.clone()])
        return inputs

    check = randomisation_check(deep, picture, 0, {"watching": watching}, layers=["first", "head"])
    assert check.stages == ("first", "head")
    assert not torch.equal(seen[1][0], deep.first[0].weight)
    assert torch.equal(seen[1][1], deep.head.weight)
    assert torch.equal(seen[2][0], seen[1][0])
    assert not torch.equal(seen[2][1], deep.head.weight)


def test_the_model_is_left_as_it_was_and_the_seed_decides(deep, picture):
    deep.train()
    deep.head.weight.requires_grad_(False)
    checks = []
    for seed in (0, 0, 1):
        with unchanged(deep, picture):
            checks.append(randomisation_check(deep, picture, 1, {"g": gradient}, seed=seed))
    np.testing.assert_array_equal(checks[0].spearman, checks[1].spearman)
    assert not np.allclose(checks[0].spearman, checks[2].spearman)

    def failing(model, inputs, target):
        raise RuntimeError("no map today")

    with unchanged(deep, picture), pytest.raises(RuntimeError, match="no map today"):
        randomisation_check(deep, picture, 1, {"failing": failing})


def test_methods_do_not_change_what_others_see(deep, picture):
    def drawing(model, inputs, target):
        model.train()
        model(torch.randn(2, 3, 16, 16))
        return torch.rand(1, 1, 16, 16)

    alone = randomisation_check(deep, picture, 1, {"g": gradient})
    beside = randomisation_check(deep, picture, 1, {"drawing": drawing, "g": gradient})
    np.testing.assert_array_equal(alone.spearman[0], beside.spearman[1])


@pytest.mark.usefixtures("terminal")
def test_progress_reaches_its_end(deep, picture, capsys):
    randomisation_check(
        deep, picture, 1, {"blind": network_blind}, layers=["head"], show_progress=True
    )
    bar = capsys.readouterr().err
    assert "Randomisation check" in bar
    assert "2/2" in bar
    randomisation_check(deep, picture, 1, {"blind": network_blind}, layers=["head"])
    assert capsys.readouterr().err == ""


def test_the_figure_shows_the_numbers():
    values = np.array([[0.5, 0.1, -0.4], [0.2, np.nan, 0.0]])
    check = RandomisationCheck(("crop", "drop"), ("fc", "b", "a"), values, values)
    figure, axes = check.figure()
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_array_equal(lines["crop"], [1, 0.5, 0.1, -0.4])
    np.testing.assert_array_equal(lines["drop"], [1, 0.2, np.nan, 0.0])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["as trained", "fc", "b", "a"]
    assert axes.get_ylim()[0] < -0.4
    figure.canvas.draw()
    with_many = randomisation_figure([str(k) for k in range(9)], ["a"], np.zeros((9, 1)))[1]
    marks = {(line.get_color(), line.get_marker()) for line in with_many.lines[1:]}
    assert len(marks) == 7


def test_bad_arguments(deep, picture):
    def check(model=deep, inputs=picture, target=0, methods=None, **options):
        return randomisation_check(model, inputs, target, methods, **options)

    refused(("`model`", "torch.nn.Module"), lambda: check(model=abs))
    refused(("`model`", "parameters"), lambda: check(model=nn.Flatten(), methods={"b": gradient}))
    refused(("`model`", "logits"), lambda: check(model=nn.Conv2d(3, 2, 3)))
    refused(("`inputs`", "one picture"), lambda: check(inputs=picture.expand(2, -1, -1, -1)))
    refused(("`inputs`", "one picture"), lambda: check(inputs=picture[0]))
    refused(("`inputs`", "one picture"), lambda: check(inputs=(picture,)))
    refused(("`inputs`",), lambda: check(inputs=[picture]))
    for target in (3, -1, 1.0, True, None, "cat"):
        refused(("`target`", "0 to 2"), lambda target=target: check(target=target))
    for methods in ({}, [gradient], gradient, {"g": 3}, {3: gradient}):
        refused(("`methods`", "by name"), lambda methods=methods: check(methods=methods))
    wrong = {"small": lambda model, inputs, target: inputs[..., :4]}
    refused(("`methods` 'small'", "(1, 3, 16, 16)"), lambda: check(methods=wrong))
    refused(("`methods` 'none'",), lambda: check(methods={"none": lambda *given: None}))
    refused(("`layer`", "'haed'", "head"), lambda: check(layers=["haed"]))
    refused(("`layers`", "'first.2'", "none"), lambda: check(layers=["first.2"]))
    for layers in ("head", [], 3):
        refused(("`layers`", "list of names"), lambda layers=layers: check(layers=layers))
    refused(("`seed`",), lambda: check(seed=-1))
