# The comparison: which layer Grad-CAM looks at, the windows, and how the result shows itself.
from __future__ import annotations

import csv
import dataclasses
import datetime
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from small_net import SmallNet
from state import unchanged
from tiny import Net, images, randomise
from torch import Tensor, nn
from torchvision import models
from ulps import within_ulps

from captum_infomask import (
    ArgumentError,
    AtLeast,
    Comparison,
    Hysteresis,
    InfoMask,
    MaxFraction,
    Otsu,
    TopFraction,
    compare,
    superpixels,
)
from captum_infomask.comparison.gradcam_layers import layer_map
from captum_infomask.engines.reached import named_layer
from captum_infomask.evaluation.method_calls import square_windows


class Tokens(nn.Module):
    """A small vision transformer: a convolution, then tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)
        randomise(self, scale=0.3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.mix(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(tokens.mean(1))


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.conv(x)
        raise RuntimeError("no answer")


# --- layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet18", "layer4"), ("vgg11", "avgpool"), ("mobilenet_v3_small", "features")],
)
def test_the_last_feature_map_of_known_networks(name, layer):
    network = models.get_model(name).eval()
    assert layer_map(network, torch.rand(1, 3, 64, 64)).module is network.get_submodule(layer)


def test_finding_the_layer_changes_nothing():
    network = Net().train()
    network.conv.eval()
    with unchanged(network):
        assert layer_map(network, images(1)).module is network.norm
    failing = Failing().train()
    with unchanged(failing), pytest.raises(RuntimeError, match="no answer"):
        layer_map(failing, images(1))


def test_networks_without_a_last_feature_map_are_refused():
    with pytest.raises(ArgumentError, match=r"Tokens its last layers work on tokens.*--layer"):
        layer_map(Tokens(), images(1))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(ArgumentError, match="no layer's output is one"):
        layer_map(flat, images(1))


class Branches(nn.Module):
    """Two feature maps side by side, and one that nothing is made of."""

    def __init__(self, side_by_side: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.unused, self.head = nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
        self.side_by_side = side_by_side

    def forward(self, x: Tensor) -> Tensor:
        maps = self.first(x)
        if self.side_by_side:
            maps = maps.relu() + torch.tanh(self.second(x))
        self.unused(maps)
        return self.head(maps.mean((2, 3)))


def test_feature_maps_side_by_side_are_named():
    with pytest.raises(ArgumentError, match="several lie side by side: 'first', 'second'"):
        layer_map(Branches(side_by_side=True), images(1))
    alone = Branches(side_by_side=False)
    assert layer_map(alone, images(1)).module is alone.first


def test_a_layer_by_name():
    network = models.resnet18()
    assert named_layer(network, "layer4.1.conv2") is network.layer4[1].conv2
    with pytest.raises(ArgumentError, match=r"Nearest: layer4\.1\.conv2"):
        named_layer(network, "layer4.1.conv")


# --- windows -----------------------------------------------------------------------------------


def test_the_windows_of_a_photograph():
    inputs = torch.zeros(1, 3, 224, 300)
    assert square_windows(inputs) == ((3, 56, 56), (3, 28, 28))
    assert square_windows(inputs, 40) == ((3, 40, 40), (3, 20, 20))
    assert square_windows(torch.zeros(1, 1, 3, 3))[0] == (1, 2, 2)


@pytest.mark.parametrize(
    ("side", "stride", "argument"),
    [(9, None, "window"), (0, None, "window"), (4, 5, "stride"), (4, 0, "stride")],
)
def test_windows_that_do_not_fit_are_refused(side, stride, argument):
    with pytest.raises(ArgumentError, match=f"`{argument}`"):
        square_windows(images(1), side, stride)


# --- the result --------------------------------------------------------------------------------

HOSTILE = "<img src=x onerror=alert(1)>"


def fails_second(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    if target == 2:
        raise RuntimeError("no answer")
    return inputs


@pytest.fixture(scope="module")
def found() -> Comparison:
    torch.manual_seed(0)
    network = SmallNet(dtype=torch.float32).eval()
    x = images(3)
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)}
    labels = torch.arange(16).reshape(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1)
    labels[0, 0] = 1  # regions that are no rectangles
    methods = {
        "InfoMask": (InfoMask(network), {"view": "crop", **windows}),
        "labels": (InfoMask(network), {"view": "drop", "feature_mask": labels}),
        "part": fails_second,
        "never": lambda model, inputs, target: 1 / 0,
    }
    truth = torch.zeros(3, 8, 8, dtype=torch.bool)
    truth[:, 2:5, 3:6] = True
    return compare(
        network, x, [1, 2, 3], methods=methods, metrics=["deletion", "iou"], ground_truth=truth,
        categories=("a", "b", HOSTILE, "d"), seed=11,
    )  # fmt: skip


def of_many(found: Comparison) -> Comparison:
    """The same with intervals, as more pictures have them."""
    outcomes = [
        dataclasses.replace(
            outcome,
            differences={
                name: dataclasses.replace(gap, low=-0.125, high=0.25)
                for name, gap in outcome.differences.items()
            },
        )
        for outcome in found.outcomes
    ]
    return dataclasses.replace(found, outcomes=tuple(outcomes))


def test_looking_a_method_up(found):
    assert repr(found) == "Comparison(3 pictures × 4 methods)"
    assert repr(found["part"]) == "MethodOutcome('part', 2 of 3 pictures, a.u.)"
    assert found["part"].done.tolist() == [True, False, True]
    with pytest.raises(ArgumentError, match="Did you mean 'InfoMask'"):
        found["InfoMsk"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.seed = 1
    assert found.probabilities == pytest.approx(np.exp(found.log_probabilities))
    assert found.information == pytest.approx(found.log_probabilities / math.log(2) + 2)
    assert set(found.versions) == {"python", "torch", "captum", "captum-infomask", "numpy"}
    assert found.versions["torch"] == torch.__version__


def test_means_are_over_the_pictures_that_have_one(found):
    part = found["part"]
    assert part.mean("deletion") == pytest.approx(part.metrics["deletion"][[0, 2]].mean())
    assert math.isnan(found["never"].mean("deletion"))
    assert part.share[1] != part.share[1]


def test_the_text(found):
    text = str(found)
    assert text == found.text()
    assert re.search(rf"Picture 1: {re.escape(HOSTILE)} \(class 2, ", text)
    assert "Windows:" not in text  # what is given by name may have any
    assert re.search(r"InfoMask +10 +\d+\.\d\d +-?\d+\.\d\d bits +\d+\.\d%", text)
    assert re.search(r"never +- +-.*failed: ZeroDivisionError: division by zero", text)
    assert "part failed on 1 of 3 pictures, first on picture 1: RuntimeError: no answer" in text
    assert re.search(r"method +deletion \(lower is better\) +iou \(higher is better\)", text)
    assert "[" not in text  # three pictures
    text = of_many(found).text()
    assert re.search(r"labels +\d\.\d+ \[-0\.125, \+0\.250\]", text)
    assert "[95% interval of the difference from InfoMask]" in text
    single = dataclasses.replace(found, labels=("a",))
    assert single.text().startswith("Target: a (class 1, ")


def test_the_call_that_makes_it_again(found):
    assert found.call == (
        "compare(model, inputs, target=[1, 2, 3], methods={'InfoMask': ..., 'labels': ..., "
        "'part': ..., 'never': ...}, metrics=['deletion', 'iou'], ground_truth=ground_truth, "
        f"categories=('a', 'b', {HOSTILE!r}, 'd'), seed=11)"
    ).replace(f"('a', 'b', {HOSTILE!r}, 'd')", "categories")
    network = SmallNet(dtype=torch.float32).eval()
    simple = compare(
        network, images(1), methods=["Grad-CAM"], layer=network.second, baselines=0.5, metrics=[]
    )
    assert "Windows: 2 x 2 pixels every 1, on 8 x 8 pixels" in str(simple)
    assert simple.call == (
        f"compare(model, inputs, target={simple.targets.tolist()}, methods=['Grad-CAM'], "
        "layer='second', metrics=[], baselines=0.5, seed=0)"
    )
    again = eval(simple.call, {"compare": compare, "model": network, "inputs": images(1),
                               "MaxFraction": type(simple.rule)})  # fmt: skip
    assert np.array_equal(again.outcomes[0].planes, simple.outcomes[0].planes)


def words_of(figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_the_figure(found):
    figure, panels = found.figure(1)
    assert len(panels) == 1 + 4
    assert [bool(panel.images) for panel in panels] == [True, True, True, False, False]
    assert (np.asarray(panels[0].images[0].get_array()) == found.pictures[1]).all()
    said = words_of(figure)
    assert "outline: at least 20% of the maximum" in said.replace("\n", " ")
    assert f"{found.probabilities[1]:.1%}, {found.information[1]:.2f} bits" in said
    assert "failed: RuntimeError: no answer" in said.replace("\n", " ")
    several, panels = found.figure([2, 0], masks=None)
    assert len(panels) == 2 * 5
    for place, k in ((0, 2), (5, 0)):
        shown = np.asarray(panels[place].images[0].get_array())
        assert (shown == found.pictures[k]).all()
    assert figure.get_figwidth() == several.get_figwidth() == 7
    assert found.figure(np.int64(1), width=5)[0].get_figwidth() == 5
    assert len(found.figure(range(3))[1]) == 15
    assert len(found.figure(masks="panel")[1]) == 5 + 3
    assert plt.get_fignums() == []


@dataclasses.dataclass(frozen=True)
class Mine:
    """A rule of a user's own."""

    def threshold(self, values: Tensor) -> float:
        return 0.5


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (MaxFraction(0.125), "at least 12.5% of the maximum"),
        (TopFraction(0.2), "the top 20% of the pixels"),
        (AtLeast(1), "at least 1"),
        (Otsu(), "Otsu's threshold"),
        (Hysteresis(AtLeast(0.5), AtLeast(2)), "at least 0.5, connected to at least 2"),
        (Mine(), "Mine()"),
    ],
)
def test_the_figure_says_the_rule(found, rule, words):
    figure, _ = dataclasses.replace(found, rule=rule).figure(width=13)
    assert f"outline: {words}" in words_of(figure).replace("\n", " ")


def test_the_figure_says_what_it_expects(found):
    for k in (3, -1, True, 0.0, [0, 3], "0"):
        with pytest.raises(ArgumentError, match="`k` from 0 to 2"):
            found.figure(k)
    for settings, message in (
        ({"k": []}, "got none"),
        ({"layout": "rows"}, "Did you mean 'row'"),
        ({"masks": "outline"}, "`masks` to be one of 'contour', 'panel'"),
        ({"scale": "units"}, "Did you mean 'unit'"),
        ({"controls": 1}, "`controls` to be True or False"),
        ({"width": 0.5}, "`width` to be a finite number of at least 1"),
        ({"width": "7"}, "`width`"),
        ({"methods": "InfoMsk"}, "Did you mean 'InfoMask'"),
        ({"methods": ["part", "part"]}, "name each method once"),
        ({"methods": []}, "name each method once"),
        ({"methods": 3}, "`methods` to be methods' names; got 3"),
    ):
        with pytest.raises(ArgumentError, match=message):
            found.figure(**settings)


def test_the_methods_of_the_figure(found):
    names = ["noise (control)", "InfoMask", "labels", "blob (control)"]
    outcomes = [dataclasses.replace(found["labels"], name=name) for name in names]
    with_controls = dataclasses.replace(found, outcomes=tuple(outcomes))

    def shown(**settings):
        figure, panels = with_controls.figure(width=13, **settings)
        said = words_of(figure).split("\n")
        places = {name: said.index(name) for name in names if name in said}
        assert len(panels) == 1 + len(places)
        return sorted(places, key=places.__getitem__)

    assert shown() == ["InfoMask", "labels"]
    assert shown(controls=True) == names
    assert shown(methods="labels") == ["labels"]
    assert shown(methods=["labels", "InfoMask"]) == ["labels", "InfoMask"]
    assert shown(methods=("blob (control)", "labels")) == [names[3], "labels"]
    assert "blob (control)" in with_controls.text()
    # With nothing but controls, these are shown.
    only = dataclasses.replace(with_controls, outcomes=(outcomes[0],))
    assert len(only.figure()[1]) == 2


def test_figures_are_written_in_their_sizes(found, tmp_path):
    width, height = found.figure(1)[0].get_size_inches()
    before = dict(mpl.rcParams)
    with mpl.rc_context({"savefig.bbox": "tight", "svg.fonttype": "path"}):
        for kind in ("png", "pdf", "svg"):
            write = getattr(found, f"to_{kind}")
            write(tmp_path / f"one.{kind}", 1)
            write(tmp_path / f"two.{kind}", k=1)
            one, two = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("one", "two"))
            assert one == two, kind
    assert dict(mpl.rcParams) == before
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.size == (round(300 * width), int(300 * height))
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    svg = (tmp_path / "one.svg").read_text(encoding="utf-8")
    found_size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    assert [float(size) for size in found_size.groups()] == pytest.approx([72 * width, 72 * height])
    assert ">InfoMask</text>" in svg
    assert "onerror=alert(1)&gt;" in svg
    assert "<img" not in svg
    assert "<dc:date>" not in svg
    pdf = (tmp_path / "one.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
    assert [float(size) for size in box.groups()] == pytest.approx([72 * width, 72 * height])
    assert b"CreationDate" not in pdf
    found.to_svg(tmp_path / "column.svg", methods="labels", width=3.3, masks=None)
    column = (tmp_path / "column.svg").read_text(encoding="utf-8")
    assert 'width="237.6pt"' in column
    assert ">InfoMask<" not in column
    with pytest.raises(TypeError, match="Did you mean 'width'"):
        found.to_pdf(tmp_path / "none.pdf", widht=3)
    with pytest.raises(ArgumentError, match="`path`"):
        found.to_png(tmp_path / "nowhere" / "a.png")


def test_what_the_page_shows(found):
    page = found.content()
    assert page.title == f"b, {HOSTILE}, d"
    assert page.reference == "InfoMask"
    assert page.call == found.call
    assert ("seed", "11") in page.provenance
    assert [column.name for column in page.columns] == [
        "deletion", "iou", "share in mask", "forward passes", "seconds", "peak memory, MB",
    ]  # fmt: skip
    assert page.columns[0].better == "lower"
    assert all(len(row.cells) == len(page.columns) for row in page.rows)
    assert all(column.note for column in page.columns)
    ours, labels, part, never = page.rows
    assert ours.cells[0].value == pytest.approx(found["InfoMask"].metrics["deletion"].mean())
    assert ours.cells[0].difference is None
    gap = found["labels"].differences["deletion"]
    assert labels.cells[0].difference == gap.mean
    assert (labels.cells[0].low, labels.cells[0].high) == (gap.low, gap.high) == (None, None)
    cell = of_many(found).content().rows[1].cells[0]
    assert (cell.difference, cell.low, cell.high) == (gap.mean, -0.125, 0.25)
    assert ours.cells[3].value == 10
    assert part.error.startswith("on 1 of 3")
    assert part.cells[3].value is None  # a function that used no network that we know of
    assert all(cell.value is None for cell in never.cells)
    assert [square.title for square in page.agreement] == [
        "Spearman's rank correlation of maps", "IoU of masks",
    ]  # fmt: skip
    second = page.pictures[1]
    assert second.title == HOSTILE
    assert (second.truth == found.truth[1]).all()
    boxes, areas = second.maps[0].regions, second.maps[1].regions
    assert boxes.boxes.shape == (9 + 40, 4) or len(boxes.boxes) == len(boxes.scores)
    infomap = found["InfoMask"].infomaps[1]
    assert np.array_equal(boxes.scores, infomap.scores[0].double().numpy())
    assert areas.boxes is None
    assert areas.labels[0, 0] == 1
    # A pixel is the mean of three channels that hold the region's score.
    assert within_ulps(areas.scores[areas.labels], found["labels"].planes[1], 2)
    assert second.maps[2].plane is None
    assert second.maps[2].error == "RuntimeError: no answer"
    assert second.maps[0].curves.keys() == {"deletion"}
    assert page.threshold == ("max_fraction", 0.2)


def test_the_sliders_start_follows_the_rule(found):
    other = dataclasses.replace(found, rule=AtLeast(1.5)).content()
    assert other.threshold == ("at_least", 1.5)
    otsu = dataclasses.replace(found, rule=Otsu()).content()
    assert otsu.threshold == ("max_fraction", 0.2)
    assert "cut by Otsu()" in otsu.notes[0]


def test_at_least_so_many_bits_is_said_to_leave_other_units_alone(found):
    words = "cut by AtLeast(bits=0.5), in each map's own unit; the slider counts bits."
    rule = AtLeast(0.5)
    mixed = dataclasses.replace(found, rule=rule).content()
    assert {outcome.unit for outcome in found.outcomes} > {"bits"}
    assert mixed.threshold == ("at_least", 0.5)
    assert words in mixed.notes[0]
    only = tuple(outcome for outcome in found.outcomes if outcome.unit == "bits")
    notes = dataclasses.replace(found, rule=rule, outcomes=only, reference="").content().notes
    assert not any("slider" in note for note in notes)


def test_the_heading_names_model_files_and_date(found):
    assert found.date == datetime.date.today().isoformat()
    model = dict(found.settings)["Model"]
    assert found.content().origin == (model, found.date)
    assert ("date", found.date) in found.content().provenance
    files = tuple(f"photos/{name}.png" for name in "abc")
    content = dataclasses.replace(found, sources=files).content()
    assert content.origin == (model, "a.png, b.png, c.png", found.date)
    assert [picture.source for picture in content.pictures] == ["a.png", "b.png", "c.png"]
    many = dataclasses.replace(found, sources=(*files, "d.png", "e.png"), date="")
    assert many.content().origin == (model, "a.png, b.png, c.png and 2 more")


def test_scales_have_no_regions_to_point_at():
    network = SmallNet(dtype=torch.float32).eval()
    x = images(1, height=16, width=16)
    regions = superpixels(x, 6)
    methods = {
        "one": (InfoMask(network), {"view": "drop", "regions": regions}),
        "two": (InfoMask(network), {"view": "drop", "regions": [regions, regions]}),
    }
    one, two = compare(network, x, 1, methods=methods, metrics=[]).content().pictures[0].maps
    assert one.regions is not None
    assert two.regions is None
    np.testing.assert_allclose(one.plane, two.plane, rtol=1e-5)


def no_constants(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


def test_json_comes_back(found, tmp_path):
    path = tmp_path / "found.json"
    found.to_json(path)
    back = json.loads(path.read_text(encoding="utf-8"), parse_constant=no_constants)
    assert back["pictures"][1]["label"] == HOSTILE
    assert back["seed"] == 11
    assert back["versions"] == found.versions
    by_name = {method["name"]: method for method in back["methods"]}
    for outcome in found.outcomes:
        mine = by_name[outcome.name]
        assert mine["errors"] == list(outcome.errors)
        for name in ("seconds", "forward_passes", "share", "largest"):
            want = outcome.values(name)
            got = np.array([np.nan if value is None else value for value in mine[name]])
            assert np.array_equal(got, want, equal_nan=True)
        for name, values in outcome.metrics.items():
            got = np.array([np.nan if v is None else v for v in mine["metrics"][name]])
            assert np.array_equal(got, values, equal_nan=True)
    assert by_name["part"]["metrics"]["iou"][1] is None
    assert by_name["part"]["curves"]["deletion"][0] == found["part"].curves["deletion"][0].tolist()
    gap = found["labels"].differences["deletion"]
    assert by_name["labels"]["differences"]["deletion"] == dataclasses.asdict(gap)
    np.testing.assert_array_equal(back["agreement"][0]["values"], found.agreement[0].values)


def test_csv_comes_back(found, tmp_path):
    path = tmp_path / "found.csv"
    found.to_csv(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for row in rows:
        k, outcome = int(row["picture"]), found[row["method"]]
        assert row["label"] == found.labels[k]
        assert row["error"] == outcome.errors[k]
        for name in ("deletion", "iou", "seconds", "share", "largest", "forward_passes"):
            want = outcome.values(name)[k]
            assert (row[name] == "") == math.isnan(want)
            assert row[name] == "" or float(row[name]) == want


def test_arrays_come_back(found, tmp_path):
    path = tmp_path / "found.npz"
    found.save_arrays(path)
    with np.load(path, allow_pickle=False) as made:
        assert (made["pictures"] == found.pictures).all()
        assert made["labels"].tolist() == list(found.labels)
        assert np.array_equal(made["part"], found["part"].planes, equal_nan=True)
        assert (made["infomask_mask"] == found["InfoMask"].masks).all()
        assert str(made["infomask_unit"]) == "bits"
        assert "never" not in made
        assert (made["truth"] == found.truth).all()


@pytest.mark.parametrize("write", ["to_html", "to_csv", "to_json", "save_arrays"])
def test_files_are_written_whole_or_not_at_all(write, found, tmp_path, monkeypatch):
    path = tmp_path / "made"
    getattr(found, write)(path)
    before = path.read_bytes()
    assert len(before) > 500
    for bad in (tmp_path / "none" / "made", tmp_path, 3):
        with pytest.raises(ArgumentError, match="`path`"):
            getattr(found, write)(bad)

    def full(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ArgumentError, match="no space left"):
        getattr(found, write)(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["made"]


def test_the_report_and_the_static_pictures_escape_what_they_are_told(found, tmp_path):
    found.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "ZeroDivisionError" in page
    fragment = found._repr_html_()
    assert "<img src=x" not in fragment
    assert "<script" not in fragment
    assert "&lt;img src=x" in fragment


def test_outside_a_kernel_there_is_no_widget_to_show(found):
    assert found._repr_mimebundle_() is None


def test_in_a_kernel_the_widget_is_shown_with_its_fallbacks(found, monkeypatch):
    pytest.importorskip("anywidget")
    monkeypatch.setattr("captum_infomask.results.map_pictures.in_kernel", lambda: True)
    data, _ = found._repr_mimebundle_(include=None, exclude=None)
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == found.text()
    assert data["text/html"] == found._repr_html_()


def test_the_figure_takes_methods_in_any_case_and_numbers_of_any_kind(found):
    names = [name.upper().replace(" ", "_") for name in found.names]
    one, shown = found.figure(torch.tensor(1), methods=names)
    _, same = found.figure(np.array([1]), methods=found.names)
    assert len(shown) == len(same) == 1 + len(names)
    words = [text.get_text() for text in one.texts]
    assert words == [text.get_text() for text in same[0].figure.texts]


def test_threads_that_write_figures_leave_matplotlibs_settings(found, tmp_path):
    before = dict(mpl.rcParams)

    def write(number):
        for kind in ("svg", "png", "svg"):
            getattr(found, f"to_{kind}")(tmp_path / f"{number}.{kind}", methods=found.names[:1])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert dict(mpl.rcParams) == before
    files = [(tmp_path / f"{number}.svg").read_bytes() for number in range(4)]
    assert len(set(files)) == 1
