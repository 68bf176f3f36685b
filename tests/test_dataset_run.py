# Runs over whole data sets: every row is what a plain loop over the pictures gives, to the bit.
from __future__ import annotations

import hashlib
import warnings
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from bad_pictures import HEIGHT, WIDTH, write_bad_pictures
from digit_pictures import save_two_digits
from PIL import Image
from refused import refused
from run_samples import (
    NAMES,
    QUICK,
    SEEN,
    SIDE,
    Drawing,
    Failing,
    Uneven,
    Wide,
    literal_loop,
    plain,
    rows_of,
    run_tiny,
    same,
    save_pictures,
    spoil,
    tiny,
)

from captum_infomask import (
    AtLeast,
    LocalMean,
    MaxFraction,
    RunStopped,
    TopFraction,
    UniformNoise,
    bounding_boxes,
    grid,
    load_run,
    run_dataset,
    sliding_windows,
)
from captum_infomask._run_length import decode
from captum_infomask.dataset_run.page_pictures import KEPT
from captum_infomask.dataset_run.result_rows import infomap_of
from captum_infomask.models.loading import load_classifier
from captum_infomask.models.preprocessing import Preprocess, read_image
from captum_infomask.results.map_files import PER_REGION

PLACE = torch.zeros(1, 3, SIDE, SIDE)
SCALES = {
    "regions": [grid(PLACE, 2, 2), sliding_windows(PLACE, (3, 4, 4), (3, 4, 4))],
    "sliding_window_shapes": None,
    "strides": None,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Ten pictures: two batches of four, and half of one."""
    made = tmp_path_factory.mktemp("pictures")
    save_pictures(made, 10)
    return made


@pytest.fixture(scope="module")
def usual(folder, tmp_path_factory):
    """A run over them."""
    return run_tiny(folder, tmp_path_factory.mktemp("usual"))


def mask_of(infomap, rule):
    """The masks; that some are empty is well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return infomap.mask(rule)


def bright(picture):
    return picture[..., 0] > 0.5


def test_superpixels_of_rows_come_back_or_are_refused(folder, tmp_path):
    """Every picture has its own; damaged ones are refused."""
    run = run_tiny(folder, tmp_path / "own", view="drop", sharpen=bright)
    first, second = (run[f"00{k}.png"] for k in range(2))
    assert not torch.equal(first.superpixels, second.superpixels)
    (column,) = [name for name in run.table.column_names if name == "superpixels"]
    row = {**run.table.slice(0, 1).to_pylist()[0], "error": None}
    assert torch.equal(infomap_of(first, row).superpixels, first.superpixels)
    wrong = np.full(first.superpixels.shape, first.superpixels[0, 0].numel(), "<i4")
    bomb = zlib.compress(bytes(1 << 24))
    for content in (b"", row[column][:-9], zlib.compress(wrong.tobytes()), bomb):
        damaged = {**row, column: content}
        refused(("`superpixels`", "as they were"), lambda row=damaged: infomap_of(first, row))
    assert "superpixels" not in run_tiny(folder, tmp_path / "none").table.column_names


# --- rows and InfoMaps ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classifier", "scorer", "options", "some"),
    [
        (tiny(), {}, {"view": "crop"}, ()),
        (tiny(), {}, {"view": "keep"}, ("blank",)),
        (tiny(), {}, {"view": "drop", "overlap": "mixture", "strides": (3, 4, 4)}, ()),
        (tiny(), {}, {"view": "chain", "n_samples": 8, "seed": 3}, ("blank", "standard_errors")),
        (tiny(), {}, {"view": "chain", "n_samples": 2}, ("blank", "standard_errors")),
        (
            tiny(),
            {},
            {"view": "keep", "imputer": UniformNoise(), "n_samples": 3},
            ("blank", "spread", "standard_errors"),
        ),
        (tiny(), {}, {"crop_jitter": 0.2, "seed": 7}, ("spread", "standard_errors")),
        (tiny(), {}, {"view": "drop", "imputer": LocalMean(), "engine": "incremental"}, ()),
        (
            tiny(Drawing()),
            {},
            {"view": "crop", "n_samples": 4},
            ("lower", "upper", "standard_errors"),
        ),
        (
            tiny(Drawing()),
            {},
            {"view": "keep", "n_samples": 2, "seed": 5},
            ("blank", "lower", "upper", "standard_errors"),
        ),
        (tiny(Wide()), {}, {"view": "keep", "reference": "prior", "engine": "batched"}, ()),
        (
            tiny(),
            {"unit": "nats", "temperature": 0.7, "prior": [0.1, 0.2, 0.3, 0.2, 0.2]},
            {"crop_size": "native", "crop_margin": 0.25},
            (),
        ),
        (tiny(), {"head": "sigmoid"}, SCALES, ()),
        (tiny(), {}, {"view": "drop", "sharpen": "superpixels"}, ()),
        (tiny(Uneven()), {"trained_with": "pc_softmax", "prior": [0.2] * 5}, {}, ()),
    ],
    ids=lambda value: value.get("view", "") if isinstance(value, dict) else "",
)
def test_rows_are_those_of_a_plain_loop(folder, tmp_path, classifier, scorer, options, some):
    settings = {("view_engine" if name == "engine" else name): options[name] for name in options}
    run = run_tiny(folder, tmp_path, classifier, **scorer, **settings)
    views = run.manifest["settings"]["perturbations_per_eval"]
    keys = sorted(path.name for path in folder.iterdir())
    assert list(run) == keys
    for row, found in zip(
        run.table.to_pylist(),
        literal_loop(folder, keys, classifier, views=views, infomask=scorer, **options),
        strict=True,
    ):
        key, infomap, k, predicted, wanted = found
        assert row["key"] == key
        assert row["sha256"] == hashlib.sha256((folder / key).read_bytes()).hexdigest()
        assert row["error"] is None
        assert row["seconds"] > 0
        assert row["engine"] == infomap.engine
        assert (row["target"], row["predicted"]) == (int(wanted[k]), int(predicted[k]))
        there = {name for name in PER_REGION[1:] if row[name] is not None}
        assert there == set(some)
        for name in ("scores", *some):
            values = getattr(infomap, name)[k]
            assert same(torch.tensor(row[name], dtype=values.dtype), values)
        assert row["total"] == float(infomap.total[k])
        mask = mask_of(infomap, MaxFraction(0.2))[k]
        assert torch.equal(decode(row["mask"]), mask.any(0))
        assert row["boxes"] == bounding_boxes(mask[None], keep="all")[0].tolist()

        back = run[key]
        assert same(back.attributions()[0], infomap.attributions()[k])
        assert torch.equal(mask_of(back, MaxFraction(0.2))[0], mask)
        assert same(back.total, infomap.total[k : k + 1])
        for name in PER_REGION:
            values = getattr(infomap, name)
            assert same(getattr(back, name), None if values is None else values[k : k + 1])
        for name in ("unit", "view", "overlap", "engine", "n_samples", "is_tuple"):
            assert getattr(back, name) == getattr(infomap, name)
        assert back.views * len(infomap.total) == infomap.views
    number = pa.float64() if isinstance(classifier.network, Wide) else pa.float32()
    assert run.table.schema.field("total").type == number
    assert run.table.schema.field("scores").type == pa.list_(number)


def test_features_and_other_rules_on_the_packaged_network(tmp_path):
    save_two_digits(tmp_path / "data", 6)
    classifier = load_classifier("two_digits")
    windows = {"sliding_window_shapes": (1, 20, 20), "strides": (1, 8, 8)}
    keys = [f"{k:05}.png" for k in range(6)]
    for rule in (TopFraction(0.3), AtLeast(0.5)):
        for options in (windows, {"view": "features", **windows}):
            out = tmp_path / f"{type(rule).__name__}{len(options)}"
            settings = {**QUICK, **options}
            run = run_dataset(tmp_path / "data", "two_digits", out, rule=rule, **settings)
            views = run.manifest["settings"]["perturbations_per_eval"]
            found = literal_loop(tmp_path / "data", keys, classifier, views=views, **options)
            for key, infomap, k, _, _ in found:
                assert same(run[key].scores[0], infomap.scores[k])
                mask = mask_of(infomap, rule)[k, 0]
                row = rows_of(run.table)[key]
                assert torch.equal(decode(row["mask"]), mask)


def test_what_speaks_for_nothing_has_an_empty_mask_and_no_warning(folder, tmp_path):
    run = run_tiny(folder, tmp_path, rule=AtLeast(1e6))
    assert not any(decode(row["mask"]).any() for row in run.table.to_pylist())
    assert run.table["boxes"].to_pylist() == [[]] * 10


def test_a_run_reads_like_a_mapping(folder, usual):
    run = load_run(str(usual.folder))
    assert repr(run) == "DatasetRun(10 of 10 pictures, 0 of them bad)"
    assert list(run) == [f"{k:03}.png" for k in range(10)]
    assert len(run) == len(dict(run.items())) == 10
    assert "003.png" in run
    assert "no.png" not in run
    with pytest.raises(KeyError):
        run["no.png"]
    assert (run.is_complete, run.errors, run.categories) == (True, {}, NAMES)
    assert plain(run.table, without=()) == plain(usual.table, without=())
    parts = sorted(run.folder.glob("part-*.parquet"))
    assert [path.name for path in parts] == [f"part-{k:05}.parquet" for k in range(3)]
    assert [pq.read_metadata(path).num_rows for path in parts] == [4, 4, 2]
    left = {path.name for path in run.folder.iterdir()} - {path.name for path in parts}
    assert left == {".lock", "manifest.json", "map.safetensors", "keys.parquet", KEPT}
    settings = run.manifest["settings"]
    assert settings["sliding_window_shapes"] == [3, 8, 8]
    assert (run.manifest["pictures"], settings["batch_size"]) == (10, 4)


def test_pictures_are_shown_as_the_network_saw_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pictures(Path("data"), 3)
    Image.new("L", (40, 20), 77).save("data/wide.png")
    Path("data/bad.png").write_bytes(b"no picture")
    run = run_tiny(Path("data"), Path("out"))
    monkeypatch.chdir("/")
    (tmp_path / "out" / KEPT).unlink()
    run = load_run(tmp_path / "out", tmp_path / "data")
    for key in run:
        seen = np.asarray(SEEN.frame(read_image(tmp_path / "data" / key)))
        assert np.array_equal(run.picture(key), seen)
    assert run.picture("wide.png").shape == (SIDE, SIDE, 3)
    assert run.picture("bad.png") is None
    (tmp_path / "data" / "000.png").write_bytes((tmp_path / "data" / "001.png").read_bytes())
    (tmp_path / "data" / "002.png").unlink()
    run = load_run(tmp_path / "out", tmp_path / "data")
    assert [key for key in run if run.picture(key) is None] == ["000.png", "002.png"]
    with pytest.raises(KeyError):
        run.picture("no.png")
    assert load_run(tmp_path / "out").picture("001.png") is None


def test_a_run_that_has_not_ended_can_be_read(folder, tmp_path):
    spoiled = tmp_path / "data"
    save_pictures(spoiled, 10)
    (spoiled / "005.png").write_bytes(b"")
    with pytest.raises(RunStopped):
        run_tiny(spoiled, tmp_path / "some", max_errors=0)
    run = load_run(tmp_path / "some")
    assert repr(run) == "DatasetRun(8 of 10 pictures, 1 of them bad)"
    assert not run.is_complete
    assert len(list(run)) == len(run) == 7
    with pytest.raises(KeyError, match=r"005\.png has no InfoMap: Expected the image to be a"):
        run["005.png"]
    assert "005.png" not in run
    spoil(folder_of_one := tmp_path / "one", save_pictures(folder_of_one, 1)[0])
    with pytest.raises(RunStopped):
        run_tiny(folder_of_one, tmp_path / "empty", tiny(Failing(_no_memory_any_more())))
    run = load_run(tmp_path / "empty")
    assert repr(run) == "DatasetRun(0 of 1 pictures, 0 of them bad)"
    assert (list(run), run.errors, run.is_complete) == ([], {}, False)
    assert run.table.schema == load_run(tmp_path / "some").table.schema


# --- what a picture's row does not depend on ---------------------------------------------------


@pytest.mark.parametrize("decoders", [1, 2])
def test_decoding_processes_change_nothing(folder, usual, tmp_path, decoders):
    run = run_tiny(folder, tmp_path, workers=decoders)
    assert plain(run.table) == plain(usual.table)


@pytest.mark.parametrize("engine", ["auto", "incremental"])
@pytest.mark.parametrize("view", ["crop", "keep", "drop"])
def test_neighbours_and_places_change_nothing(folder, usual, tmp_path, view, engine):
    options = {"view": view, "view_engine": engine}
    run = run_tiny(folder, tmp_path / "whole", **options)
    chunks = run.manifest["settings"]["perturbations_per_eval"]
    assert (chunks is None) == (engine == "incremental" and view != "crop")
    whole = rows_of(run.table)
    data = tmp_path / "data"
    data.mkdir()
    for place, key in enumerate(["007.png", "002.png", "009.png", "000.png", "005.png"]):
        (data / f"{place}.png").write_bytes((folder / key).read_bytes())
        some = rows_of(run_tiny(data, tmp_path / f"out{place}", **options).table)
        for row in some.values():
            (other,) = [row2 for row2 in whole.values() if row2["sha256"] == row["sha256"]]
            assert {**row, "key": ""} == {**other, "key": ""}


def test_the_batch_size_changes_last_bits_only_and_is_kept(folder, usual, tmp_path):
    for size in (1, 3, 10):
        run = run_tiny(folder, tmp_path / str(size), batch_size=size)
        for key in usual:
            for name in ("scores", "total"):
                a, b = getattr(run[key], name), getattr(usual[key], name)
                assert torch.allclose(a, b, rtol=0, atol=1e-5)
        assert [(row["mask"], row["boxes"]) for row in rows_of(run.table).values()] == [
            (row["mask"], row["boxes"]) for row in rows_of(usual.table).values()
        ]
    error = refused(
        ("settings.batch_size: 4 before, 3 now",),
        lambda: run_tiny(folder, usual.folder, batch_size=3),
    )
    assert "perturbations" not in str(error)
    assert run_tiny(folder, usual.folder, batch_size=None).is_complete  # that of the run


@pytest.mark.slow
def test_threads_change_nothing_of_the_packaged_network(tmp_path):
    save_two_digits(tmp_path / "digits", 3)
    before = torch.get_num_threads()
    tables = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            run = run_dataset(tmp_path / "digits", "two_digits", tmp_path / str(threads), workers=0)
            tables.append(plain(run.table))
    finally:
        torch.set_num_threads(before)
    assert tables[0] == tables[1]


# --- bad pictures, and bad networks ------------------------------------------------------------


def test_every_kind_of_bad_picture_among_good_ones(tmp_path):
    seen = Preprocess(resize=HEIGHT, crop=(HEIGHT, WIDTH), mean=(0.5,) * 3, std=(0.25,) * 3)
    classifier = tiny(preprocess=seen)
    written = write_bad_pictures(tmp_path / "all")
    alone = tmp_path / "good"
    alone.mkdir()
    for key in written.good:
        (alone / key).write_bytes((tmp_path / "all" / key).read_bytes())
    run = run_tiny(tmp_path / "all", tmp_path / "out", classifier, workers=2, shard_size=16)
    good = run_tiny(alone, tmp_path / "out_good", classifier)
    assert run.errors.keys() == written.bad.keys()
    assert list(run) == list(good) == sorted(written.good)
    rows = rows_of(run.table)
    assert {key: rows[key] for key in good} == rows_of(good.table)
    for key, words in written.bad.items():
        row = rows[key]
        assert words in row["error"]
        path = tmp_path / "all" / key
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
        assert row["sha256"] == found
        empty = row.keys() - {"key", "sha256", "error"}
        assert {row[name] for name in empty} == {None}
    assert list(rows) == sorted(rows)


def _raises(outputs, meant):
    if meant.any():
        raise ValueError(f"two\nlines of {object()}")
    return outputs


def _gives_nan(outputs, meant):
    return torch.where(meant[:, None], torch.nan, outputs)


def _no_memory_any_more():
    """From the first picture that is meant on."""
    full = []

    def do(outputs, meant):
        full.extend([True] * bool(meant.any()))
        if full:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory.")
        return outputs

    return do


@pytest.mark.parametrize(
    ("do", "words"),
    [(_raises, "ValueError: two lines of <object"), (_gives_nan, "information of nan")],
)
@pytest.mark.parametrize("net", [None, Uneven()], ids=["even", "uneven"])
def test_a_network_that_fails_for_one_picture(tmp_path, do, words, net):
    keys = save_pictures(tmp_path / "data", 8)
    usual = rows_of(run_tiny(tmp_path / "data", tmp_path / "usual", tiny(Failing(do, net))).table)
    spoil(tmp_path / "data", keys[1])
    run = run_tiny(tmp_path / "data", tmp_path / "out", tiny(Failing(do, net)))
    assert list(run.errors) == [keys[1]]
    assert words in run.errors[keys[1]]
    assert "\n" not in run.errors[keys[1]]
    assert " at 0x" not in run.errors[keys[1]]
    rows = rows_of(run.table)
    assert len(rows[keys[1]]["sha256"]) == 64
    for key in keys:
        assert key == keys[1] or rows[key] == usual[key]


@pytest.mark.filterwarnings("ignore:The default, view=")
def test_bad_pictures_leave_others_in_their_places(tmp_path):
    keys = save_pictures(tmp_path / "data", 8)
    usual = rows_of(run_tiny(tmp_path / "data", tmp_path / "usual", tiny(Drawing())).table)
    (tmp_path / "data" / keys[1]).write_bytes(b"")
    run = rows_of(run_tiny(tmp_path / "data", tmp_path / "out", tiny(Drawing())).table)
    assert {key: run[key] for key in keys if key != keys[1]} == {
        key: usual[key] for key in keys if key != keys[1]
    }


def test_a_class_that_the_prior_rules_out(folder, usual, tmp_path):
    """It is never predicted; a label that names it is an error."""
    out = max(set(usual.table["predicted"].to_pylist()))
    prior = [0.0 if k == out else 0.25 for k in range(5)]
    run = run_tiny(folder, tmp_path / "predicted", prior=prior)
    for row, before in zip(run.table.to_pylist(), usual.table.to_pylist(), strict=True):
        assert row["target"] == row["predicted"] != out
        assert before["predicted"] in (row["predicted"], out)
    keys = save_pictures(tmp_path / "data", 6, folders=[NAMES[out], NAMES[out - 1]])
    run = run_tiny(tmp_path / "data", tmp_path / "label", prior=prior, target="label")
    assert list(run.errors) == [key for key in keys if key.startswith(NAMES[out])]
    assert all("prior" in error for error in run.errors.values())
    assert len(run) == 3


def test_too_little_memory_stops_the_run(tmp_path):
    """A picture that alone takes too much is an error of its own (reports/test_fatal_pictures)."""
    keys = save_pictures(tmp_path / "data", 8)
    spoil(tmp_path / "data", keys[5])
    with pytest.raises(RunStopped, match=r"can't allocate memory.*smaller `batch_size`") as caught:
        run_tiny(tmp_path / "data", tmp_path / "out", tiny(Failing(_no_memory_any_more())))
    assert "\n" not in str(caught.value)
    assert list(load_run(tmp_path / "out")) == keys[:4]


# --- targets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["bee", "Elk", "ant"], [1, 4, 0]),
        (["3", "0", "1", "4", "2"], [3, 0, 1, 4, 2]),
        (["n05", "n01", "n04", "n02", "n03"], [4, 0, 3, 1, 2]),
    ],
)
def test_targets_are_the_sub_folders(tmp_path, folders, classes):
    keys = save_pictures(tmp_path / "data", 10, folders=folders)
    run = run_tiny(tmp_path / "data", tmp_path / "out", target="label")
    targets = [classes[folders.index(key.split("/")[0])] for key in keys]
    assert run.table["target"].to_pylist() == targets
    assert run.table["predicted"].to_pylist() != targets
    views = run.manifest["settings"]["perturbations_per_eval"]
    for key, infomap, k, predicted, _ in literal_loop(
        tmp_path / "data", keys, tiny(), views=views, targets=targets
    ):
        assert same(run[key].scores[0], infomap.scores[k])
        assert rows_of(run.table)[key]["predicted"] == int(predicted[k])
    assert np.array_equal(run.picture(keys[0]), np.asarray(Image.open(tmp_path / "data" / keys[0])))


@pytest.mark.parametrize("decoders", [0, 1])
def test_targets_are_a_column(folder, usual, tmp_path, decoders):
    keys = [f"{k:03}.png" for k in range(10)]
    labels = [0, 4, None, 5, -1, 2, 1, 3, 0, 1]
    table = pa.table(
        {
            "image": [(folder / key).read_bytes() for key in keys],
            "key": keys,
            "kind": pa.array(labels, pa.int64()),
            "name": ["ant", "ELK", None, "5", "-1", "cat", "1", "dog", "cow", "Bee"],
        }
    )
    (tmp_path / "data").mkdir()
    pq.write_table(table.slice(0, 6), tmp_path / "data" / "a.parquet")
    pq.write_table(table.slice(6), tmp_path / "data" / "b.parquet")
    by_number = run_tiny(tmp_path / "data", tmp_path / "kind", target="kind", workers=decoders)
    by_name = run_tiny(tmp_path / "data", tmp_path / "name", target="name", workers=decoders)
    assert by_number.errors == {
        keys[k]: f"Expected the label to be an index from 0 to 4 or a category name; got {given}."
        for k, given in [(2, "none"), (3, "5"), (4, "-1")]
    }
    assert list(by_name.errors) == [keys[k] for k in (2, 3, 4, 8)]
    by_prediction = run_tiny(tmp_path / "data", tmp_path / "out", workers=decoders)
    assert plain(by_prediction.table) == plain(usual.table)
    for run, targets in [(by_number, labels), (by_name, [0, 4, None, 5, -1, 2, 1, 3, None, 1])]:
        rows = rows_of(run.table)
        for key, label in zip(keys, targets, strict=True):
            assert key in run.errors or rows[key]["target"] == label
            assert rows[key]["sha256"] == rows_of(usual.table)[key]["sha256"]
        assert np.array_equal(run.picture(keys[2]), usual.picture(keys[2]))
    # Where target and prediction agree, so do the rows.
    labelled, predicted = rows_of(by_number.table), rows_of(usual.table)
    agreeing = [key for key in by_number if labelled[key]["target"] == predicted[key]["target"]]
    assert agreeing
    assert [labelled[key] for key in agreeing] == [predicted[key] for key in agreeing]
