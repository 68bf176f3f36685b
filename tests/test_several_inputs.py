# A picture and a table as inputs of one network: bits of both, on one scale.
from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from captum_infomask import (
    ArgumentError,
    FalseDiscoveries,
    InfoMap,
    InfoMask,
    from_feature_mask,
    from_label_map,
    grid,
    show,
    sliding_windows,
    superpixels,
)
from captum_infomask.regions.per_input import PerInput, inputs_of
from captum_infomask.report.words import decimals

N, F = 2, 5
NAMES = ["age", "dose", "weight", "height", "smoker"]


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(N, 1, 8, 8, generator=generator, dtype=torch.float64),
        torch.randn(N, F, generator=generator, dtype=torch.float64),
    )


def network(picture: Tensor, table: Tensor) -> Tensor:
    """Three classes, about which both inputs tell, also together."""
    generator = torch.Generator().manual_seed(1)
    of_picture = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    of_table = torch.randn(F, 3, generator=generator, dtype=torch.float64)
    seen, known = picture.flatten(1) @ of_picture / 4, table @ of_table
    return seen + known + seen * known.tanh()


def bits(picture: Tensor, table: Tensor, target: int) -> Tensor:
    logits = network(picture, table)
    return (logits.log_softmax(1)[:, target] + torch.tensor(3.0).log()) / torch.tensor(2.0).log()


def halves() -> tuple[Any, Any]:
    """A picture's left and right half, and the columns 0 to 2, 3, 4 of the table."""
    x, t = inputs()
    return grid(x, 1, 2), from_feature_mask(t, torch.tensor([[7, 7, 7, 0, 3]]))


def hidden(region: int) -> tuple[Tensor, Tensor]:
    """Both inputs' elements that a region of ``halves`` holds."""
    own = torch.zeros(1, 8, 8, dtype=torch.bool), torch.zeros(F, dtype=torch.bool)
    if region < 2:
        own[0][..., 4 * region : 4 * region + 4] = True
    else:
        own[1][[[3], [4], [0, 1, 2]][region - 2]] = True
    return own


@pytest.mark.parametrize("view", ["drop", "keep"])
def test_regions_of_each_input_are_hidden_as_by_hand(view: Any) -> None:
    pair = inputs()
    infomap = InfoMask(network).score_regions(
        pair, target=1, view=view, regions=halves(), reference="blank" if view == "keep" else None
    )
    assert infomap.scores.shape == (N, 5)
    whole, blank = bits(*pair, 1), bits(*(0 * part for part in pair), 1)
    for region in range(5):
        own = hidden(region)
        left = [part * ~mask for part, mask in zip(pair, own, strict=True)]
        alone = [part * mask for part, mask in zip(pair, own, strict=True)]
        wanted = whole - bits(*left, 1) if view == "drop" else bits(*alone, 1) - blank
        torch.testing.assert_close(infomap.scores[:, region], wanted)
        assert float(wanted.abs().min()) > 1e-3
    picture, table = infomap.attributions()
    torch.testing.assert_close(table[:, 2], infomap.scores[:, 4])
    torch.testing.assert_close(picture[:, 0, 3, 7], infomap.scores[:, 1])


def test_chain_of_two_whole_inputs_is_their_exact_shapley_value() -> None:
    x, t = inputs()
    wholes = (grid(x, 1, 1), from_feature_mask(t, torch.zeros(1, F, dtype=torch.long)))
    infomap = InfoMask(network).score_regions((x, t), target=2, view="chain", regions=wholes)
    none, first, second, both = (
        bits(x * of_x, t * of_t, 2) for of_x, of_t in itertools.product((0, 1), (0, 1))
    )
    first, second = second, first  # (1, 0) comes after (0, 1)
    wanted = torch.stack(
        [(first - none + both - second) / 2, (second - none + both - first) / 2], dim=1
    )
    torch.testing.assert_close(infomap.by_input(), wanted)
    assert infomap.standard_errors is not None
    assert float(infomap.standard_errors.abs().max()) == 0


def test_chain_adds_up_over_both_inputs() -> None:
    x, t = inputs()
    superpixel = superpixels(x)
    for regions in (None, (None, None), (superpixel, None), halves(), ("superpixels", None)):
        infomap = InfoMask(network).score_regions((x, t), target=0, view="chain", regions=regions)
        whole = bits(x, t, 0) - bits(0 * x, 0 * t, 0)
        torch.testing.assert_close(infomap.by_input().sum(1), whole)
        assert infomap.by_input().shape == (N, 2)
        assert float(infomap.by_input().abs().min()) > 1e-3


def test_what_both_inputs_hold_is_halved_by_chain_and_lost_by_drop() -> None:
    def either(picture: Tensor, table: Tensor) -> Tensor:
        told = torch.maximum(picture.amax((1, 2, 3)), table.amax(1))
        return torch.stack([30 * told, 0 * told], 1)

    pair = torch.ones(1, 1, 4, 4), torch.ones(1, 3)
    wholes = (grid(pair[0], 1, 1), from_feature_mask(pair[1], torch.zeros(1, 3).long()))
    found = {
        view: InfoMask(either).score_regions(pair, target=0, view=view, regions=wholes).scores
        for view in ("chain", "drop", "keep")
    }
    for view, wanted in (("chain", 0.5), ("drop", 0.0), ("keep", 1.0)):
        torch.testing.assert_close(found[view], torch.full((1, 2), wanted), atol=1e-6, rtol=0)


def test_by_default_pictures_have_windows_and_tables_columns() -> None:
    x, t = inputs()
    infomask = InfoMask(network)
    default = infomask.score_regions((x, t), target=0)
    windows = sliding_windows((x, t), ((1, 2, 2), (1,)), ((1, 1, 1), (1,)))
    given = infomask.score_regions((x, t), target=0, view="drop", regions=windows)
    apart = infomask.score_regions((x, t), target=0, view="drop", regions=(None, None))
    assert (default.view, len(default.regions)) == ("drop", 7 * 7 + F)
    assert torch.equal(default.scores, given.scores)
    assert torch.equal(default.scores, apart.scores)
    for one, other in zip(default.attributions(), apart.attributions(), strict=True):
        assert torch.equal(one, other)


def test_labels_may_differ_between_images() -> None:
    x, t = inputs()
    labels = torch.arange(64).reshape(1, 8, 8) // torch.tensor([32, 16])[:, None, None]
    regions = (from_label_map(x, labels), None)
    infomap = InfoMask(network).score_regions((x, t), target=0, view="drop", regions=regions)
    assert infomap.scores.isnan().sum(1).tolist() == [2, 0]
    alone = InfoMask(network).score_regions(
        (x[1:], t[1:]), target=0, view="drop", regions=infomap[1].regions
    )
    torch.testing.assert_close(alone.scores, infomap[1].scores)
    assert inputs_of(infomap.regions, 0).tolist() == [0, 0, -1, -1] + [1] * F
    chained = InfoMask(network).score_regions((x, t), target=0, view="chain", regions=regions)
    torch.testing.assert_close(chained.by_input().sum(1), bits(x, t, 0) - bits(0 * x, 0 * t, 0))


def test_it_is_saved_and_tabled(tmp_path: Path) -> None:
    x, t = inputs()
    infomap = InfoMask(network).score_regions(
        (x, t), target=1, view="chain", regions=(superpixels(x), None)
    )
    infomap.save(tmp_path / "both.safetensors")
    loaded = InfoMap.load(tmp_path / "both.safetensors")
    assert isinstance(loaded.regions, PerInput)
    assert torch.equal(loaded.by_input(), infomap.by_input())
    for one, other in zip(loaded.attributions(), infomap.attributions(), strict=True):
        assert torch.equal(one, other)
    table = infomap.to_pandas()
    sums = table.groupby(["picture", "input"])["bits"].sum().to_numpy().reshape(N, 2)
    torch.testing.assert_close(torch.tensor(sums), infomap.by_input())
    assert table["place"].iloc[-1] == "[4:5] of input 1"


WRONG: list[tuple[str, Any, dict[str, Any]]] = [
    ("entry for each of the 2 inputs", (None,), {}),
    ("entry for each of the 2 inputs", (), {}),
    ("made for examples of shape", (None, "x"), {}),
    ("one input for regions='superpixels'.*A tuple", "superpixels", {}),
    ("images", (None, "superpixels"), {}),
    ("one tensor.*view='drop'", None, {"view": "relay"}),
    ("one tensor.*view='drop'", None, {"view": "evidence"}),
]


@pytest.mark.parametrize(("words", "regions", "options"), WRONG)
def test_wrong_regions_are_refused(words: str, regions: Any, options: dict[str, Any]) -> None:
    x, t = inputs()
    if regions == (None, "x"):
        regions = (None, grid(x, 2, 2))
    with pytest.raises(ArgumentError, match=words):
        InfoMask(network).score_regions((x, t), target=0, regions=regions, **options)


def test_sums_are_those_of_chain_and_of_regions_of_one_input() -> None:
    x, t = inputs()
    drop = InfoMask(network).score_regions((x, t), target=0)
    with pytest.raises(ArgumentError, match="Expected view='chain'"):
        drop.by_input()
    across = (torch.zeros(1, 1, 8, 8).long(), torch.tensor([[0, 0, 1, 1, 1]]))
    both = InfoMask(network).score_regions((x, t), None, 0, None, across, view="chain")
    with pytest.raises(ArgumentError, match="lie in several"):
        both.by_input()


def texts(figure: Any) -> list[str]:
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in axes.texts]
    return found


def test_one_figure_shows_both_on_one_scale() -> None:
    x, t = inputs()
    infomap = InfoMask(network, categories=["cat", "dog", "owl"]).score_regions(
        (x, t), target="dog", view="chain", regions=(grid(x, 2, 2), None)
    )
    figure, axes = infomap.figure(x[1], k=1, features=NAMES)
    picture, table, scale = figure.axes
    assert axes is picture
    column = infomap.attributions()[1][1]
    order = column.abs().argsort(descending=True).tolist()
    assert [label.get_text() for label in table.get_yticklabels()] == [NAMES[k] for k in order]
    drawn = torch.tensor([bar.get_width() for bar in table.patches], dtype=torch.float64)
    torch.testing.assert_close(drawn, column[order], atol=1e-6, rtol=0)
    # The bar of colours runs over the values of both inputs.
    low, high = scale.get_ylim()
    every = torch.cat([part[1].flatten() for part in infomap.attributions()])
    assert (low, high) == pytest.approx((min(0, float(every.min())), max(0, float(every.max()))))
    own, other = infomap.by_input()[1].tolist()
    words = texts(figure)
    assert f"picture: {decimals(own)} bits" in words
    assert f"table: {decimals(other)} bits" in words
    assert "bits, with 95% intervals" in words
    assert any(line.startswith("dog, p = ") for line in words)
    assert any("with all of them hidden" in line for line in words)
    assert infomap._repr_html_() is not None
    assert (
        show(infomap[1], x[1], features=NAMES).axes.get_title("left")
        == f"picture: {decimals(own)} bits"
    )


def test_a_wide_table_shows_its_largest_columns() -> None:
    x = torch.rand(1, 3, 6, 6)
    t = torch.linspace(0.1, 2.0, 20)[None]
    infomap = InfoMask(
        lambda x, t: torch.stack([x.mean((1, 2, 3)) + t.sum(1) / 20, 0 * t[:, 0]], 1)
    )
    figure, _ = infomap.score_regions((x, t), target=0).figure(x[0])
    _, table, _ = figure.axes
    labels = [label.get_text() for label in table.get_yticklabels()]
    assert labels == [f"column {k}" for k in range(19, 7, -1)]
    assert any(line.startswith("8 more columns say at most ±") for line in texts(figure))
    assert "table" in texts(figure)  # values of drop have no sum


def test_several_tables_are_told_apart() -> None:
    triple = torch.rand(1, 2), torch.rand(1, 1, 6, 6), torch.rand(1, 3)
    infomask = InfoMask(lambda a, x, b: torch.stack([a.sum(1) + x.sum((1, 2, 3)), b.sum(1)], 1))
    figure, _ = infomask.score_regions(triple, target=0).figure()
    labels = {label.get_text() for label in figure.axes[1].get_yticklabels()}
    assert labels == {
        f"input {k}, column {c}" for k, count in ((0, 2), (2, 3)) for c in range(count)
    }


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("`features` to hold 5 names", {"features": NAMES[:4]}),
        ("`features` to hold 5 names", {"features": "abcde"}),
        ("FalseDiscoveries", {"contour": FalseDiscoveries(0.1)}),
        ("Expected `k` from 0 to 1", {"k": 2}),
    ],
)
def test_wrong_settings_of_the_figure_are_refused(words: str, settings: dict[str, Any]) -> None:
    x, t = inputs()
    infomap = InfoMask(network).score_regions((x, t), target=0)
    with pytest.raises(ArgumentError, match=words):
        infomap.figure(x[0], **settings)


def test_names_of_columns_are_for_tables_alone() -> None:
    x = torch.rand(1, 1, 8, 8)
    infomap = InfoMask(lambda x: x.flatten(1)[:, :2]).score_regions(x, target=0)
    for call in (lambda: infomap.figure(x, features=["a"]), lambda: show(x, features=["a"])):
        with pytest.raises(ArgumentError, match="Expected no `features`"):
            call()


def test_boxes_are_of_one_input() -> None:
    x, table = torch.ones(2, 1, 4, 4), torch.rand(2, 3)
    alone = InfoMask(lambda x: x.flatten(1)[:, :2] * torch.tensor([9.0, 0.0]))
    given: dict[str, Any] = {"target": 0, "view": "drop"}
    (first, _), wanted = (alone.score_regions(one, **given).boxes() for one in ((x,), x))
    assert torch.equal(first, wanted[0])
    assert len(first) == 1
    both = InfoMask(lambda x, table: x.flatten(1)[:, :2] * torch.tensor([9.0, 0.0]) + table[:, :2])
    with pytest.raises(
        ArgumentError, match=r"one input for boxes; got one of 2.*mask\(rule\)\[0\]"
    ):
        both.score_regions((x, table), **given).boxes()
