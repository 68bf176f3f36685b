"""InfoMaps by image, on devices, and as tables; tables of classes, comparisons and runs."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from refused import refused
from tiny import WINDOWS, Net, images

from captum_infomask import (
    InfoMap,
    InfoMask,
    from_boxes,
    from_feature_mask,
    from_masks,
    grid,
)

X = images(3)
NAMES = tuple("abcde")
NET = InfoMask(Net(), categories=NAMES)


def own_labels() -> torch.Tensor:
    """A feature mask whose regions differ from image to image."""
    labels = torch.zeros(3, 1, 8, 8).long()
    labels[0, :, :4, :4] = 1
    labels[1, :, 2:5, 3:] = 2
    labels[2, :, 0, 0] = labels[2, :, 7, 5] = 3
    return labels


def own_masks() -> list[torch.Tensor]:
    """Masks that differ from image to image, one or two each."""
    masks = torch.zeros(5, 8, 8).bool()
    masks[0, 1:3, 2:6] = masks[1, 4:, :] = masks[2, 0, 0] = masks[2, 3, 4] = True
    masks[3, :, 7] = masks[4, 5, 5] = True
    return [masks[:2], masks[2:3], masks[3:]]


REGIONS = {
    "windows": lambda: None,
    "labels": lambda: from_feature_mask(X, own_labels()),
    "masks": lambda: from_masks(X, own_masks()),
    "boxes per image": lambda: from_boxes(X, [[[0, 0, 3, 5]], [[1, 1, 8, 8], [2, 0, 4, 4]], []]),
    "scales": lambda: [grid(X, 2, 2), from_masks(X, own_masks())],
}


def infomap_of(kind: str, **options) -> InfoMap:
    given = REGIONS[kind]()
    regions = WINDOWS if given is None else {"regions": given}
    return NET.score_regions(X, target=["c", "e", "c"], view="drop", **regions, **options)


MAPS = [infomap_of(kind) for kind in REGIONS] + [
    NET.score_regions(X, target=[2, 4, 2], view="relay"),
    NET.score_regions(X, target=[2, 4, 2], view="evidence", regions=grid(X, 2, 2)),
    NET.score_regions(
        X, target=[2, 4, 2], view="chain", n_samples=4, contrast="runner_up", **WINDOWS
    ),
]


def same(one, other) -> bool:
    return one is other or torch.equal(one.nan_to_num(7e7), other.nan_to_num(7e7))


@pytest.mark.parametrize("infomap", MAPS, ids=repr)
def test_an_image_of_a_map_is_the_map_of_the_image(infomap, tmp_path):
    assert len(infomap) == 3
    alone = list(infomap)
    assert len(alone) == 3
    for k, one in enumerate(alone):
        assert len(one) == 1
        assert same(one.attributions()[0], infomap.attributions()[k])
        assert same(one.total[0], infomap.total[k])
        assert same(one.scores[0], infomap.scores[k])
        assert one.targets.tolist() == infomap.targets[k : k + 1].tolist()
        assert one.labels == infomap.labels[k : k + 1]
        one.save(tmp_path / "one.safetensors")
        again = InfoMap.load(tmp_path / "one.safetensors")
        assert same(again.attributions(), one.attributions())
    last = infomap[np.int64(-1)]
    assert same(last.attributions(), infomap[2].attributions())
    for rows in (slice(1, 3), slice(None, None, -2)):
        some = infomap[rows]
        assert same(some.attributions(), infomap.attributions()[list(range(3))[rows]])
        assert some.views is None
        assert some.labels == infomap.labels[rows]
    assert bool(infomap)


def test_what_is_no_image_is_refused():
    for k in (3, -4):
        with pytest.raises(IndexError, match="from 0 to 2"):
            MAPS[0][k]
    for k in (True, 1.0, "0", None):
        refused(("infomap[0]",), lambda k=k: MAPS[0][k])
    refused(("at least one",), lambda: MAPS[0][3:])


def test_a_map_goes_to_a_device():
    moved = MAPS[-1].to("meta")
    found = {name: value for name, value in vars(moved).items() if isinstance(value, torch.Tensor)}
    assert {"scores", "total", "contrast", "targets", "standard_errors", "blank"} <= set(found)
    assert {value.device.type for value in found.values()} == {"meta"}
    assert {vars(MAPS[-1])[name].device.type for name in found} == {"cpu"}
    assert same(MAPS[-1].to(torch.device("cpu")).scores, MAPS[-1].cpu().scores)


@pytest.mark.parametrize("kind", REGIONS)
def test_a_row_is_a_region_of_a_picture(kind):
    infomap = infomap_of(kind)
    table = infomap.to_pandas()
    names = ["picture", "region", "x0", "y0", "x1", "y1", "class", "label", "bits"]
    if kind == "scales":
        names.insert(2, "scale")
        counts = infomap.regions.counts
        want = [scale for scale, count in enumerate(counts) for _ in range(count)]
        assert table.scale.tolist() == [want[region] for region in table.region]
    assert list(table) == names
    present = infomap.regions.present(3)
    assert len(table) == int(present.sum())
    for row in table.itertuples():
        assert present[row.picture, row.region]
        where = (torch.tensor([row.picture]), torch.tensor([row.region]))
        (mask,) = infomap.regions.masks(*where, torch.device("cpu"))
        _, y, x = mask[0].expand(3, 8, 8).nonzero().unbind(1)
        box = (row.x0, row.y0, row.x1, row.y1)
        assert box == (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
        assert row.bits == infomap.scores[row.picture, row.region].item()
        assert row.label == NAMES[table["class"][row.Index]] == ("c", "e", "c")[row.picture]
    assert not table.bits.isna().any()
    assert {str(table[name].dtype) for name in ("picture", "region", "x0", "class")} == {"Int64"}


def test_columns_are_those_that_the_map_has():
    chain = MAPS[-1].to_pandas()
    assert list(chain)[6:] == ["class", "label", "contrast", "bits", "blank", "standard_error"]
    assert chain.contrast.tolist() == MAPS[-1].contrast[:, 1].repeat_interleave(4).tolist()
    assert np.array_equal(chain.standard_error, MAPS[-1].standard_errors.flatten())
    nats = InfoMask(lambda x: 3 * x.sum(1), head="raw", unit="nats").score_regions(torch.rand(2, 3))
    table = nats.to_pandas()
    assert list(table) == ["picture", "region", "x0", "y0", "x1", "y1", "class", "nats"]
    assert len(table) == 6
    assert table[["x0", "y0", "x1", "y1", "class"]].isna().all(axis=None)
    drawn = NET.score_regions(X, target="c", imputer="uniform_noise", view="drop", n_samples=3)
    assert np.array_equal(drawn.to_pandas().spread, drawn.spread.flatten())
    cells = NET.score_regions(X, target="c", view="evidence")
    assert len(cells.to_pandas()) == cells.scores.numel()


def test_a_table_of_classes_has_a_row_per_class():
    maps = NET.score_classes(X, top_k=2, view="drop", regions=from_masks(X, own_masks()))
    table = maps.to_pandas()
    assert len(table) == 2 * int(maps.stacked.regions.present(3).sum())
    for row in table.itertuples():
        column = maps.classes[row.picture].tolist().index(NAMES.index(row.label))
        assert row.bits == maps.scores[row.picture, row.region, column].item()
    whole = table.groupby(["picture", "region"]).label.nunique()
    assert set(whole) == {2}
    alone = maps.rank(1).to_pandas()
    assert pd.DataFrame.equals(alone, table.iloc[1::2].reset_index(drop=True))


def test_without_pandas_the_error_says_what_installs_it():
    code = """
import sys
sys.modules["pandas"] = None
import torch
from captum_infomask import InfoMask
infomap = InfoMask(lambda x: x, head="raw").score_regions(torch.rand(1, 1), target=0)
try:
    infomap.to_pandas()
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "captum-infomask[pandas]" in done.stdout, done.stderr


@pytest.mark.parametrize("device", ["nope", torch.float64])
def test_what_is_no_device_is_refused(device):
    infomap = NET.score_regions(X, target=0, view="drop", **WINDOWS)
    refused(("`device`", "cpu"), lambda: infomap.to(device))
