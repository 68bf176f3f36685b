import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from captum_infomask import ArgumentError, AtLeast, InfoMap, InfoMask, grid
from captum_infomask._files import read, write


@pytest.fixture(params=["crop", "keep", "drop", "chain"])
def infomap(request, net, images):
    regions = grid(images, 3, 3)
    return InfoMask(net).score_regions(images, target=1, view=request.param, regions=regions)


def test_shapes_and_settings(infomap, images):
    assert infomap.scores.shape == (2, 9)
    assert infomap.total.shape == (2,)
    assert (infomap.blank is not None) == (infomap.view in ("keep", "chain"))
    assert (infomap.unit, infomap.overlap) == ("bits", "mean")
    assert infomap.engine.startswith("batched (")
    assert infomap.attributions().shape == images.shape


def test_a_partition_paints_its_scores(infomap):
    attributions = infomap.attributions()
    assert attributions[1, 0, 0, 0] == infomap.scores[1, 0]
    assert attributions[1, 2, 10, 8] == infomap.scores[1, 8]


def test_masks_and_boxes(infomap):
    rule = AtLeast(float(infomap.scores.max()) * 0.999)
    with pytest.warns(UserWarning, match="empty"):
        mask = infomap.mask(rule)
    best = int(infomap.scores.argmax()) // 9
    assert mask[best].any()
    assert not mask[1 - best].any()
    with pytest.warns(UserWarning, match="empty"):
        boxes = infomap.boxes(rule)
    x0, y0, x1, y1 = boxes[best][0].tolist()
    assert mask[best, :, y0:y1, x0:x1].all()
    assert len(boxes[1 - best]) == 0


def test_saved_and_loaded_to_the_bit(infomap, tmp_path):
    path = tmp_path / "map.safetensors"
    infomap.save(path)
    again = InfoMap.load(path)
    for field in dataclasses.fields(InfoMap):
        mine, theirs = getattr(infomap, field.name), getattr(again, field.name)
        if isinstance(mine, torch.Tensor):
            assert torch.equal(mine, theirs)
            assert mine.dtype == theirs.dtype
        elif field.name != "regions":
            assert mine == theirs
    assert torch.equal(again.attributions(), infomap.attributions())


def test_tuples_stay_tuples_after_loading(net, images, tmp_path):
    labels = torch.randint(0, 4, images.shape)
    infomap = InfoMask(net).score_regions(
        (images,), target=1, view="drop", feature_mask=labels, overlap="max"
    )
    infomap.save(tmp_path / "map")
    again = InfoMap.load(tmp_path / "map")
    assert isinstance(again.attributions(), tuple)
    assert torch.equal(again.attributions()[0], infomap.attributions()[0])


def test_shows_sizes_and_settings(infomap):
    total = ", ".join(f"{value:.2f}" for value in infomap.total.tolist())
    want = f"InfoMap(2 images × 9 regions, view={infomap.view!r}, i(y; x) = {total} bits)"
    assert repr(infomap) == want
    assert repr(infomap.regions) == "BoxRegions(9 regions of (3, 11, 9))"


def test_frozen(infomap):
    with pytest.raises(dataclasses.FrozenInstanceError):
        infomap.unit = "nats"


def test_loading_what_is_no_infomap(tmp_path):
    (tmp_path / "text").write_text("not an InfoMap")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("text", "other.safetensors"):
        with pytest.raises(ArgumentError, match=r"`path`.*captum_infomask\.InfoMap 1.*" + name):
            InfoMap.load(tmp_path / name)
    with pytest.raises(ArgumentError, match=r"`path` to be a file; .*missing does not exist"):
        InfoMap.load(tmp_path / "missing")


def test_what_was_shown_is_counted(infomap):
    # Two images: the wholes, nine regions each, and the blanks that scores are counted from.
    want = {"crop": 20, "drop": 20, "keep": 22}
    assert infomap.views == want.get(infomap.view, infomap.views)
    assert infomap.views >= 20


def test_files_from_before_views_were_counted_are_read(infomap, tmp_path):
    path = tmp_path / "map"
    dataclasses.replace(infomap, views=None).save(path)
    tensors, facts = read("path", path, "captum_infomask.InfoMap 1")
    del facts["views"]
    write("path", path, "captum_infomask.InfoMap 1", tensors, facts)
    assert InfoMap.load(path).views is None


def test_a_map_shows_itself(infomap):
    picture = np.random.default_rng(0).integers(0, 256, (11, 9, 3), dtype=np.uint8)
    figure, axes = infomap.figure(picture, 1)
    assert figure.axes[1].get_ylabel() == "bits"
    assert f"{infomap.total[1]:.2f} bits in the whole picture" in axes.texts[0].get_text()
    assert not np.array_equal(np.asarray(axes.images[0].get_array()), picture / 255)
    bare, _ = infomap.figure()
    assert len(bare.axes) == 2
    assert plt.get_fignums() == []
    page = infomap.content(Image.fromarray(picture), 1)
    shown = page.pictures[0].maps[0]
    assert (page.pictures[0].pixels == picture).all()
    np.testing.assert_array_equal(shown.regions.scores, infomap.scores[1].numpy())
    assert shown.regions.boxes[8].tolist() == [7, 6, 11, 9]
    fragment = infomap._repr_html_()
    assert "<script" not in fragment
    assert "data:image/png" in fragment
    assert infomap._repr_mimebundle_() is None
    for bad in ({"k": 2}, {"picture": picture[:5]}, {"picture": "photo.png"}):
        with pytest.raises(ArgumentError, match=f"`{next(iter(bad))}`"):
            infomap.figure(**bad)


def test_a_map_is_a_widget(infomap):
    pytest.importorskip("anywidget")
    assert infomap.widget(k=1).threshold is not None


def test_what_is_no_picture_shows_its_numbers_only():
    model = torch.nn.Linear(4, 3)
    infomap = InfoMask(model).score_regions(torch.rand(2, 4), target=1, view="drop")
    assert infomap._repr_html_() is None
    assert infomap._repr_mimebundle_() is None
    with pytest.raises(ArgumentError, match=r"InfoMap of pictures.*\(4,\)"):
        infomap.figure()


def test_one_class_of_many_shows_itself(net, images):
    maps = InfoMask(net).score_classes(images, top_k=2, view="drop", regions=grid(images, 3, 3))
    assert maps.rank(1)._repr_html_() is not None
    assert maps.stacked._repr_html_() is None
