# The referees: their cases, measures, methods and page, on networks of a few weights.
from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
from captum.attr import GuidedGradCam, LayerGradCam
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from referees import others, run, small_networks
from referees.cases import Case, Method, Subject
from referees.clutter import clutter
from referees.examine import examine
from referees.measures import LOCALISATION, best_iou, localisation
from referees.methods import check_names, methods_for
from referees.pasted import paste
from referees.report import Section, chosen_on, page, reported
from referees.rows import Rows
from referees.tables import paired, table

SIDE = 16


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = OrderedDict(
        conv=nn.Conv2d(3, 6, 3, padding=1),
        act=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        head=nn.Linear(6, 4),
    )
    return nn.Sequential(layers).eval().requires_grad_(False)


@pytest.fixture
def picture():
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def square_truth(side=SIDE):
    truth = torch.zeros(side, side, dtype=torch.bool)
    truth[2:6, 3:8] = True
    return truth


@given(
    arrays.arrays(np.int8, (4, 5), elements=st.integers(-3, 3)),
    arrays.arrays(np.bool_, (4, 5)).filter(np.any),
)
def test_best_iou_tries_every_threshold(values, truth):
    plane, right = torch.from_numpy(values).double(), torch.from_numpy(truth)
    masks = [plane >= cut for cut in plane.unique()]
    best = max(((mask & right).sum() / (mask | right).sum()).item() for mask in masks)
    assert best_iou(plane, right) == pytest.approx(best)


def test_perfect_and_opposite_maps():
    truth = square_truth()
    assert localisation(truth.float(), truth) == dict.fromkeys(LOCALISATION, 1.0)
    opposite = localisation(-truth.float(), truth)
    assert opposite["pointing"] == 0
    assert opposite["mass"] == 0


def test_rows_go_on_where_they_were(tmp_path):
    file = tmp_path / "rows.jsonl"
    row = {"referee": "r", "subject": "s", "case": "c", "method": "m", "ap": 0.5}
    Rows(file).add(row)
    file.write_text(file.read_text() + '{"referee": "r", "subj')
    again = Rows(file)
    assert ("r", "s", "c", "m") in again
    again.add(row | {"case": "d"})
    assert [each["case"] for each in Rows(file).of("r", "s")] == ["c", "d"]


def constant(value, calls, network, picture, target):
    calls.append(value)
    network(picture)
    return torch.full(picture.shape[2:], value)


def stub_subject(network, count=6):
    cases = [Case(str(k), torch.zeros(1, 3, SIDE, SIDE), 1, square_truth()) for k in range(count)]
    return Subject("stub", "tiny", network, cases)


def measured(plane, case, network, method):
    return {"ap": plane.mean().item()}


def test_examine_takes_turns_and_skips_what_is_known(network, tmp_path):
    calls, file = [], tmp_path / "rows.jsonl"
    methods = [Method(str(k), partial(constant, float(k), calls)) for k in range(2)]
    methods.append(Method("dear", partial(constant, 2.0, calls), dear=True))
    subject = stub_subject(network)
    examine(subject, methods, measured, Rows(file), dear_cases=1, half=1)
    # On the second case the order turns around, and the dear one is left out.
    assert calls == [0, 1, 2, 1, 0, 0, 1]
    rows = Rows(file).of("stub", "tiny")
    assert {row["case"] for row in rows} == {"1", "3", "5"}
    assert all(row["seconds"] > 0 and row["pass"] > 0 for row in rows)
    calls.clear()
    examine(subject, methods, measured, Rows(file), dear_cases=1, half=1)
    assert calls == []


def test_examine_refuses_maps_of_another_shape(network, tmp_path):
    bad = Method("bad", lambda network, picture, target: torch.zeros(2, 2))
    with pytest.raises(ValueError, match="Expected a map of shape"):
        examine(stub_subject(network), [bad], measured, Rows(tmp_path / "r"), dear_cases=1, half=0)


@pytest.mark.parametrize("seed", range(3))
def test_pasted_photographs_do_not_overlap(seed):
    picture, places = paste(np.random.default_rng(seed))
    assert picture.shape == (224, 224, 3)
    assert torch.stack(list(places.values())).sum(0).max() == 1
    sides = [round(place.sum().item() ** 0.5) for place in places.values()]
    assert len(sides) == 3
    assert all(70 <= side <= 125 for side in sides)


def test_clutter_is_drawn_from_its_seed():
    digits = torch.zeros(3, 28, 28)
    digits[:, 8:20, 12:16] = 1
    one, same = (clutter(digits, torch.arange(3), 4, seed=5) for _ in range(2))
    assert torch.equal(one.pictures, same.pictures)
    assert one.pictures.shape == (4, 3, 64, 64)
    # The digit has its one tint wherever its ink is full.
    tints = one.pictures.permute(0, 2, 3, 1)[0][one.truth[0]].float()
    assert tints.std(0).max() < 60
    assert one.truth.flatten(1).any(1).all()


def test_grad_cam_is_captums(network, picture):
    found = others.grad_cam(network.act, network, picture, 2)
    captum = LayerGradCam(network, network.act).attribute(picture, 2, relu_attributions=True)
    torch.testing.assert_close(found, captum[0, 0].detach())


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_guided_grad_cam_is_captums(network, picture):
    found = others.guided_grad_cam(network.act, network, picture, 2)
    captum = GuidedGradCam(network, network.act).attribute(picture.requires_grad_(), 2)
    torch.testing.assert_close(found, captum.detach().abs().sum(1)[0])
    assert not any(module._backward_hooks for module in network.modules())


def test_grad_cam_reads_tokens():
    class Tokens(nn.Module):
        def forward(self, pictures):
            places = pictures.mean(1).flatten(1)[..., None].expand(-1, -1, 2)
            return torch.cat([torch.zeros(len(pictures), 1, 2), places], 1)

    layer = Tokens()
    network = nn.Sequential(layer, nn.Flatten(), nn.Linear(2 + 2 * SIDE**2, 2))
    nn.init.ones_(network[2].weight)
    picture = torch.rand(1, 3, SIDE, SIDE)
    found = others.grad_cam(layer, network, picture, 1)
    torch.testing.assert_close(found, 2 * picture.mean(1)[0])


def test_gradients_of_a_linear_network(picture):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 2, bias=False))
    logit = network(picture)[0, 1].detach()
    for method in (others.integrated_gradients, others.gradient_times_input):
        torch.testing.assert_close(method(network, picture, 1).sum(), logit)
    weights = network[1].weight[1].view(3, SIDE, SIDE).detach()
    found = others.smooth_grad(network, picture, 1)
    torch.testing.assert_close(found, 32 * weights.abs().sum(0))


def test_superpixels_keep_the_sum(network, picture):
    ramp = torch.arange(SIDE**2).view(SIDE, SIDE).float()
    found = others.snapped(lambda *_: ramp, network, picture, 0)
    torch.testing.assert_close(found.sum(), ramp.sum())
    assert not torch.equal(found, ramp)


def test_several_sizes_average_what_each_says(network, picture):
    seen = []

    def method(network, picture, target):
        seen.append(picture.shape[-1])
        return torch.full(picture.shape[2:], float(picture.shape[-1]))

    found = others.several_sizes(method, (16, 8, 32), network, picture, 0)
    assert seen == [16, 8, 32]
    torch.testing.assert_close(found, torch.ones(SIDE, SIDE))


def test_rise_finds_the_bright_corner():
    class Corner(nn.Module):
        def forward(self, pictures):
            bright = pictures[:, 0, :4, :4].mean((1, 2))
            return torch.stack([torch.zeros_like(bright), 8 * bright], 1)

    found = others.rise(64, Corner(), torch.ones(1, 3, SIDE, SIDE), 1)
    assert found[:4, :4].mean() > found[8:, 8:].mean() + 0.05


def test_every_method_gives_a_map(network, picture):
    layers = {"last": network.act, "first": network.conv}
    subject = Subject("stub", "tiny", network, [], layers, "last", (SIDE, 24))
    methods = methods_for(subject, masks=8, samples=8)
    check_names(methods)
    for method in methods:
        found = method.attribute(network, picture, 1)
        assert found.shape == (SIDE, SIDE), method.name
        assert found.isfinite().all(), method.name


def test_two_methods_of_one_name_are_refused():
    method = Method("mine", others.noise)
    with pytest.raises(ValueError, match="mine"):
        check_names([method, method])


def some_rows():
    offsets = {"best": 0.3, "middle": 0.1, "noise (control)": 0.2}
    return [
        {
            "referee": "r",
            "subject": "s",
            "case": str(k),
            "number": k,
            "method": name,
            "control": "control" in name,
            "seconds": 0.5,
            "pass": 0.125,
            "ap": offset + k / 100,
        }
        for name, offset in offsets.items()
        for k in range(24)
    ]


def test_differences_are_paired():
    rows = {
        name: {r["case"]: r for r in some_rows() if r["method"] == name}
        for name in ("best", "middle")
    }
    found = paired(rows["best"], rows["middle"], "ap")
    assert (found.low, found.high) == pytest.approx((0.2, 0.2))


def test_table_has_the_best_on_top_and_controls_below():
    lines = table(some_rows(), {"ap": "AP"}, reference="middle").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| best",
        "| middle",
        "| noise (control)",
    ]
    assert "+0.200 [+0.200, +0.200] | 4 | 0.500 |" in lines[2]
    assert lines[4].endswith(" |  | 0.500 |")  # a control takes no pass


def test_table_without_times_has_no_columns_of_cost():
    rows = [{key: row[key] for key in row if key not in ("pass", "seconds")} for row in some_rows()]
    assert "seconds" not in table(rows, {"ap": "AP"}, reference="middle")


def test_page_says_first_what_is_lost(tmp_path):
    rows = Rows(tmp_path / "rows.jsonl")
    for row in some_rows():
        rows.add(row)
    section = Section("r", "A referee", "What it asks.", {"ap": "AP"})
    text = page(rows, [section], "middle", "a machine", tmp_path)
    lost = text.index("A referee, s, AP (0.220): best (0.420, +0.200), noise (control) (0.320, ")
    glance = text.index("| A referee | s | AP | 12 | 0.220 |  | best: 0.420 | -0.200 [")
    assert lost < glance < text.index("## A referee")
    assert (tmp_path / "referees_r.png").exists()
    assert "12 cases" in text


def test_networks_of_a_referee_share_a_table(tmp_path):
    rows = Rows(tmp_path / "rows.jsonl")
    for row in some_rows():
        rows.add(row)
        rows.add(row | {"subject": "t", "ap": row["ap"] + 0.1})
    section = Section("r", "A referee", "Asks.", {"ap": "AP"}, plotted=False, together="Both")
    text = page(rows, [section], "middle", "a machine", tmp_path)
    assert "### Both, 24 cases" in text
    assert "| best | 0.470 | +0.200 [+0.200, +0.200] |" in text
    assert "| A referee | t | AP | 12 | 0.320 |" in text


def test_halves_share_no_case():
    rows = some_rows()
    assert not {r["case"] for r in reported(rows)} & {r["case"] for r in chosen_on(rows)}


def test_trained_networks_are_kept(tmp_path, capsys):
    def pictures():
        return torch.ones(8, 3, 4, 4), torch.arange(8) % 2

    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))

    state = torch.random.get_rng_state()
    first = small_networks.trained(build, pictures, 2, tmp_path / "net")
    assert torch.equal(torch.random.get_rng_state(), state)
    again = small_networks.trained(build, None, 2, tmp_path / "net")
    assert torch.equal(first[1].weight, again[1].weight)
    assert small_networks.accuracy(first, *pictures()) in [k / 8 for k in range(9)]


def test_command_goes_on_where_it_was(network, tmp_path, monkeypatch, capsys):
    subject = dataclasses.replace(stub_subject(network, 24), referee="clutter")
    monkeypatch.setattr(run, "builds", lambda options: {"clutter": {"tiny": lambda: subject}})
    monkeypatch.setattr(run.torch, "set_num_threads", lambda count: None)
    plug = tmp_path / "mine.py"
    plug.write_text(
        "from referees.cases import Method\n"
        "from referees.others import blob\n"
        "def methods(subject):\n"
        "    return [Method('mine', blob)]\n"
    )
    options = ["--cache", str(tmp_path), "--out", str(tmp_path), "--plug", str(plug)]
    options += ["--methods", "mine", "noise", "--reference", "mine", "--referees", "clutter"]
    run.main(["measure", *options])
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert {json.loads(line)["method"] for line in lines} == {"mine", "noise (control)"}
    assert len(lines) == 24
    run.main(["measure", *options])
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 24
    assert "## Objects in clutter" in (tmp_path / "referees.md").read_text()
    run.main(["choose", *options])
    assert "Objects in clutter, tiny" in capsys.readouterr().out
