# Figures and pages of signals, volumes and videos: what is drawn is what the map says.
from __future__ import annotations

import base64
import json
import re
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from captum_infomask import (
    ArgumentError,
    AtLeast,
    FalseDiscoveries,
    InfoMask,
    compare,
    from_feature_mask,
    show,
)
from captum_infomask.report.payload import page_payload
from captum_infomask.report.smoothing import peak_of, window_steps
from captum_infomask.results.shown_inputs import volume_for

DEEP, TALL, WIDE = 8, 12, 10


def network(inputs):
    """Two classes; the first 2 × 2 × 2 voxels, or the first 2 samples, speak for class 1."""
    places = (slice(None), 0, *[slice(2)] * (inputs.dim() - 2))
    speaks = inputs[places].flatten(1).sum(1)
    return torch.stack([-speaks, speaks], 1)


@pytest.fixture(scope="module")
def volume():
    return torch.rand(1, 1, DEEP, TALL, WIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def volume_map(volume):
    return InfoMask(network).score_regions(
        volume, target=1, view="drop", sliding_window_shapes=(1, 2, 2, 2), strides=(1, 2, 2, 2)
    )


@pytest.fixture(scope="module")
def signal():
    return torch.rand(1, 3, 24, generator=torch.Generator().manual_seed(0)) + 0.5


@pytest.fixture(scope="module")
def signal_map(signal):
    return InfoMask(network).score_regions(
        signal, target=1, view="drop", sliding_window_shapes=(3, 2), strides=(3, 2)
    )


# --- signals -----------------------------------------------------------------------------------


def steps_of(axes):
    """The drawn steps: edges and heights."""
    (stairs,) = [patch for patch in axes.patches if hasattr(patch, "get_data")]
    data = stairs.get_data()
    return data.edges, data.values


def test_a_signal_has_its_bits_under_it_once_if_channels_share_them(signal, signal_map):
    figure, axes = signal_map.figure(signal)
    assert len(figure.axes) == 4
    bits = signal_map.attributions()[0, 0].numpy()
    edges, heights = steps_of(axes)
    np.testing.assert_allclose(np.repeat(heights, np.diff(edges).astype(int)), bits)
    assert edges[0] == -0.5
    assert edges[-1] == 23.5
    for channel, panel in enumerate(figure.axes[:3]):
        np.testing.assert_array_equal(panel.lines[0].get_ydata(), signal[0, channel].numpy())
        assert panel.get_ylabel() == f"channel {channel}"
    assert axes.get_ylabel() == "bits"
    assert axes.texts[0].get_text() == f"{float(bits.max()):.2g} bits, the peak"
    assert axes.texts[0].xy == (0.5, pytest.approx(float(bits.max())))
    words = [text.get_text() for text in figure.texts]
    assert words[1] == f"drop: {float(signal_map.total[0]):.2f} bits in the whole signal"


def test_spans_are_the_samples_that_the_rule_keeps(signal):
    values = torch.tensor([[[0.0, 3.0, 3.0, 0.0, -4.0, 1.2]]])
    _, axes = show(values, kind="signal", contour=AtLeast(1.0), unit="bits")
    spans = [
        (patch.get_x(), patch.get_x() + patch.get_width())
        for patch in axes.patches
        if not hasattr(patch, "get_data")
    ]
    assert spans == [(0.5, 2.5), (4.5, 5.5)]
    assert axes.texts[0].get_text() == "−4 bits, the peak"
    figure, _ = show(values, kind="signal", contour=None)
    assert not [patch for patch in figure.axes[0].patches if not hasattr(patch, "get_data")]


def test_channels_with_values_of_their_own_have_them_below():
    values = torch.zeros(9, 8)
    values[:, 3] = torch.arange(9.0) - 2.7  # channels 2 to 4 have the smallest magnitudes
    figure, axes = show(values, torch.rand(9, 8), kind="signal")
    names = [panel.get_ylabel() for panel in figure.axes]
    kept = [0, 1, 5, 6, 7, 8]
    assert names[::2] == [f"channel {k}" for k in kept]
    assert axes is figure.axes[11]
    assert "6 of 9 channels" in figure.texts[1].get_text()


@pytest.mark.parametrize("wrong", [torch.zeros(1, 3, 23), torch.full((3, 24), np.nan), "signal"])
def test_another_signal_is_refused(signal_map, wrong):
    with pytest.raises(ArgumentError, match=r"`picture` to be the finite signal .*\(3, 24\)"):
        signal_map.figure(wrong)


def test_a_notebook_shows_a_signal_and_there_is_no_viewer(signal_map):
    assert signal_map._repr_html_().startswith('<img src="data:image/png;base64,')
    assert signal_map._repr_mimebundle_() is None
    with pytest.raises(ArgumentError, match=r"figure\(signal\) draws them"):
        signal_map.to_html("never.html")


def test_a_density_of_a_signal_names_its_unit():
    model = nn.Sequential(
        nn.Conv1d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()  # fmt: skip
    x = torch.rand(1, 1, 40)
    infomap = InfoMask(model).score_regions(x, target=1, view="evidence")
    figure, axes = infomap.figure(x)
    assert axes.get_ylabel().endswith("bits\nper 1% of the signal")
    edges, heights = steps_of(axes)
    total = float(infomap.attributions().sum())
    drawn = float((heights * np.diff(edges)).sum()) / 40 * 100
    assert drawn == pytest.approx(total, abs=1e-5)
    assert f"{total:.2f} in the map" in figure.texts[1].get_text()


# --- volumes -----------------------------------------------------------------------------------


def test_three_slices_meet_at_the_peak(volume, volume_map):
    figure, axes = volume_map.figure(volume, smooth=False, alpha=0, contour=None)
    assert len(figure.axes) == 4
    titles = [panel.get_title("left") for panel in figure.axes[:3]]
    assert titles == ["d = 0 (of 8)", "h = 0 (of 12)", "w = 0 (of 10)"]
    scan = volume[0, 0].numpy()
    grey = np.rint(255 * scan) / 255
    for panel, plane in zip(figure.axes, (grey[0], grey[:, 0], grey[:, :, 0]), strict=False):
        drawn = np.asarray(panel.images[0].get_array())
        np.testing.assert_allclose(drawn, np.repeat(plane[..., None], 3, -1), atol=1e-6)
    assert axes is figure.axes[0]
    assert figure.axes[3].get_ylabel() == "bits"
    peak = float(volume_map.attributions().max())
    assert f"peak {peak:.3g} bits at d = 0, h = 0, w = 0" in figure.texts[1].get_text()


def test_a_point_chooses_the_slices_and_lines_mark_it(volume, volume_map):
    figure, _ = volume_map.figure(volume, at=(3, 4, 5))
    titles = [panel.get_title("left") for panel in figure.axes[:3]]
    assert titles == ["d = 3 (of 8)", "h = 4 (of 12)", "w = 5 (of 10)"]
    marked = [
        ({*panel.lines[0].get_ydata()}, {*panel.lines[2].get_xdata()}) for panel in figure.axes[:3]
    ]
    assert marked == [({4}, {5}), ({3}, {5}), ({3}, {4})]
    assert "value 0 bits at d = 3, h = 4, w = 5" in figure.texts[1].get_text()


@pytest.mark.parametrize("kind", [np.int64, torch.tensor, int])
def test_a_voxel_may_come_from_numpy_or_torch(volume, volume_map, kind):
    at = tuple(map(kind, (3, 4, 5)))
    figure, _ = volume_map.figure(volume, at=at)
    assert [panel.get_title("left")[:5] for panel in figure.axes[:3]] == ["d = 3", "h = 4", "w = 5"]
    with pytest.raises(ArgumentError, match=r"inside the volume of 8 × 12 × 10; got \(8, 0, 0\)"):
        volume_map.figure(volume, at=tuple(map(kind, (8, 0, 0))))


def test_the_outline_is_that_of_the_whole_volume():
    values = np.zeros((DEEP, TALL, WIDE), np.float32)
    values[2:4, 2:8, 2:8] = 3.0
    values[5, 5:7, 5:7] = 0.9  # the largest of its slice, but below the threshold
    through, beside = (
        show(values, kind="volume", contour=AtLeast(1.0), unit="bits", smooth=False, at=at)[1]
        for at in ((2, 4, 4), (5, 6, 6))
    )
    assert len(through.collections) == 2
    assert not beside.collections


def test_numbers_below_0_have_a_true_minus(volume, volume_map, signal):
    reader = InfoMask(network)
    against = reader.score_regions(
        volume, target=0, view="drop", sliding_window_shapes=(1, 2, 2, 2), strides=(1, 2, 2, 2)
    )
    whole = f"−{abs(float(against.total[0])):.2f} bits"
    lowest = f"−{abs(float(against.attributions().min())):.3g} bits"
    figure, _ = against.figure(volume)
    assert figure.texts[1].get_text().startswith(f"drop: {whole} in the whole volume")
    assert f"peak {lowest} at d = 0" in figure.texts[1].get_text()
    facts = against.content(volume).pictures[0].facts
    assert facts[0][0] == whole
    p = float(against.probability[0])
    assert facts[1:] == ((f"class 0, p = {p:.2f}", "what the bits are about"),)
    line = reader.score_regions(signal, target=0, view="drop")
    figure, _ = line.figure(signal)
    words = f"drop: −{abs(float(line.total[0])):.2f} bits in the whole signal"
    assert figure.texts[1].get_text() == words


def test_places_that_were_found_are_outlined(volume):
    labels = torch.zeros(1, 1, DEEP, TALL, WIDE, dtype=torch.long)
    labels[..., :2, :2, :2] = 1
    infomask = InfoMask(lambda x: 30 * network(x) @ torch.eye(2, 50), prior="balanced")
    infomap = infomask.score_regions(
        torch.ones_like(volume), target=1, view="keep", reference="prior",
        regions=from_feature_mask(volume, labels),
    )  # fmt: skip
    _, axes = infomap.figure(contour=FalseDiscoveries(0.1), at=(0, 0, 0))
    assert bool(infomap.discoveries(0.1)[0, 1])
    assert len(axes.collections) == 2
    far, _ = infomap.figure(contour=FalseDiscoveries(0.1), at=(7, 9, 9))
    assert not far.axes[0].collections


def test_a_smaller_map_is_resized_to_its_volume(volume):
    small = np.zeros((4, 6, 5), np.float32)
    small[1, 2, 2] = 1
    figure, _ = show(small, volume, kind="volume")
    assert figure.axes[0].get_title("left").endswith("(of 8)")
    with pytest.raises(ArgumentError, match="4 × 6 × 5 voxels or the same in another size"):
        show(small, volume[..., :4], kind="volume")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"at": (0, 0)}, r"`at` to be the place \(d, h, w\)"),
        ({"at": (8, 0, 0)}, "`at` inside the volume of 8 × 12 × 10"),
        ({"at": (0, -1, 0)}, "`at` inside the volume"),
    ],
)
def test_a_point_outside_is_refused(volume_map, settings, words):
    with pytest.raises(ArgumentError, match=words):
        volume_map.figure(**settings)


def test_axes_and_points_are_for_the_maps_that_have_them(signal_map, volume_map):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    for infomap, kind in ((signal_map, "signal"), (volume_map, "volume")):
        with pytest.raises(ArgumentError, match=f"a {kind} has several panels"):
            infomap.figure(ax=axes)
    plt.close(figure)
    with pytest.raises(ArgumentError, match="`at` with the map of a volume; got one of a signal"):
        signal_map.figure(at=(0, 0, 0))
    with pytest.raises(ArgumentError, match="got one of a picture"):
        show(np.eye(4, dtype=np.float32), at=(0, 0, 0))


@pytest.mark.parametrize(
    ("given", "kind", "axes"),
    [
        (torch.ones(1, 1, 4, 5, 6), None, 4),
        (torch.ones(1, 3, 4, 5, 6), None, 5),  # four frames and the bar
        (torch.ones(1, 3, 4, 5, 6), "volume", 4),
        (torch.ones(4, 5, 6), "volume", 4),
        (torch.ones(3, 4, 5, 6), "video", 5),
        (torch.ones(12), "signal", 1),
        (torch.ones(1, 1, 12), "signal", 1),
    ],
)
def test_attributions_are_drawn_as_what_they_are_of(given, kind, axes):
    assert len(show(given, kind=kind)[0].axes) == axes


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (torch.ones(2, 1, 4, 5, 6), None, "attributions` of one volume"),
        (torch.ones(2, 1, 12), "signal", "attributions` of one signal"),
        (torch.ones(4, 5), "volume", "of a volume"),
        (torch.ones(4), "song", "`kind`"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, kind, words):
    with pytest.raises(ArgumentError, match=words):
        show(given, kind=kind)


def test_batches_are_refused_as_those_of_pictures_are(volume):
    both = volume.expand(2, -1, -1, -1, -1)
    infomap = InfoMask(network).score_regions(
        both, target=1, view="drop", sliding_window_shapes=(1, 4, 4, 5), strides=(1, 4, 4, 5)
    )
    with pytest.raises(ArgumentError, match=r"got an InfoMap of 2. show\(infomap\[0\]"):
        show(infomap, volume)
    show(infomap[1], volume)


# --- videos ------------------------------------------------------------------------------------


def test_the_label_of_a_videos_short_bar_is_in_the_figure():
    video = torch.rand(1, 3, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    layers = [nn.Conv3d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2)]
    infomap = InfoMask(nn.Sequential(*layers).eval()).score_regions(video, target=1)
    figure, _ = infomap.figure(video[0])
    figure.canvas.draw()
    (label,) = (axes.yaxis.label for axes in figure.axes if axes.get_ylabel())
    box = label.get_window_extent()
    assert label.get_text().endswith("bits per 1%")
    assert box.x0 > 0
    assert box.y0 > 0
    assert box.x1 < figure.bbox.width
    assert box.y1 < figure.bbox.height


def test_a_video_is_drawn_as_frames_with_that_of_the_peak():
    values = np.zeros((1, 3, 20, 8, 8), np.float32)
    values[:, :, 7, 2, 3] = 2.0
    film = torch.rand(1, 3, 20, 8, 8)
    figure, axes = show(values, film, unit="bits", smooth=False, alpha=0, contour=None)
    titles = [panel.get_title("left") for panel in figure.axes[:-1]]
    assert titles == [f"t = {t} (of 20)" for t in (0, 4, 7, 11, 15, 19)]
    assert axes is figure.axes[2]
    drawn = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(drawn, film[0, :, 7].permute(1, 2, 0).numpy(), atol=1 / 500)
    other, axes = show(values, film, at=(12, 0, 0))
    assert axes.get_title("left") == "t = 12 (of 20)"
    assert len(other.axes) == 7


def test_a_map_says_what_it_is_of(signal_map, volume_map):
    assert repr(signal_map).startswith(f"InfoMap({len(signal_map)} signal")
    assert repr(volume_map).startswith(f"InfoMap({len(volume_map)} volume")


# --- the page ----------------------------------------------------------------------------------


def payload_of(path):
    text = path.read_text("utf-8")
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script>', text, re.S)
    return json.loads(found.group(1)), text


def unpacked(text, kind, shape):
    """The numbers that a page holds: low bytes first, each counted from the one before."""
    flat = zlib.decompress(base64.b64decode(text))
    size = np.dtype(kind).itemsize
    steps = np.frombuffer(flat, np.uint8).reshape(size, -1).T.copy().view(kind)[:, 0]
    return steps.cumsum(dtype=kind).reshape(shape)


def test_a_page_holds_the_whole_volume_and_the_exact_map(volume, volume_map, tmp_path):
    path = tmp_path / "volume.html"
    volume_map.to_html(path, volume)
    payload, text = payload_of(path)
    (picture,) = payload["pictures"]
    held = picture["volume"]
    assert (held["depth"], picture["height"], picture["width"]) == (DEEP, TALL, WIDE)
    assert held["channels"] == 1
    grey = unpacked(held["values"], np.uint8, (DEEP, TALL, WIDE))
    np.testing.assert_array_equal(grey, np.rint(255 * volume[0, 0].numpy()))
    plane = picture["maps"][0]["plane"]
    cells = unpacked(plane["values"], np.uint32, (len(plane["rows"]), len(plane["columns"]))).view(
        np.float32
    )
    rows = np.diff([*plane["rows"], DEEP * TALL])
    columns = np.diff([*plane["columns"], WIDE])
    whole = cells.repeat(rows, 0).repeat(columns, 1).reshape(DEEP, TALL, WIDE)
    np.testing.assert_array_equal(whole, volume_map.attributions()[0, 0].numpy())
    assert picture["maps"][0]["steps"] == [1, 1, 1]  # two windows alone differ from 0
    assert held["peak"] == [0, 0, 0]
    assert "1 method on 1 volume" in text


def test_a_large_volume_makes_a_small_page(tmp_path):
    model = nn.Sequential(
        nn.Conv3d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()  # fmt: skip
    x = torch.rand(1, 1, 64, 64, 64)
    infomap = InfoMask(model).score_regions(x, target=1, view="evidence")
    path = tmp_path / "noise.html"
    infomap.to_html(path, x)
    assert path.stat().st_size < 2_000_000  # noise, the worst case
    payload, _ = payload_of(path)
    assert payload["pictures"][0]["maps"][0]["plane"]["step"] is not None
    assert payload["pictures"][0]["maps"][0]["unit"] == "bits per 1%"


def test_windows_of_a_volume_are_found_along_each_axis():
    cells = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    whole = cells.repeat(4, 0).repeat(4, 1).repeat(5, 2)
    assert window_steps(whole) == (4, 4, 5)
    assert window_steps(np.zeros((4, 4, 4), np.float32)) == (1, 1, 1)


def test_the_peak_of_a_window_is_in_its_middle():
    values = np.zeros((9, 9, 9), np.float32)
    values[3:6, 2:7, 4] = -2
    assert peak_of(values) == (4, 4, 4)


def test_a_page_shows_a_video_in_colour(tmp_path):
    film = torch.rand(1, 3, 4, 6, 6)
    infomap = InfoMask(network).score_regions(
        film, target=1, view="drop", sliding_window_shapes=(3, 2, 2, 2), strides=(3, 2, 2, 2)
    )
    content = infomap.content(film)
    held = page_payload(content)["pictures"][0]["volume"]
    assert held["isVideo"]
    assert held["channels"] == 3
    colours = unpacked(held["values"], np.uint8, (4, 6, 6, 3))
    np.testing.assert_array_equal(colours, np.rint(255 * film[0].permute(1, 2, 3, 0).numpy()))


def test_a_page_refuses_another_volume(volume_map, volume):
    with pytest.raises(ArgumentError, match="of the map's own size"):
        volume_map.content(
            volume.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat(1, 1, 1, 1, 2)
        )
    with pytest.raises(ArgumentError, match=r"x\[0, 1\] is a channel of a batch"):
        volume_map.content(volume.expand(1, 4, -1, -1, -1))


def test_several_classes_are_shown_one_at_a_time(volume):
    maps = InfoMask(network).score_classes(
        volume, view="drop", sliding_window_shapes=(1, 4, 4, 5), strides=(1, 4, 4, 5)
    )
    assert maps._repr_html_() is None
    with pytest.raises(ArgumentError, match="An InfoMap shows signals and volumes too"):
        maps.content()
    maps.rank(0).figure(volume)


@pytest.mark.parametrize("shape", [(1, 1, 24), (1, 1, 8, 8, 8)])
def test_compare_is_of_pictures(shape):
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(shape))
    with pytest.raises(ArgumentError, match=r"images \(N, C, H, W\)"):
        compare(model, torch.rand(shape), target=1)


def test_regions_of_a_volume_reach_the_page(volume):
    labels = torch.zeros(1, 1, DEEP, TALL, WIDE, dtype=torch.long)
    labels[..., :2, :2, :3] = 1
    labels[..., 0, 0, 0] = 2  # no boxes
    infomap = InfoMask(network).score_regions(
        volume, target=1, view="drop", regions=from_feature_mask(volume, labels)
    )
    regions = infomap.content().pictures[0].maps[0].regions
    np.testing.assert_array_equal(regions.labels, labels[0, 0].numpy())
    np.testing.assert_allclose(regions.scores, infomap.scores[0].numpy())


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 1, 4, 5, 6), r"x\[0\] is the first volume"),
        ((1, 2, 4, 5, 6), r"x\[0, 1\] is a channel"),
    ],
)
def test_one_volume_is_shown(shape, words):
    with pytest.raises(ArgumentError, match=words):
        volume_for("picture", torch.rand(shape), np.zeros((4, 5, 6), np.float32))
