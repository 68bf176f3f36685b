# A page of ClassMaps: a class to choose and one against it, in Python's numbers, in a real browser.
from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from browser import Offline, chromium_fixture
from page_content import HOSTILE, HOSTILE_END

from captum_infomask import ArgumentError, InfoMask, MaxFraction, grid, threshold_mask
from captum_infomask.report.colour_planes import own_limit
from captum_infomask.report.colours import Shades
from captum_infomask.report.page import page_html, static_html
from captum_infomask.report.payload import page_payload
from captum_infomask.report.smoothing import shown_plane

SIDE, CLASSES = 24, 14
NAMES = [f"name {k}" for k in range(CLASSES)]


def network(classes=CLASSES):
    generator = torch.Generator().manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE**2, classes))
    weight = torch.randn(net[1].weight.shape, generator=generator) / 12
    net[1].weight.data.copy_(weight)
    return net.eval()


def images(n=2):
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def windows(x):
    return {"sliding_window_shapes": (3, 8, 8), "strides": 4}


def pieces(x):
    return {"regions": grid(x, 3, 4)}


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


PRIOR = (torch.arange(CLASSES) + 1.0) / torch.arange(1, CLASSES + 1).sum()


@pytest.mark.parametrize("prior", [None, PRIOR])
@pytest.mark.parametrize("view", ["crop", "drop", "keep"])
@pytest.mark.parametrize("regions", [windows, pieces])
def test_a_minus_b_is_the_contrast(view, regions, prior):
    x = images()
    infomask = InfoMask(network(), prior=prior)
    options = {"view": view, **regions(x)}
    content = infomask.score_classes(x, **options).content(k=1, names=NAMES)
    (made,) = content.pictures[0].maps
    assert made.contrasts
    assert len(made.classes) == 10
    one, other = made.classes[0], made.classes[4]
    labels = [NAMES.index(each.name) for each in (one, other)]
    right = infomask.score_regions(x[1:], target=labels[0], contrast=labels[1], **options)
    assert one.total - other.total == pytest.approx(float(right.total[0]), abs=1e-5)
    plane = right.attributions()[0].mean(0).numpy()
    np.testing.assert_allclose(one.plane - other.plane, plane, atol=1e-5)
    np.testing.assert_allclose(one.scores - other.scores, right.scores[0].numpy(), atol=1e-5)
    assert np.abs(plane).max() > 0.05


def test_the_classes_are_those_of_most_information_and_the_rest_is_told():
    x = images()
    maps = InfoMask(network()).score_classes(x, view="drop", regions=grid(x, 2, 2))
    for k in (0, 1):
        content = maps.content(k=k, names=NAMES)
        (made,) = content.pictures[0].maps
        order = maps.total[k].argsort(descending=True)[:10].tolist()
        assert [each.name for each in made.classes] == [NAMES[label] for label in order]
        assert [each.total for each in made.classes] == maps.total[k][order].tolist()
        assert made.plane is made.classes[0].plane
        assert content.notes == (
            "4 more classes, about which the picture says less, are not shown.",
        )
    few = InfoMask(network()).score_classes(x, top_k=3, view="drop", regions=grid(x, 2, 2))
    assert few.content().notes == ()
    assert few.content().pictures[0].maps[0].classes[0].name == f"class {int(few.classes[0, 0])}"


def test_maps_that_do_not_add_have_no_contrast():
    x = images(1)
    options = {"view": "crop", **windows(x)}
    for overlap, contrasts in (("mean", True), ("max", False), ("mixture", False)):
        maps = InfoMask(network()).score_classes(x, top_k=3, overlap=overlap, **options)
        (made,) = maps.content().pictures[0].maps
        assert made.contrasts == contrasts
        (payload,) = page_payload(maps.content())["pictures"][0]["maps"]
        assert payload["contrasts"] == contrasts


def test_a_contrast_that_was_asked_for_is_named():
    x = images(1)
    maps = InfoMask(network()).score_classes(
        x, classes=[0, 1, 2], contrast=5, view="drop", regions=grid(x, 2, 2)
    )
    assert maps.content().pictures[0].maps[0].meaning == "less what it says about class 5"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": 2}, "`k` from 0 to 1"),
        ({"names": ["a"] * 3}, "`names` to be a list of the classes' names, at least"),
        ({"names": "abc"}, "`names`"),
        ({"picture": np.zeros((3, 3, 3), np.uint8)}, "`picture`"),
    ],
)
def test_wrong_arguments_are_refused(arguments, words, tmp_path):
    x = images()
    maps = InfoMask(network()).score_classes(x, view="drop", regions=grid(x, 2, 2))
    for make in (maps.content, maps.widget, lambda **g: maps.to_html(tmp_path / "a.html", **g)):
        with pytest.raises(ArgumentError, match=words):
            make(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_static_pictures_show_a_map_per_class(photo):
    x = images(1)
    maps = InfoMask(network()).score_classes(x, top_k=3, view="drop", regions=grid(x, 2, 2))
    fragment = static_html(maps.content(photo, names=NAMES))
    for label in maps.classes[0].tolist():
        assert f"InfoMask drop, {NAMES[label]}" in fragment
    assert fragment.count("attribution by") == 3
    assert "<script" not in fragment
    assert maps._repr_html_().count("attribution by") == 3
    pixel_list = InfoMask(lambda v: 3 * v[:, :3]).score_classes(
        torch.rand(1, 6), view="drop", regions=None
    )
    assert pixel_list._repr_html_() is None
    assert pixel_list._repr_mimebundle_() is None


chromium = chromium_fixture()

READ = """() => {
  const read = (kind) => {
    const canvas = document.querySelector(`canvas[data-panel=${kind}]`);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return btoa(String.fromCharCode(...data));
  };
  return { overlay: read("overlay"), mask: read("mask") };
}"""


@pytest.fixture
def open_page(chromium, tmp_path):
    made = []

    def open_content(content, **screen):
        path = tmp_path / "classes.html"
        path.write_text(page_html(content), encoding="utf-8")
        made.append(Offline(chromium, **screen))
        return made[-1].open(path), made[-1]

    yield open_content
    for opened in made:
        assert opened.complaints == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in opened.requests)
        opened.close()


def check_drawn(page, plane, photo):
    """The overlay and the mask on the page are Python's of this plane."""
    read = page.evaluate(READ)
    overlay, mask = (
        np.frombuffer(base64.b64decode(read[kind]), np.uint8).reshape(SIDE, SIDE, 4)
        for kind in ("overlay", "mask")
    )
    expected = 255 * Shades(own_limit(plane)).over(shown_plane(plane), photo / 255)
    assert np.abs(overlay[..., :3] - expected).max() < 4
    kept = threshold_mask(torch.from_numpy(plane)[None], MaxFraction(0.2))[0].numpy()
    assert (mask[..., 3] == 255 * kept).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The mask of example")
@pytest.mark.parametrize("regions", [windows, pieces])
def test_a_class_is_chosen_and_another_held_against_it(open_page, photo, regions):
    x = images(1)
    maps = InfoMask(network()).score_classes(x, view="crop", **regions(x))
    (made,) = maps.content(names=NAMES).pictures[0].maps
    page, viewer = open_page(maps.content(photo, names=NAMES))
    one, other = page.get_by_label("Why"), page.get_by_label("rather than")
    words = page.locator(".cim-class-words")
    check_drawn(page, made.plane, photo)
    assert words.text_content() == (
        f"{made.classes[0].total:.2f} bits is what the whole picture says about "
        f"{made.classes[0].name}."
    )
    one.select_option(index=3)
    viewer.settle()
    check_drawn(page, made.classes[3].plane, photo)
    other.select_option(label=f"{made.classes[1].name} ({made.classes[1].total:.2f} bits)")
    viewer.settle()
    plane = made.classes[3].plane - made.classes[1].plane
    check_drawn(page, plane, photo)
    difference = made.classes[3].total - made.classes[1].total
    said = words.text_content().replace("\u2212", "-")
    assert said.startswith(f"{difference:.2f} bits is what the whole picture says for ")
    assert "the log ratio of their probabilities, less that of their priors" in said
    # The region under the pointer has the contrast's score.
    box = page.locator(".cim-stage-overlay").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 5.5 / SIDE, box["y"] + box["height"] * 3.5 / SIDE)
    scores = made.classes[3].scores - made.classes[1].scores
    read = page.locator(".cim-region-score").text_content().replace("\u2212", "-")
    found = float(read.removeprefix("region ").removesuffix(" bits"))
    if made.regions.labels is not None:
        assert found == pytest.approx(scores[made.regions.labels[3, 5]], abs=0.006)
    else:
        assert np.abs(scores - found).min() < 0.006
    # No class is held against itself.
    chosen = one.locator("option").nth(1)
    assert chosen.evaluate("(option) => option.disabled")
    assert other.locator("option").nth(1 + 3).evaluate("(option) => option.disabled")
    other.select_option(index=0)
    viewer.settle()
    check_drawn(page, made.classes[3].plane, photo)


@pytest.mark.slow
def test_each_class_has_its_own_standard_errors_and_a_contrast_has_none(open_page, photo):
    x = images(1)
    maps = InfoMask(network()).score_classes(x, crop_jitter=0.3, regions=grid(x, 1, 1))
    content = maps.content(photo, names=NAMES)
    (made,) = content.pictures[0].maps
    page, viewer = open_page(content)
    box = page.locator(".cim-stage-overlay").bounding_box()
    for k, other, error in ((0, 0, True), (3, 0, True), (3, 2, False), (2, 0, True)):
        page.get_by_label("rather than").select_option(index=0)
        page.get_by_label("Why").select_option(index=k)
        page.get_by_label("rather than").select_option(index=other)
        viewer.settle()
        page.mouse.move(0, 0)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        read = page.locator(".cim-region-score").text_content()
        found = read.removeprefix("region ").removesuffix(" bits").split(" ± ")
        assert len(found) == 1 + error
        own = float(maps.stacked.standard_errors[0, 0, maps.total[0].argsort(descending=True)[k]])
        assert own == pytest.approx(float(made.classes[k].errors[0]))
        assert not error or float(found[1]) == pytest.approx(own, abs=0.006)
    payload = page_payload(content)["pictures"][0]["maps"][0]
    assert payload["regions"]["errors"] == payload["classes"][0]["errors"]
    plain = InfoMask(network()).score_classes(x, view="crop", regions=grid(x, 1, 1))
    payload = page_payload(plain.content(photo, names=NAMES))["pictures"][0]["maps"][0]
    assert set(payload["regions"]) == {"scores", "boxes", "labels"}
    assert all("errors" not in each for each in payload["classes"])


@pytest.mark.slow
def test_the_keyboard_chooses_classes(open_page, photo):
    x = images(1)
    maps = InfoMask(network()).score_classes(x, view="drop", regions=grid(x, 3, 3))
    (made,) = maps.content(names=NAMES).pictures[0].maps
    page, viewer = open_page(maps.content(photo, names=NAMES))
    page.get_by_label("Why").focus()
    page.keyboard.press("ArrowDown")
    viewer.settle()
    check_drawn(page, made.classes[1].plane, photo)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "cim-other-class"


@pytest.mark.slow
def test_the_same_scale_holds_all_classes(open_page, photo):
    x = images(1)
    maps = InfoMask(network()).score_classes(x, view="drop", regions=grid(x, 3, 3))
    (made,) = maps.content(names=NAMES).pictures[0].maps
    page, viewer = open_page(maps.content(photo, names=NAMES))
    page.get_by_label("Same scale").check()
    most = max(own_limit(each.plane) for each in made.classes)
    for k in (0, 9):
        page.get_by_label("Why").select_option(index=k)
        viewer.settle()
        end = page.locator(".cim-scale-ends span").last.text_content()
        assert float(end) == pytest.approx(most, rel=0.05)


@pytest.mark.slow
def test_hostile_names_stay_text_and_maps_that_do_not_add_have_one_choice(open_page, photo):
    x = images(1)
    maps = InfoMask(network(2)).score_classes(x, view="crop", overlap="max", **windows(x))
    page, _ = open_page(maps.content(photo, names=[HOSTILE, HOSTILE_END]))
    assert page.locator("img[src=x], [onerror]").count() == 0
    assert page.locator("script").count() == 2
    options = page.locator(".cim-class option").all_text_contents()
    assert {option.rsplit(" (", 1)[0] for option in options} == {HOSTILE, HOSTILE_END}
    assert page.locator(".cim-other-class").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 800, 1440])
def test_the_choice_fits_every_screen(open_page, photo, width):
    x = images(1)
    maps = InfoMask(network()).score_classes(x, view="drop", regions=grid(x, 3, 3))
    content = maps.content(photo, names=["a name without an end " * 6] * CLASSES)
    page, _ = open_page(content, viewport={"width": width, "height": 800})
    page.get_by_label("rather than").select_option(index=4)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in (".cim-class", ".cim-other-class", ".cim-stage-overlay"):
        box = page.locator(selector).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
