# The referees' questions: grids, single deletions, symmetric gains, tetrominoes, ink.
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from captum_infomask import Blur, Constant, InfoMask
from captum_infomask.evaluation.ground_truth import positive_share
from referees import faithfulness, in_clutter, ink, run, small_networks, tetrominoes
from referees.cases import Case, Method, Subject
from referees.clutter import Clutter, normalised
from referees.faithfulness import single_deletion, symmetric_gain
from referees.grids import FullyApart, PartlyApart, _surest, assembled, inside
from referees.methods import methods_for
from referees.others import grad_cam, noise
from referees.randomised import check_all, first_cases
from referees.rows import Rows
from referees.sections import SECTIONS
from referees.small_networks import SMALL

CELL = 16


def convolutions(seed, classes=5):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(6, classes)).eval().requires_grad_(False)
    network[4].weight.mul_(8)
    return network


def made_grid(cells, aligned, seed):
    random = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    pictures = {k: torch.randn(1, 3, CELL, CELL, generator=generator) for k in range(cells**2)}
    return assembled(pictures, cells, CELL, aligned, random)


@pytest.mark.parametrize("aligned", [True, False])
def test_cells_part_the_grid(aligned):
    picture, boxes = made_grid(3, aligned, seed=1)
    covered = torch.stack([inside(box, picture.shape[-1]) for box in boxes.values()]).sum(0)
    assert picture.shape == (1, 3, 3 * CELL, 3 * CELL)
    assert bool((covered == 1).all())
    assert aligned == all(edge % CELL == 0 for box in boxes.values() for edge in box)


def whole_numbers(seed, classes):
    """A network whose sums are exact in any order, on pictures of whole numbers."""
    generator = torch.Generator().manual_seed(seed)
    network = convolutions(seed, classes)
    for module in (network[0], network[4]):
        for weight in module.parameters():
            weight.copy_(torch.randint(-2, 3, weight.shape, generator=generator))
    network[4].weight.div_(8)
    return network


@given(
    cells=st.sampled_from([2, 3]),
    seed=st.integers(0, 10**6),
    engine=st.sampled_from(["auto", "batched"]),
)
@settings(max_examples=8, deadline=None)
def test_drop_on_a_network_that_sees_one_cell_is_exact(cells, seed, engine):
    # A theorem: what a network cannot see says nothing, so all that `drop` finds is in the cell.
    picture, boxes = made_grid(cells, True, seed)
    picture = (2 * picture).round()
    target = seed % cells**2
    network = FullyApart(whole_numbers(seed, cells**2), boxes[target]).eval()
    windows = (3, CELL // 2, CELL // 2)
    infomap = InfoMask(network).score_regions(
        picture,
        target=target,
        view="drop",
        sliding_window_shapes=windows,
        strides=windows,
        engine=engine,
    )
    truth = inside(boxes[target], picture.shape[-1])
    plane = infomap.attributions().mean(1)
    assert bool((plane[0][~truth] == 0).all())
    if bool((plane > 0).any()):
        assert positive_share(plane, truth[None]).item() == 1.0


def test_drop_finds_something_in_the_cell():
    # What the theorem's test would not notice: maps of zeros.
    picture, boxes = made_grid(2, True, seed=3)
    network = FullyApart(convolutions(3, 4), boxes[1]).eval()
    windows = (3, CELL // 2, CELL // 2)
    found = InfoMask(network).attribute(
        picture, target=1, view="drop", sliding_window_shapes=windows, strides=windows
    )
    truth = inside(boxes[1], picture.shape[-1])
    assert found[0][:, truth].abs().max() > 1e-2
    assert found[0][:, ~truth].abs().max() < 1e-5


def test_pooling_of_one_cell_reads_its_features_only():
    network = convolutions(0)
    picture, boxes = made_grid(2, True, seed=2)
    body, head = network[:2], network[2:]
    apart = PartlyApart(body, head, boxes[3], picture.shape[-1])
    changed = picture.clone()
    changed[..., : CELL - 1, : CELL - 1] = 0  # out of reach of the cell's features
    torch.testing.assert_close(apart(picture), apart(changed))
    assert not torch.equal(network(picture), network(changed))
    reached = picture.clone()
    reached[..., CELL - 1, CELL - 1] += 5  # a neighbour within the convolution's reach
    assert not torch.equal(apart(picture), apart(reached))


class Brightness(nn.Module):
    """Logit 1 is the weighted sum of the picture."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, pictures):
        logit = (pictures[:, 0] * self.weights).sum((1, 2))
        return torch.stack([torch.zeros_like(logit), logit], 1)


@pytest.fixture
def bright():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(16, 16, generator=generator) / 16
    picture = torch.randn(1, 1, 16, 16, generator=generator)
    case = Case("c", picture, 1, torch.ones(16, 16, dtype=torch.bool))
    return case, Brightness(weights), picture[0, 0] * weights


def test_single_deletions_are_foretold_by_exact_contributions(bright):
    case, network, exact = bright
    assert single_deletion(exact, case, network) == pytest.approx(1)
    assert single_deletion(-exact, case, network) == pytest.approx(-1)
    assert single_deletion(torch.ones(16, 16), case, network) == 0


def test_symmetric_gain_turns_round_with_the_map(bright):
    case, network, exact = bright
    imputers = (Constant(0.0), Blur())
    gain = symmetric_gain(exact, case, network, imputers)
    assert gain > 0.05
    assert symmetric_gain(-exact, case, network, imputers) == pytest.approx(-gain, abs=0.01)


def test_symmetric_gain_by_hand():
    # Two superpixels, all that counts lies in the left one.
    picture = torch.zeros(1, 1, 16, 16)
    picture[..., :8] = 1
    weights = torch.zeros(16, 16)
    weights[:, :8] = 4 / 128
    case = Case("c", picture, 1, weights > 0)
    gain = symmetric_gain(weights, case, Brightness(weights), (Constant(0.0),))
    high, low = (1 / (1 + math.exp(-value)) for value in (4, 0))
    assert 0.3 * (high - low) < gain < high - low


def test_faithfulness_measures_all(bright):
    case, network, exact = bright
    method = Method("exact", lambda network, picture, target: picture[0, 0] * network.weights)
    found = faithfulness.faithfulness(exact, case, network, method)
    assert list(found) == list(faithfulness.FAITHFULNESS)
    assert faithfulness.idsds(exact, case, network, method)["idsds"] == pytest.approx(1)
    assert found["insertion"] > found["deletion"]
    assert found["infidelity"] < 1


@pytest.mark.parametrize("background", ["white", "correlated"])
@pytest.mark.parametrize("scenario", tetrominoes.SHARES)
def test_tetrominoes_are_where_they_are_said_to_be(scenario, background, monkeypatch):
    monkeypatch.setitem(tetrominoes.SHARES[scenario], background, 0.9)
    shown, labels, truth = tetrominoes.pictures(scenario, background, 60, seed=0)
    assert shown.shape == (60, 1, 64, 64)
    assert set(labels.tolist()) == {0, 1}
    strength = shown[:, 0].square()
    within, outside = strength[truth].mean(), strength[~truth].mean()
    # A signal adds to what is there, or multiplies it away.
    assert within < 0.7 * outside if scenario == "multiplicative" else within > 2 * outside


def test_xor_cannot_be_told_from_one_place():
    plane = {label: [] for label in (0, 1)}
    random = np.random.default_rng(0)
    for _ in range(50):
        for label, planes in plane.items():
            planes.append(tetrominoes._PATTERNS["XOR"](label, random))
    for planes in plane.values():
        assert np.abs(np.mean(planes, 0)).max() < 0.5  # no sign is more frequent
    products = {
        label: np.sign([p[16, 12] * p[52, 44] for p in planes]) for label, planes in plane.items()
    }
    assert (products[0] == 1).all()
    assert (products[1] == -1).all()


def test_tetromino_maps_count_by_magnitude():
    truth = torch.zeros(4, 4, dtype=torch.bool)
    truth[0] = True
    case = Case("c", torch.zeros(1, 1, 4, 4), 0, truth)
    assert tetrominoes.measure(-truth.float(), case)["rank"] == 1
    assert tetrominoes.measure(torch.zeros(4, 4), case)["rank"] == pytest.approx(0.25)


def test_ink_counts_what_the_mask_keeps():
    picture = torch.zeros(1, 1, 28, 56)
    picture[..., 4:8, 4:8] = 1
    picture[..., 4:8, 40:44] = 1
    truth = torch.zeros(28, 56, dtype=torch.bool)
    truth[4:8, 4:8] = True
    case = Case("c", picture, 1, truth)
    left = torch.zeros(28, 56)
    left[:, :28] = 1
    assert ink.measure(left, case)["ink"] == 1
    assert ink.measure(torch.ones(28, 56), case)["ink"] == 0.5


def test_randomisation_asks_a_copy(tmp_path):
    network = convolutions(0)
    case = Case("0", torch.randn(1, 3, CELL, CELL), 1, torch.ones(CELL, CELL, dtype=torch.bool))
    layers = {"last": network[1]}
    subject = Subject("randomised", "tiny", network, [case, case], layers, "last")
    rows = Rows(tmp_path / "rows")
    weights = network[4].weight.clone()
    wanted = ("Grad-CAM, last", "noise (control)")
    methods = [one for one in methods_for(subject) if one.name in wanted]
    check_all(first_cases(subject, 1), methods, rows, half=0)
    found = {row["method"]: row["forgotten"] for row in rows.of("randomised", "tiny")}
    assert found["noise (control)"] == pytest.approx(1)
    assert found["Grad-CAM, last"] < 0.999
    assert torch.equal(network[4].weight, weights)


def test_every_referee_has_its_part_of_the_page():
    options = run._parsed(["page"])
    assert set(run.builds(options)) == {section.referee for section in SECTIONS}
    for section in SECTIONS:
        assert run.measure_of(section.referee)
    assert noise(None, torch.zeros(1, 3, 4, 5), 0).shape == (4, 5)


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_have_layers_for_grad_cam(name):
    build, *_ = SMALL[name]
    network = build().eval()
    layers, best, sizes = in_clutter._layers(network)
    assert best in layers
    for side in sizes[:2]:
        for layer in layers.values():
            assert grad_cam(layer, network, torch.randn(1, 3, side, side), 1).shape == (side, side)


def test_the_transformer_stands_on_the_residual_networks_first_blocks():
    below = small_networks.residual().requires_grad_(False).eval()
    network = small_networks.transformer(below).eval()
    picture = torch.randn(2, 3, 64, 64)
    seen = below.block2(below.block1(below.stem(picture)))
    assert torch.equal(network.conv_proj[:3](picture), seen)
    assert all(weight.requires_grad for weight in network.parameters())
    assert network(picture).shape == (2, 10)


def test_grids_take_what_the_network_is_surest_of():
    labels = torch.arange(10).repeat_interleave(3)
    pictures = torch.randint(256, (30, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    made = Clutter(pictures.to(torch.uint8), labels, pictures[:, 0] > 128)
    network = convolutions(0, 10)
    found = _surest(network, made)
    says = network(normalised(made.pictures)).softmax(1)
    for label, chosen in found.items():
        best = says[labels == label, label].argmax()
        torch.testing.assert_close(chosen, normalised(made.pictures)[labels == label][best][None])
