# The mosaic experiment: mosaics, methods that answer for four classes at once, measures, script.
from __future__ import annotations

import math
from functools import cache

import mosaics as script
import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam, Occlusion
from experiments.mosaic_experiment import (
    CountedPixels,
    Mosaic,
    MosaicMethod,
    blob_classes,
    measure_maps,
    mosaic_experiment,
    mosaic_methods,
    mosaic_table,
    noise_classes,
    photo_mosaics,
)
from experiments.mosaic_figures import MapsRow, Setting, mosaic_figure, quality_figure
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from captum_infomask import ArgumentError, InfoMask, sliding_windows
from captum_infomask.evaluation.ground_truth import average_precision, bootstrap
from captum_infomask.regions.scales import Scales

pytestmark = pytest.mark.slow

# Five flat colours, and a network whose class k is what colour k says: no weights needed.
COLOURS = torch.tensor(
    [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1.0, 0], [0, 1.0, 1.0]], dtype=torch.float32
)
NAMES = ("red", "green", "blue", "yellow", "cyan")
CLASSES = {name: index for index, name in enumerate(NAMES)}


def colour_network() -> nn.Sequential:
    """Each pixel votes for the colour that it is nearest to; votes are summed, and are logits."""
    vote = nn.Conv2d(3, 5, 1)
    with torch.no_grad():
        vote.weight.copy_(8 * COLOURS[:, :, None, None])
        vote.bias.copy_(-4 * COLOURS.square().sum(1))
    layers = [vote, nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers).eval()


@cache
def colour_mosaics(side: int = 32) -> tuple[Mosaic, ...]:
    half = side // 2
    photos = {
        name: colour[None, :, None, None].expand(1, 3, half, half)
        for name, colour in zip(NAMES, COLOURS, strict=True)
    }
    return tuple(photo_mosaics(photos))


def methods_of(network: nn.Sequential) -> dict[str, MosaicMethod]:
    layers = {"last convolution": network[0], "its batch norm": network[1]}
    made = mosaic_methods(layers, side=32, sizes=(16, 8, 4))
    return {method.name: method for method in made}


# Mosaics


def test_every_choice_of_four_in_two_arrangements():
    made = colour_mosaics()
    assert len(made) == 10
    assert len({mosaic.names for mosaic in made}) == 10
    assert len({frozenset(mosaic.names) for mosaic in made}) == 5
    assert made[1].names == made[0].names[::-1]


def test_each_photograph_lies_in_its_quarter():
    for mosaic in colour_mosaics():
        quarters = mosaic.quarters
        assert quarters.shape == (4, 32, 32)
        assert (quarters.sum(0) == 1).all()
        for quarter, name in zip(quarters, mosaic.names, strict=True):
            pixels = mosaic.picture[0][:, quarter]
            assert (pixels == COLOURS[CLASSES[name]][:, None]).all()
    upper_right = colour_mosaics()[0].quarters[1]
    assert upper_right[:16, 16:].all()


@pytest.mark.parametrize(
    "photos",
    [
        {},
        {name: torch.zeros(1, 3, 4, 4) for name in "abc"},
        {name: torch.zeros(3, 4, 4) for name in "abcd"},
        {name: torch.zeros(2, 3, 4, 4) for name in "abcd"},
        {name: torch.zeros(1, 3, 4, 4 + place) for place, name in enumerate("abcd")},
    ],
)
def test_photographs_that_make_no_mosaic_are_refused(photos):
    with pytest.raises(ArgumentError, match="`photos`"):
        photo_mosaics(photos)


# Methods


def test_all_classes_at_once_are_what_one_at_a_time_gives():
    network, mosaic = colour_network(), colour_mosaics()[3]
    targets = [CLASSES[name] for name in mosaic.names]
    made = {
        name: method.attribute(network, mosaic.picture, targets)
        for name, method in methods_of(network).items()
    }
    window, stride = (3, 8, 8), (3, 4, 4)
    for k, target in enumerate(targets):
        x = mosaic.picture
        cam = LayerGradCam(network, network[1]).attribute(x, target, relu_attributions=True)
        expected = {
            "InfoMask crop, no size given": InfoMask(network).attribute(
                x, target=target, view="crop"
            ),
            "InfoMask crop, size 8, fine": InfoMask(network).attribute(
                x,
                target=target,
                sliding_window_shapes=window,
                strides=(3, 2, 2),
                crop_size=(8, 8),
            ),
            "InfoMask crop, sizes 8 and 4": (
                InfoMask(network).attribute(x, target=target, crop_size=(8, 8))
                + InfoMask(network).attribute(x, target=target, crop_size=(4, 4))
            )
            / 2,
            "InfoMask keep": InfoMask(network).attribute(x, target=target, view="keep"),
            "Grad-CAM, its batch norm": LayerAttribution.interpolate(cam, (32, 32), "bilinear"),
            "Occlusion, logits": Occlusion(network).attribute(
                x, window, strides=stride, target=target
            ),
            "Occlusion, log-probabilities": Occlusion(
                lambda shown: network(shown).log_softmax(1)
            ).attribute(x, window, strides=stride, target=target),
        }
        for name, values in expected.items():
            largest = values.abs().max().item()
            assert values.std() > largest / 10, name
            torch.testing.assert_close(
                made[name][k], values[0, 0].detach(), rtol=0, atol=largest / 1e4
            )
    torch.testing.assert_close(
        made["InfoMask drop"],
        made["Occlusion, log-probabilities"] / math.log(2),
        rtol=0,
        atol=1e-4,
    )


def test_controls_see_no_network():
    mosaic = colour_mosaics()[0]
    for control in (blob_classes, noise_classes):
        maps = control(None, mosaic.picture, [0, 1, 2, 3])
        shares, _ = measure_maps(maps, mosaic)
        torch.testing.assert_close(shares, torch.full((4,), 0.25), rtol=0, atol=0.02)
    assert noise_classes(None, mosaic.picture, [0, 1]).std(0).min() > 0


# Measures and the experiment


def test_an_oracle_scores_one_and_its_opposite_zero():
    mosaics = colour_mosaics()
    quarters = mosaics[0].quarters.float()
    right = MosaicMethod("right", "a.u.", lambda forward, picture, targets: quarters)
    wrong = MosaicMethod("wrong", "a.u.", lambda forward, picture, targets: 1 - quarters)
    best, worst = mosaic_experiment(nn.Identity(), mosaics, CLASSES, [right, wrong])
    assert best.shares.shape == best.precisions.shape == (10, 4)
    assert (best.shares == 1).all()
    assert (best.precisions == 1).all()
    assert (worst.shares == 0).all()
    assert (worst.precisions < 0.3).all()


def test_measures_equal_their_literal_sums():
    mosaic = colour_mosaics()[0]
    maps = torch.randn(4, 32, 32)
    shares, precisions = measure_maps(maps, mosaic)
    for k in range(4):
        inside = total = 0.0
        for row in range(32):
            for column in range(32):
                value = max(maps[k, row, column].item(), 0.0)
                total += value
                if (row >= 16, column >= 16) == (k >= 2, k % 2 == 1):
                    inside += value
        assert shares[k].item() == pytest.approx(inside / total, abs=1e-5)
    coarse = average_precision(maps[:, ::4, ::4], mosaic.quarters[:, ::4, ::4])
    torch.testing.assert_close(precisions, coarse)


def test_experiment_asks_each_photograph_in_its_place_and_counts_pixels():
    network, mosaics = colour_network(), colour_mosaics()[:3]
    asked = []

    def ask(forward, picture, targets):
        asked.append(list(targets))
        forward(picture)
        forward(torch.cat([picture[..., :4, :4]] * 5))
        return torch.rand(4, 32, 32)

    (row,) = mosaic_experiment(network, mosaics, CLASSES, [MosaicMethod("ask", "a.u.", ask)])
    assert asked == [[CLASSES[name] for name in mosaic.names] for mosaic in mosaics]
    assert row.pixels == 32 * 32 + 5 * 4 * 4
    assert row.seconds > 0
    assert row.share == bootstrap(row.shares.mean(1))


def test_info_mask_finds_flat_colours_and_controls_do_not():
    network = colour_network()
    rows = {
        row.method: row
        for row in mosaic_experiment(
            network, colour_mosaics(), CLASSES, list(methods_of(network).values())
        )
    }
    for name in ("InfoMask crop, no size given", "InfoMask crop, size 8, fine"):
        assert rows[name].share.mean > 0.8
        assert rows[name].precision.mean > 0.8
    assert rows["InfoMask crop, size 8, fine"].pixels < 4 * rows["InfoMask crop, size 16"].pixels
    assert rows["centred blob (control)"].share.mean == pytest.approx(0.25, abs=0.01)
    lines = mosaic_table(list(rows.values())).splitlines()
    assert len(lines) == 2 + len(rows)
    assert all(line.count("|") == 8 for line in lines)
    assert f"{rows['InfoMask keep'].share}" in "\n".join(lines)
    assert not network.training
    assert all(not module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_counted_pixels_leave_the_output_as_it_is():
    counted = CountedPixels(colour_network())
    x = torch.rand(3, 3, 5, 7)
    assert torch.equal(counted(x), counted.network(x))
    assert counted.pixels == 3 * 5 * 7


# Figures


def test_rows_of_one_unit_share_a_scale():
    picture = np.full((8, 8, 3), 128, np.uint8)
    one, ten = (np.full((4, 8, 8), value, np.float32) for value in (1, 10))
    rows = [
        MapsRow("a", "bits", "", one),
        MapsRow("b", "bits", "", ten),
        MapsRow("c", "nats", "", one),
        MapsRow("d", "a.u.", "", one),
        MapsRow("e", "a.u.", "", ten),
    ]
    figure, panels = mosaic_figure(picture, NAMES[:4], rows, title="Maps")
    assert panels.shape == (5, 4)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    colours = [panels[place, 0].images[0].get_array()[0, 0] for place in range(5)]
    np.testing.assert_allclose(colours[1:], [colours[1]] * 4)
    assert np.abs(colours[0] - colours[1]).max() > 0.2
    frame = panels[0, 3].patches[0]
    assert (frame.get_x(), frame.get_y(), frame.get_width()) == (3.5, 3.5, 4)


def test_quality_figure_joins_what_it_is_told_to_and_shows_references():
    points = [
        Setting("224", "sizes", 2.4, ((0.95, 0.94, 0.96), (0.5, 0.4, 0.6))),
        Setting("112", "sizes", 0.6, ((0.99, 0.98, 1.0), (0.7, 0.6, 0.8))),
        Setting("0.1", "margins", 0.6, ((0.97, 0.96, 0.98), None)),
    ]
    figure, panels = quality_figure(
        points,
        measures={"share": (0.9, 1), "bits": (0, 1)},
        cost="passes",
        title="t",
        joined=("sizes",),
        references={"Grad-CAM": (0.98, None)},
    )
    assert isinstance(figure.canvas, FigureCanvasAgg)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sizes", "margins"]
    lines = [[line for line in axes.lines if len(line.get_xdata())] for axes in panels]
    sizes, margins, reference = lines[0]
    assert list(sizes.get_xdata()) == [0.6, 2.4]
    assert list(sizes.get_ydata()) == [0.99, 0.95]
    assert (sizes.get_linestyle(), margins.get_linestyle()) == ("-", "None")
    assert list(reference.get_ydata()) == [0.98, 0.98]
    (second,) = lines[1]
    assert list(second.get_ydata()) == [0.7, 0.5]
    assert panels[1].get_ylim() == (0, 1)


# The script


def test_means_over_settings_are_what_lists_of_regions_and_sizes_give(monkeypatch):
    monkeypatch.setattr(script, "PHOTOS", CLASSES)
    settings = ((112, 56, 16, 0.25), (224, 112, 8, 0.25))
    monkeypatch.setattr(script, "SWEEP", {"two": settings})
    monkeypatch.setattr(script, "SCALES", (settings,))
    network, mosaic = colour_network(), colour_mosaics(64)[0]
    swept = script.sweep(network, [mosaic])
    one, other, mean = (made.row for made in swept)
    windows = [sliding_windows(mosaic.picture, (3, w, w), (3, w // 2, w // 2)) for w in (16, 32)]
    maps = InfoMask(network).score_classes(
        mosaic.picture,
        classes=[CLASSES[name] for name in mosaic.names],
        regions=windows,
        crop_size=[(16, 16), (8, 8)],
        crop_margin=0.25,
    )
    assert isinstance(maps.stacked.regions, Scales)
    torch.testing.assert_close(mean.maps, script.maps_of(maps), rtol=0, atol=1e-5)
    assert (one.maps - other.maps).abs().mean() > 0.1
    assert [made.series for made in swept] == ["two", "two", "several scales"]
    alone = InfoMask(network).score_classes(
        mosaic.picture,
        classes=[CLASSES[name] for name in mosaic.names],
        regions=windows[1],
        crop_size=(8, 8),
        crop_margin=0.25,
    )
    # Of the 3 × 3 windows of half the side, those in the corners lie wholly in a photograph.
    corners = torch.stack([alone.scores[0, place, k] for k, place in enumerate((0, 2, 6, 8))])
    assert swept[1].inside.mean == pytest.approx(corners.mean().item(), abs=1e-5)
    assert corners.mean() > 0.5
    table = script.sweep_table(swept).splitlines()
    assert len(table) == 5
    assert table[4].split("|")[5].strip() == "–"
    assert mean.method == "112/56 at 16, margin 0.25 + 224/112 at 8, margin 0.25"
    assert mean.pixels == one.pixels + other.pixels
    assert other.pixels == 64 * 64 + 9 * 8 * 8


def test_overlap_table_agrees_with_attribute(monkeypatch):
    monkeypatch.setattr(script, "PHOTOS", CLASSES)
    network, mosaic = colour_network(), colour_mosaics(64)[0]
    with torch.no_grad():
        network[0].bias[0] = 2  # the blank looks red, so that it matters where values count from
    lines = script.overlap_table(network, [mosaic]).splitlines()
    cells = {
        (view, reference): [cell.split(";")[0].split(" ")[0] for cell in rest]
        for view, reference, *rest in (
            [cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]
        )
    }
    assert len(cells) == 7
    for view, reference in (("keep", "prior"), ("keep", "blank"), ("drop", "–")):
        for place, overlap in enumerate(("mean", "mixture", "max")):
            options = {} if reference == "–" else {"reference": reference}
            found = [
                InfoMask(network).attribute(
                    mosaic.picture, target=CLASSES[name], view=view, overlap=overlap, **options
                )[0, 0]
                for name in mosaic.names
            ]
            shares, _ = measure_maps(torch.stack(found), mosaic)
            assert float(cells[view, reference][place]) == pytest.approx(
                shares.mean().item(), abs=6e-4
            )


def test_script_writes_table_and_figure(tmp_path, capsys):
    script.main(["--quick", f"--out={tmp_path}"])
    said = capsys.readouterr().out
    table = (tmp_path / "mosaics_64.md").read_text()
    assert table.strip() in said
    assert "| InfoMask crop, size 160 | bits |" in table
    assert (tmp_path / "mosaics_64.png").stat().st_size > 10_000


@pytest.mark.parametrize("side", ["100", "32", "-64"])
def test_script_refuses_sides_that_do_not_divide(side, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(["--side", side])
    assert stop.value.code == 2
    assert "--side" in capsys.readouterr().err
