# show and InfoMap.figure: one map over its picture.
from __future__ import annotations

import sys
from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, Saliency
from PIL import Image

from captum_infomask import ArgumentError, AtLeast, InfoMask, MaxFraction, grid, show
from captum_infomask.report.colours import Shades
from captum_infomask.report.overlay import outlined, overlay_figure, suited_contour
from captum_infomask.report.smoothing import limit_of, shown_mask, smooth_plane
from captum_infomask.report.words import decimals
from captum_infomask.results.shown_inputs import photo_of

SIDE = 32


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 5),
    ).eval()


@pytest.fixture(scope="module")
def x():
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def photo(x):
    return np.rint(255 * x[0].permute(1, 2, 0).numpy()).astype(np.uint8)


def ramp(high=1.0, low=0.0):
    return np.linspace(low, high, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)


def drawn(axes):
    return np.asarray(axes.images[0].get_array())


# --- the colours -------------------------------------------------------------------------------


def test_the_picture_keeps_its_own_colours_near_zero(photo):
    plane = np.zeros((SIDE, SIDE), np.float32)
    plane[:, SIDE // 2 :] = 2.0
    plane[0, 0] = 0.19  # less than a tenth of the limit
    _, axes = show(plane, photo, smooth=False, contour=None)
    left = slice(None), slice(SIDE // 2)
    np.testing.assert_allclose(drawn(axes)[left], photo[left] / 255, atol=1e-12)
    far = np.abs(drawn(axes)[:, SIDE // 2 :] - photo[:, SIDE // 2 :] / 255).mean()
    assert far > 0.2


def test_opacity_is_the_equation_of_the_docstring():
    values, ground = ramp(3.0, -3.0), np.zeros((SIDE, SIDE, 3))
    over = Shades(3.0, mpl.colormaps["gray"].with_extremes(), True, 0.6).over(values, ground)
    t = np.clip((np.abs(values) / 3 - 0.1) / 0.8, 0, 1)
    grey = mpl.colormaps["gray"]((1 + values / 3) / 2)[..., :3]
    np.testing.assert_allclose(over, (0.6 * t**2 * (3 - 2 * t))[..., None] * grey, atol=1e-6)


def test_signs_have_colours_that_differ_without_red_and_green():
    warm, cold = Shades(1.0).colours(np.array([1.0, -1.0], np.float32))
    assert warm[2] < 0.3
    assert cold[2] > 0.8  # blue alone tells them apart


@pytest.mark.parametrize("low", [0.0, -2.0])
def test_a_colour_map_starts_at_zero_unless_values_fall_below_it(low):
    plane = ramp(2.0, low)
    _, axes = show(plane, cmap="gray", alpha=1, smooth=False, contour=None)
    top, bottom = drawn(axes)[-1, -1], drawn(axes)[0, 0]
    np.testing.assert_allclose(top, 1)
    np.testing.assert_allclose(bottom, 0 if low else 0.96)  # 0 is the bare ground


def test_unknown_values_show_the_ground(photo):
    plane = ramp()
    plane[4, 4], plane[5, 5] = np.nan, np.inf
    figure, axes = show(plane, photo, contour=None)
    np.testing.assert_allclose(drawn(axes)[4, 4], photo[4, 4] / 255)
    assert np.isfinite(drawn(axes)).all()
    assert figure.axes[1].get_ylim() == pytest.approx((0, 1))


def test_maps_of_nothing_and_of_next_to_nothing_are_drawn(photo):
    figure, axes = show(np.zeros((SIDE, SIDE), np.float32), photo)
    np.testing.assert_allclose(drawn(axes), photo / 255)
    assert not axes.collections
    tiny, _ = show(ramp(1e-9), photo)
    assert tiny.axes[1].get_ylim() == pytest.approx((0, 1e-9))
    assert len(figure.axes) == 2


# --- the outline -------------------------------------------------------------------------------


def test_the_rest_is_dimmed_and_the_bar_shows_the_threshold(photo):
    plane = np.zeros((SIDE, SIDE), np.float32)
    plane[8:24, 8:24] = 2.0
    figure, axes = show(plane, photo, alpha=0, smooth=False, contour=AtLeast(1.5))
    inside = np.zeros((SIDE, SIDE), bool)
    inside[8:24, 8:24] = True
    want = np.where(inside[..., None], 1, 0.7) * photo / 255
    np.testing.assert_allclose(drawn(axes), want, atol=1e-12)
    assert len(axes.collections) == 2  # a dark rim and a white line
    assert {line.get_ydata()[0] for line in figure.axes[1].lines} == {1.5}
    _, plain = show(plane, photo, alpha=0, contour=None)
    np.testing.assert_allclose(drawn(plain), photo / 255, atol=1e-12)
    assert not plain.collections


@pytest.mark.parametrize(
    ("largest", "bit", "want"),
    [
        (3.0, 1.0, AtLeast(1.0)),
        (3.0, 0.5, AtLeast(0.5)),
        (0.9, 1.0, MaxFraction(0.5)),
        (3.0, None, MaxFraction(0.5)),
        (0.0, 1.0, None),
        (-1.0, 1.0, None),
    ],
)
def test_the_outline_is_one_bit_where_there_is_one(largest, bit, want):
    assert suited_contour(ramp(largest, -2.0), bit) == want


def test_nats_are_outlined_at_one_bit(network, x):
    for unit, want in (("bits", 1.0), ("nats", np.log(2))):
        found = InfoMask(lambda x: 9 * network(x), unit=unit).score_regions(
            x, target=2, view="crop", regions=grid(x, 4, 4)
        )
        scores = found.scores - found.scores.max() + 3 * want
        raised = type(found)(**{**vars(found), "scores": scores})
        figure, _ = show(raised, x)
        assert figure.axes[1].lines[0].get_ydata()[0] == pytest.approx(want)
        assert figure.axes[1].get_ylabel() == unit


def test_a_number_is_a_share_of_the_maximum_as_for_masks(photo):
    figure, _ = show(ramp(2.0), photo, contour=0.25)
    top = figure.axes[1].lines[0].get_ydata()[0]
    assert top == pytest.approx(0.25 * smooth_plane(ramp(2.0)).max())


def test_shown_masks_have_no_specks_and_no_holes():
    mask = np.zeros((200, 200), bool)
    mask[40:120, 40:120] = True
    mask[60:70, 60:70] = False  # 100 pixels, below 0.5% of 40,000
    mask[80:100, 80:100] = False  # 400 pixels
    mask[150:160, 150:160] = True
    mask[160:190, 10:40] = True
    made = shown_mask(mask)
    assert made[65, 65]
    assert not made[90, 90]
    assert not made[155, 155]
    assert made[175, 25]
    assert not made[40, 40]  # the corner is round
    assert (made != mask).mean() < 0.02


def test_a_mask_of_specks_keeps_them():
    mask = np.zeros((100, 100), bool)
    mask[::9, ::9] = True
    np.testing.assert_array_equal(shown_mask(mask), mask)
    assert not shown_mask(np.zeros((9, 9), bool)).any()
    assert shown_mask(np.ones((9, 9), bool)).all()


def test_windows_run_into_each_other_and_stay_in_range():
    plane = np.arange(16, dtype=np.float32).reshape(4, 4).repeat(8, 0).repeat(8, 1)
    soft = smooth_plane(plane)
    assert np.abs(np.diff(soft, axis=1)).max() < 0.3 < np.abs(np.diff(plane, axis=1)).max()
    assert plane.min() <= soft.min()
    assert soft.max() <= plane.max()


def test_the_outline_follows_what_is_shown(photo):
    mask, threshold = outlined(ramp(), MaxFraction(0.5))
    assert threshold == 0.5
    np.testing.assert_array_equal(mask, ramp() >= 0.5)


# --- what it takes -----------------------------------------------------------------------------


def test_any_form_of_attributions_gives_one_picture(network, x):
    made = Saliency(network).attribute(x.clone().requires_grad_(), target=1)
    want = drawn(show(made, x)[1])
    plane = made[0].mean(0)
    last = made[0].permute(1, 2, 0).numpy()
    for form in (made[0], plane, plane.numpy(), last, (made,), [made], made.double(), made.half()):
        np.testing.assert_allclose(drawn(show(form, x)[1]), want, atol=2e-3)


def test_a_small_map_is_resized_to_the_picture(network, x, photo):
    made = LayerGradCam(network, network[0]).attribute(x, 1, relu_attributions=True)
    assert made.shape[-1] < 10
    large = np.asarray(Image.fromarray(photo).resize((96, 96)))
    figure, axes = show(made, large, contour=None)
    assert drawn(axes).shape == (96, 96, 3)
    wide = torch.nn.functional.interpolate(made.detach(), (96, 96), mode="bilinear")[0, 0].numpy()
    limit = float(made.detach().max())
    np.testing.assert_allclose(
        drawn(axes), Shades(limit).over(wide, large / 255).clip(0, 1), atol=1e-5
    )
    assert figure.axes[1].get_ylim()[1] == pytest.approx(limit)


def test_windows_run_into_each_other_over_a_larger_picture(photo):
    plane = np.arange(16, dtype=np.float32).reshape(4, 4).repeat(8, 0).repeat(8, 1)
    large = np.zeros((128, 128, 3), np.uint8)
    settings = {"cmap": "gray", "alpha": 1, "contour": None}
    soft, sharp = (drawn(show(plane, large, smooth=one, **settings)[1]) for one in (True, False))
    assert np.abs(np.diff(soft[..., 0], axis=1)).max() < 0.03
    assert len(np.unique(sharp[..., 0])) == 15  # the two smallest are see-through


@pytest.mark.parametrize(
    "form",
    [
        lambda x, photo: photo,
        lambda x, photo: Image.fromarray(photo),
        lambda x, photo: photo / 255,
        lambda x, photo: torch.from_numpy(photo).permute(2, 0, 1),
        lambda x, photo: (x * 255).round() / 255,
        lambda x, photo: ((x * 255).round() / 255)[0],
    ],
)
def test_any_form_of_a_picture_is_the_same(form, x, photo):
    np.testing.assert_array_equal(photo_of("picture", form(x, photo)), photo)


def test_normalised_pictures_are_stretched_and_grey_ones_are_grey(photo):
    values = torch.tensor([[[-2.0, 0.0, 2.0]]])
    assert photo_of("picture", values)[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]
    assert photo_of("picture", photo[..., 0]).shape == (SIDE, SIDE, 3)
    sixteen = np.array([[0, 65535]], np.uint16)
    assert photo_of("picture", sixteen)[0, :, 0].tolist() == [0, 255]
    assert photo_of("picture", np.full((2, 2), 7.0))[0, 0].tolist() == [0] * 3


def test_what_it_draws_is_not_changed(network, x, photo):
    made = Saliency(network).attribute(x.clone().requires_grad_(), target=1)
    before = made.clone(), photo.copy(), x.clone(), dict(mpl.rcParams)
    show(made, photo)
    show(made, x)
    assert torch.equal(made, before[0])
    assert torch.equal(x, before[2])
    np.testing.assert_array_equal(photo, before[1])
    assert dict(mpl.rcParams) == before[3]
    assert plt.get_fignums() == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (40, 1)])
def test_lines_of_pixels_are_drawn(shape):
    plane = np.random.default_rng(0).random(shape).astype(np.float32)
    assert drawn(show(plane)[1]).shape == (*shape, 3)


def test_a_part_of_a_figure_gives_the_figure(photo):
    figure = mpl.figure.Figure()
    left, _ = figure.subfigures(1, 2)
    assert show(ramp(), photo, ax=left.subplots())[0] is figure


def test_it_draws_into_the_users_axes(photo):
    figure, panels = plt.subplots(1, 2)
    try:
        found, axes = show(ramp(), photo, ax=panels[1], title="right")
        assert found is figure
        assert axes is panels[1]
        assert not panels[0].images
        assert len(figure.axes) == 3
        assert axes.get_title("left") == "right"
    finally:
        plt.close(figure)


def test_size_and_sharpness_follow_the_picture():
    wide, _ = show(np.zeros((20, 60), np.float32))
    tall, _ = show(np.zeros((60, 20), np.float32))
    assert wide.get_figwidth() == tall.get_figwidth()
    assert wide.get_figheight() < 2
    assert tall.get_figheight() > 10
    assert wide.dpi == 200
    for axes in (wide.axes[0], tall.axes[0]):
        box = axes.get_window_extent()
        assert box.height / box.width == pytest.approx(20 / 60 if axes.figure is wide else 3)


# --- InfoMap -----------------------------------------------------------------------------------


def test_an_infomap_says_its_bits(network, x, photo):
    found = InfoMask(network).score_regions(x, target=2)
    figure, axes = show(found, photo)
    words = " ".join(text.get_text() for text in axes.texts).replace("\n", " ")
    total, whole = float(found.total), float(found.attributions().sum() / 3)
    said = f"{decimals(total)} bits in the whole picture, {decimals(whole)} in the map"
    assert said in words
    assert figure.axes[1].get_ylabel().endswith("bits per 1% of the picture")
    np.testing.assert_array_equal(drawn(axes), drawn(found.figure(photo)[1]))
    titled = show(found, photo, title="mine")[1]
    assert titled.get_title("left") == "mine"
    assert not "".join(text.get_text() for text in titled.texts)


def test_the_title_says_the_class_and_its_probability(network, x):
    names = ["cat", "dog", "espresso", "tripod", "cup"]
    p = float(network(x).detach().softmax(1)[0, 2])
    for infomask, words in (
        (InfoMask(network), f"class 2, p = {p:.2f}"),
        (InfoMask(network, categories=names), f"espresso, p = {p:.2f}"),
        (InfoMask(network, head="raw"), "class 2"),
        (InfoMask(lambda x: network(x)[:, 2], head="raw"), "InfoMask drop"),
    ):
        target = None if words.startswith("InfoMask") else 2
        found = infomask.score_regions(x, target=target, view="drop", regions=grid(x, 2, 2))
        assert show(found)[1].get_title("left") == words


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"unit": "nats"},
        {"prior": torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1])},
        {"head": "sigmoid"},
        {"head": "sigmoid", "prior": 0.2},
        {"temperature": 2.5},
        {"groups": [[0, 2], [1, 3, 4]]},
    ],
)
def test_the_probability_is_the_networks_own(network, x, settings, tmp_path):
    two = torch.cat([x, 1 - x])
    found = InfoMask(network, **settings).score_regions(
        two, target=[1, 0], view="drop", regions=grid(x, 2, 2)
    )
    logits = network(two).detach().double() / settings.get("temperature", 1)
    p = logits.sigmoid() if "head" in settings else logits.softmax(1)
    if "groups" in settings:
        p = torch.stack([p[:, group].sum(1) for group in settings["groups"]], 1)
    want = p[torch.arange(2), [1, 0]].float()
    torch.testing.assert_close(found.probability, want)
    found.save(tmp_path / "map")
    assert torch.equal(type(found).load(tmp_path / "map").probability, found.probability)
    assert torch.equal(found[1].probability, found.probability[1:])
    against = InfoMask(network, **settings).score_regions(
        two, target=1, contrast=0, view="drop", regions=grid(x, 2, 2)
    )
    assert against.probability is None


def test_titles_are_text(photo):
    for words in ("$x$ <b>", "\x1b[2J" + 90 * "long "):
        figure, axes = show(ramp(), photo, title=words)
        figure.canvas.draw()
        assert "\x1b" not in axes.get_title("left")
        assert all(len(line) < 60 for line in axes.get_title("left").split("\n"))


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"attributions": torch.zeros(2, 3, 4, 4)}, r"`attributions` of one image.*show\(attr"),
        ({"attributions": "a.png"}, "`attributions` to be an InfoMap, or"),
        ({"attributions": torch.zeros(4)}, "`attributions` to be an InfoMap, or"),
        ({"attributions": torch.zeros(0, 4)}, "`attributions` to be an InfoMap, or"),
        ({"attributions": (ramp(), ramp())}, "`attributions` to be an InfoMap, or"),
        ({"picture": np.zeros((32, 16, 3), np.uint8)}, "`picture` to show what.*32 × 32.*32 × 16"),
        ({"picture": "photo.png"}, "`picture` to be Pillow's picture.*'photo.png'"),
        ({"picture": torch.zeros(2, 3, 32, 32)}, "`picture` to be Pillow's"),
        ({"picture": np.full((32, 32, 3), np.nan)}, "`picture` to have finite pixels"),
        ({"picture": np.zeros((32, 32), bool)}, "`picture` to have finite pixels"),
        ({"ax": "left"}, "`ax` to be axes"),
        ({"cmap": "jett"}, "`cmap` to be a colour map of matplotlib.*'jett'"),
        ({"alpha": 1.2}, "`alpha` from 0 to 1; got 1.2"),
        ({"alpha": -0.1}, "`alpha` to be a finite number of at least 0"),
        ({"smooth": 3}, "`smooth` to be True or False"),
        ({"unit": 3}, "`unit` to be words"),
        ({"contour": "otsu"}, "`contour` to be a rule object"),
        ({"contour": 2.0}, "`contour`"),
        ({"title": 3}, "`title` to be words"),
    ],
)
def test_errors_name_the_argument(arguments, words):
    with pytest.raises(ArgumentError, match=words):
        show(**{"attributions": ramp(), **arguments})


def test_misspelt_settings_are_told():
    with pytest.raises(TypeError, match="'colormap'"):
        show(ramp(), colormap="jet")
    with pytest.raises(TypeError, match="Did you mean 'alpha'"):
        show(ramp(), alfa=1)


def test_several_images_and_other_results_say_how_to_draw_them(network, x):
    infomask = InfoMask(network)
    two = infomask.score_regions(torch.cat([x, x]), target=2, view="drop", regions=grid(x, 2, 2))
    with pytest.raises(ArgumentError, match=r"show\(infomap\[0\], picture\)"):
        show(two, x)
    maps = infomask.score_classes(x, top_k=2, view="drop", regions=grid(x, 2, 2))
    with pytest.raises(ArgumentError, match=r"rank\(0\)"):
        show(maps, x)


# --- notebooks ---------------------------------------------------------------------------------


def test_a_notebook_shows_the_figure_once(monkeypatch, photo):
    shown = []
    shell = SimpleNamespace(kernel=object())
    display = SimpleNamespace(display=shown.append)
    fake = SimpleNamespace(get_ipython=lambda: shell, display=display)
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    made = show(ramp(), photo)
    assert shown == [made.figure]
    data, size = made.figure._repr_png_()
    assert data.startswith(b"\x89PNG")
    assert size == {"width": round(96 * made.figure.get_figwidth())}
    assert made._ipython_display_() is None
    figure, panel = plt.subplots()
    try:
        show(ramp(), photo, ax=panel)
    finally:
        plt.close(figure)
    assert len(shown) == 1


def test_an_infomap_has_its_colour_bar_in_a_notebook(network, x):
    found = InfoMask(network).score_regions(x, target=2)
    fragment = found._repr_html_()
    assert fragment.startswith('<img src="data:image/png;base64,')
    assert "InfoMap(1 image" in fragment
    assert "<script" not in fragment


def test_limits_are_of_finite_values():
    assert limit_of(np.array([[np.nan, -3.0], [np.inf, 2.0]], np.float32)) == 3
    assert limit_of(np.zeros((2, 2), np.float32)) == 1


def test_a_figure_needs_no_title(photo):
    figure, axes = overlay_figure(None, ramp(), "bits", photo, Shades(1.0))
    assert axes.get_title("left") == ""
    assert figure.get_figheight() < 4.6


@pytest.mark.parametrize("kind", ["3d", "polar", "removed"])
def test_axes_that_show_no_picture_are_refused(kind, photo):
    figure = plt.figure()
    axes = figure.add_subplot(projection=None if kind == "removed" else kind)
    if kind == "removed":
        axes.remove()
    with pytest.raises(ArgumentError, match="`ax` to be axes of matplotlib, flat ones"):
        show(np.eye(SIDE), photo, ax=axes)
    plt.close(figure)


def test_several_rules_are_refused(photo):
    with pytest.raises(ArgumentError, match="`contour`"):
        show(np.eye(SIDE), photo, contour=np.array([0.2, 0.5]))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_pictures_of_more_than_8_bits_keep_their_greys(dtype):
    deep = Image.fromarray(np.array([[1000, 1500, 2000]], dtype))
    assert photo_of("picture", deep)[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]


@pytest.mark.parametrize(
    ("largest", "power", "label"),
    [
        (3e-5, -5, "10⁻⁵ attribution"),
        (-2.5e-4, -4, "10⁻⁴ attribution"),
        (4e12, 12, "10¹² attribution"),
        (0.5, 0, "attribution"),
    ],
)
@pytest.mark.parametrize("kind", ["picture", "signal"])
def test_long_numbers_are_multiples_of_a_power_that_the_unit_names(kind, largest, power, label):
    values = largest * np.linspace(0, 1, 64, dtype=np.float32)
    figure, axes = show(values.reshape((1, 8, 8) if kind == "picture" else (1, 1, 64)), kind=kind)
    axis = (figure.axes[1] if kind == "picture" else axes).yaxis
    figure.canvas.draw()
    assert axis.get_label().get_text() == label
    assert axis.get_offset_text().get_text() == ""
    low, high = axis.get_view_interval()
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    numbers = [tick.label1.get_text() or tick.label2.get_text() for tick in ticks]
    assert len(set(numbers)) == len(ticks) > 1
    assert max(map(len, numbers)) <= 5
    told = [10.0**power * float(number.replace("−", "-")) for number in numbers]
    assert told == pytest.approx([tick.get_loc() for tick in ticks])
