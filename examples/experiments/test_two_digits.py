# The paper's two-digit experiment: network, metrics, methods, table, figure, script.
from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
import two_digits as script
from captum.attr import Occlusion
from experiments.two_digit_experiment import (
    TwoDigitRow,
    draw_two_digits,
    two_digit_experiment,
    two_digit_table,
)
from experiments.two_digit_figure import KeptRow, two_digit_figure
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from torch import nn

from captum_infomask import ArgumentError
from captum_infomask.comparison.method_adapters import ForwardMethod
from captum_infomask.datasets import TwoDigits, sklearn_digits, two_digits
from captum_infomask.evaluation.ground_truth import (
    bootstrap,
)
from captum_infomask.models.two_digits import load_two_digit_network

pytestmark = pytest.mark.slow


@cache
def unseen() -> TwoDigits:
    return two_digits(*sklearn_digits(train=False), target=0, count=400, seed=5)


@cache
def chosen() -> TwoDigits:
    return unseen().holding_target_beside_another().select(torch.arange(24))


@cache
def rows() -> dict[str, TwoDigitRow]:
    return {row.method: row for row in two_digit_experiment(load_two_digit_network(), chosen())}


# The network


def test_training_learns_repeats_and_leaves_the_global_generator_alone():
    pictures = two_digits(*sklearn_digits(train=True), target=0, count=600)
    before = torch.get_rng_state()
    network = script.train(pictures, steps=60, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert script.accuracy(network, unseen()) > 0.85
    once, again = (script.train(pictures, steps=2, seed=3) for _ in range(2))
    torch.testing.assert_close(once.state_dict(), again.state_dict())


# The experiment


def oracle(name: str, values: torch.Tensor) -> ForwardMethod:
    return ForwardMethod(name, "a.u.", lambda forward, inputs, target, show_progress: values)


def test_an_oracle_scores_one_and_its_opposite_zero():
    right = chosen().ink.float()
    other = ((chosen().images > 0.2) & ~chosen().ink).float()
    best, worst = two_digit_experiment(
        nn.Identity(), chosen(), [oracle("right", right), oracle("other", other)]
    )
    for values in (best.ink_iou, best.positive_share, best.average_precision):
        assert values.tolist() == [1.0] * 24
    assert worst.ink_iou.tolist() == worst.positive_share.tolist() == [0.0] * 24


def test_empty_masks_count_as_nothing_and_do_not_warn():
    (row,) = two_digit_experiment(
        nn.Identity(), chosen(), [oracle("nothing", torch.zeros(24, 1, 28, 56))]
    )
    assert not row.masks.any()
    assert row.ink_iou.tolist() == [0.0] * 24


def test_drop_is_occlusion_on_log_probabilities_in_bits():
    drop, occlusion = rows()["InfoMask drop"], rows()["Occlusion, log-probabilities"]
    assert drop.attributions.std() > 0.1
    torch.testing.assert_close(
        drop.attributions, occlusion.attributions / math.log(2), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(drop.average_precision, occlusion.average_precision)
    assert not torch.allclose(
        rows()["Occlusion, logits"].attributions, occlusion.attributions, atol=0.1
    )


def test_occlusion_on_logits_is_captums_own():
    given = Occlusion(load_two_digit_network()).attribute(
        chosen().images, (1, 20, 20), strides=(1, 4, 4), target=1
    )
    torch.testing.assert_close(
        rows()["Occlusion, logits"].attributions, given.detach(), rtol=0, atol=1e-4
    )


def test_views_find_the_target_and_controls_do_not():
    views = [name for name in rows() if name.startswith("InfoMask")]
    assert len(views) == 6
    for name in (*views, "Grad-CAM"):
        assert rows()[name].ink_iou.mean() > 0.9
    for name in ("centred blob (control)", "uniform noise (control)"):
        assert rows()[name].ink_iou.mean() < 0.7
        assert rows()[name].positive_share.mean() == pytest.approx(0.5, abs=0.05)


def test_pictures_without_the_target_are_refused():
    with pytest.raises(ArgumentError, match="`pictures`"):
        two_digit_experiment(load_two_digit_network(), unseen())


def test_experiment_leaves_the_network_as_it_was():
    network = load_two_digit_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    two_digit_experiment(network, chosen().select(torch.arange(2)))
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert not network.training
    assert all(not module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_table_has_a_line_per_method():
    lines = two_digit_table(list(rows().values())).splitlines()
    assert len(lines) == 2 + len(rows())
    drop = rows()["InfoMask drop"]
    assert f"| InfoMask drop | bits | {bootstrap(drop.ink_iou)} |" in "\n".join(lines)


# The figure


def test_figure_shows_kept_ink_dark_and_hidden_places_flat():
    picture = np.zeros((2, 4, 8), dtype=np.float32)
    picture[:, :, 2] = picture[:, :, 6] = 1
    kept = np.zeros((2, 4, 8), dtype=bool)
    kept[:, :, :4] = True
    _, panels = two_digit_figure(picture, [KeptRow("half", "", kept)], title="Halves")
    assert panels.shape == (2, 2)
    whole, half = (panel.images[0].get_array() for panel in panels[:, 0])
    assert whole[0, 6].max() < 0.2
    assert whole[0, 0].min() == 1
    assert half[0, 2].max() < 0.2
    assert len(np.unique(half[:, 4:].reshape(-1, 3), axis=0)) == 1
    assert tuple(half[0, 6]) != to_rgb("white")


def test_drawing_shows_the_best_view_kept_and_hidden():
    figure, panels = draw_two_digits(chosen(), list(rows().values()), title="What is kept", shown=4)
    words = [text.get_text() for text in figure.texts]
    best = max(
        (row for name, row in rows().items() if name.startswith("InfoMask")),
        key=lambda row: row.ink_iou.mean().item(),
    )
    assert words[3] == best.method
    assert words[5] == f"{best.method}, hidden"
    assert not any("control" in word for word in words)
    assert panels.shape == (11, 4)
    kept, hidden = (panels[place, 0].images[0].get_array() for place in (1, 2))
    picture = panels[0, 0].images[0].get_array()
    same = [(shown == picture).all(-1) for shown in (kept, hidden)]
    assert (same[0] | same[1]).all()
    assert isinstance(figure.canvas, FigureCanvasAgg)
    assert figure.canvas.manager is None  # no window, none of pyplot's state


# The script


def test_script_writes_table_figure_and_checkpoint(tmp_path, capsys):
    checkpoint = tmp_path / "net_{target}.safetensors"
    script.main(["--steps=2", "--count=4", f"--out={tmp_path}", f"--save-checkpoint={checkpoint}"])
    assert "accuracy" in capsys.readouterr().out
    assert "InfoMask drop" in (tmp_path / "two_digits.md").read_text()
    assert (tmp_path / "two_digits_0.png").stat().st_size > 10_000
    assert load_two_digit_network(tmp_path / "net_0.safetensors")


def test_script_measures_the_defaults_of_overlapping_windows():
    table = script.defaults_table(load_two_digit_network(), chosen().select(torch.arange(3)))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    drop = next(row for row in cells if row[:2] == ["drop", "20/4"])
    assert drop[3] == f"{rows()['InfoMask drop'].ink_iou[:3].mean():.3f}"
    crop = next(row for row in cells if row[:3] == ["crop, native", "20/4", "blank"])
    assert crop[3] == f"{rows()['InfoMask crop (blank)'].ink_iou[:3].mean():.3f}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "ten"], "--target"),
        (["--download"], "--mnist"),
        (["--count", "0"], "--count"),
    ],
)
def test_script_refuses_bad_arguments(arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(arguments)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_script_says_how_to_fetch_missing_mnist(tmp_path):
    with pytest.raises(SystemExit, match="--download"):
        script.main(["--mnist", str(tmp_path)])


def test_targets_are_pooled_and_set_side_by_side():
    measured = list(rows().values())
    results = {0: measured, 1: measured}
    both = script.pooled(results)
    assert len(both[0].ink_iou) == 48
    assert both[0].ink_iou.mean() == pytest.approx(measured[0].ink_iou.mean().item())
    lines = script.targets_table(results).splitlines()
    assert lines[0] == "| ink IoU | 0 | 1 |"
    assert len(lines) == 2 + len(measured)
    mean = f"{measured[0].ink_iou.mean():.3f}"
    assert lines[2] == f"| {measured[0].method} | {mean} | {mean} |"
