# The paper's two-digit experiment: network, metrics, methods, table, figure, script.
from __future__ import annotations

import math
import pickle
from functools import cache
from pathlib import Path

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
from safetensors.torch import save_file
from torch import nn

import captum_infomask.models.two_digits as network_module
from captum_infomask import ArgumentError
from captum_infomask.comparison.methods import Method
from captum_infomask.datasets import TwoDigits, sklearn_digits, two_digits
from captum_infomask.evaluation.ground_truth import (
    average_precision,
    bootstrap,
    ink_iou,
    positive_share,
)
from captum_infomask.models.two_digits import load_two_digit_network, two_digit_network

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


@pytest.mark.parametrize("size", [(28, 56), (20, 20), (8, 8), (10, 31)])
def test_network_takes_crops_of_any_size(size):
    assert two_digit_network().eval()(torch.rand(2, 1, *size)).shape == (2, 2)


def test_network_is_small():
    assert sum(parameter.numel() for parameter in two_digit_network().parameters()) < 100_000


def test_packaged_network_is_small_and_answers_right():
    file = Path(network_module.__file__).with_suffix(".safetensors")
    assert file.stat().st_size < 500_000
    network = load_two_digit_network()
    assert not network.training
    assert script.accuracy(network, unseen()) > 0.97


def test_saved_network_is_read_back(tmp_path):
    network = two_digit_network()
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    loaded = load_two_digit_network(tmp_path / "mine.safetensors")
    x = torch.rand(2, 1, 28, 56)
    assert torch.equal(loaded(x), network.eval()(x))


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": 1}))


def write_other_tensors(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)


@pytest.mark.parametrize("write", [write_pickle, write_other_tensors, lambda path: None])
def test_file_without_such_a_network_is_refused(write, tmp_path):
    write(tmp_path / "net.safetensors")
    with pytest.raises(ArgumentError, match=r"`weights`.*net\.safetensors"):
        load_two_digit_network(tmp_path / "net.safetensors")


def test_training_learns_repeats_and_leaves_the_global_generator_alone():
    pictures = two_digits(*sklearn_digits(train=True), target=0, count=600)
    before = torch.get_rng_state()
    network = script.train(pictures, steps=60, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert script.accuracy(network, unseen()) > 0.85
    once, again = (script.train(pictures, steps=2, seed=3) for _ in range(2))
    torch.testing.assert_close(once.state_dict(), again.state_dict())


# The metrics


def random_masks(*seeds: int) -> tuple[torch.Tensor, ...]:
    made = (torch.rand(6, 1, 5, 7, generator=torch.Generator().manual_seed(s)) for s in seeds)
    return tuple(mask > 0.5 for mask in made)


def test_ink_iou_counts_pixels():
    masks, ink, right = random_masks(0, 1, 2)
    right &= ink
    for place, found in enumerate(ink_iou(masks, ink, right).tolist()):
        kept = {tuple(p) for p in (masks[place] & ink[place]).nonzero().tolist()}
        wanted = {tuple(p) for p in right[place].nonzero().tolist()}
        assert found == pytest.approx(len(kept & wanted) / len(kept | wanted))


def test_positive_share_ignores_negative_values():
    right = random_masks(3)[0]
    values = torch.randn(right.shape, generator=torch.Generator().manual_seed(4))
    for place, found in enumerate(positive_share(values, right).tolist()):
        pairs = list(zip(values[place].flatten().tolist(), right[place].flatten(), strict=True))
        inside = sum(value for value, there in pairs if there and value > 0)
        assert found == pytest.approx(inside / sum(value for value, _ in pairs if value > 0))
    assert positive_share(-values.abs(), right).tolist() == [0.0] * 6


def test_average_precision_is_the_mean_precision_at_each_right_pixel():
    right = random_masks(3)[0]
    generator = torch.Generator().manual_seed(4)
    orders = [torch.randperm(35, generator=generator) for _ in right]
    values = torch.stack(orders).reshape(right.shape) - 17.0
    for place, found in enumerate(average_precision(values, right).tolist()):
        order = values[place].flatten().argsort(descending=True)
        hits = right[place].flatten()[order].tolist()
        precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
        assert found == pytest.approx(sum(precisions) / len(precisions), abs=1e-6)


def test_average_precision_takes_equal_values_together_whatever_their_rounding():
    right = random_masks(3)[0]
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(4))
    # The mean over all orders: at place k one right pixel, and of the others before it their share.
    count = right.flatten(1).sum(1, keepdim=True)
    places = torch.arange(35)
    share = ((1 + places * (count - 1) / 34) / (places + 1)).mean(1)
    torch.testing.assert_close(average_precision(1 + 1e-6 * noise, right), share)
    torch.testing.assert_close(average_precision(torch.zeros(right.shape), right), share)
    assert (average_precision(1 + noise, right) - share).abs().max() > 0.05


def test_bootstrap_interval_is_the_normal_one_for_many_values():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    found = bootstrap(values)
    assert torch.equal(before, torch.get_rng_state())
    half = 1.96 * values.std().item() / math.sqrt(1000)
    assert found.mean == pytest.approx(values.mean().item(), abs=1e-6)
    assert found.high - found.mean == pytest.approx(half, rel=0.1)
    assert found.mean - found.low == pytest.approx(half, rel=0.1)
    assert bootstrap(values) == found


@pytest.mark.parametrize(
    ("measure", "named"),
    [
        (lambda right: ink_iou(right.float(), right, right), "`masks`"),
        (lambda right: ink_iou(right, right[:, :, :2], right), "`ink`"),
        (lambda right: positive_share(right, right), "`attributions`"),
        (lambda right: average_precision(torch.rand(2, 2), right), "`attributions`"),
        (lambda right: ink_iou(right, right, right & False), "`right`"),
        (lambda right: positive_share(torch.rand(6, 1, 5, 7), right.float()), "`right`"),
        (lambda right: bootstrap(torch.rand(2, 2)), "`values`"),
        (lambda right: bootstrap(torch.rand(0)), "`values`"),
    ],
)
def test_bad_arguments_of_metrics_are_named(measure, named):
    with pytest.raises(ArgumentError, match=named):
        measure(random_masks(3)[0])


# The experiment


def oracle(name: str, values: torch.Tensor) -> Method:
    return Method(name, "a.u.", lambda forward, inputs, target, show_progress: values)


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
