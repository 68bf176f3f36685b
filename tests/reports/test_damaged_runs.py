# Files of a run that are not as they were written: named when they are read, made again when the
# run goes on, and never read as other numbers.
from __future__ import annotations

import json
import os
import random
import shutil
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from refused import refused
from run_samples import as_if_killed, plain, run_tiny, save_pictures

from captum_infomask import ArgumentError, load_run
from captum_infomask.cli import main
from captum_infomask.dataset_run.manifest import read_manifest, write_manifest

FLIPS = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pictures")
    save_pictures(made, 10)
    (made / "bad.png").write_bytes(b"")
    return made


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run of three shards, the last not full."""
    return run_tiny(folder, tmp_path_factory.mktemp("whole")).folder


@pytest.fixture
def out(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "out")


def shard(out, number=1):
    return out / f"part-{number:05}.parquet"


def truncated(out):
    os.truncate(shard(out), shard(out).stat().st_size // 2)


def empty(out):
    os.truncate(shard(out), 0)


def missing(out):
    shard(out).unlink()


def dangling(out):
    missing(out)
    shard(out).symlink_to("nowhere")


def words(out):
    shard(out).write_text("hello")


def copied_over(out):
    shutil.copy(shard(out, 0), shard(out))


def rows_missing(out):
    pq.write_table(pq.read_table(shard(out)).slice(0, 3), shard(out))


def rows_twice(out):
    table = pq.read_table(shard(out))
    pq.write_table(pa.concat_tables([table, table]), shard(out))


def written_again(out):
    """By somebody else, with other numbers; all of Parquet's own checks hold."""
    table = pq.read_table(shard(out))
    totals = pa.array([0.0] * len(table), table.schema.field("total").type)
    place = table.column_names.index("total")
    pq.write_table(table.set_column(place, "total", totals), shard(out))


def other_columns(out):
    pq.write_table(pa.table({"a": [1]}), shard(out))


def of_another_run(out):
    data = out.parent / "others"
    save_pictures(data, 11, seed=3)
    other = run_tiny(data, out.parent / "other")
    shutil.copy(shard(other.folder), shard(out))


DAMAGE = [
    *(truncated, empty, missing, dangling, words, copied_over, rows_missing, rows_twice),
    *(written_again, other_columns, of_another_run),
]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_shard_that_is_not_as_it_was_is_named_and_done_again(folder, whole, out, capsys, damage):
    kept = shard(out, 0).read_bytes()
    damage(out)
    named = ("part-00001.parquet", "scores again")
    refused(named, lambda: load_run(out))
    assert main(["report", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "part-00001.parquet" in said
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "More than half of the regions")
        run = run_tiny(folder, out)
    told = [str(warning.message) for warning in caught]
    assert len(told) == 1
    assert all("Done again" in line and "part-00001.parquet" in line for line in told)
    assert plain(run.table) == plain(load_run(whole).table)
    assert plain(load_run(out).table) == plain(run.table)
    assert shard(out, 0).read_bytes() == kept


def test_shards_that_changed_places_are_named_and_done_again(folder, whole, out):
    beside = out / "beside"
    shard(out, 0).rename(beside)
    shard(out, 1).rename(shard(out, 0))
    beside.rename(shard(out, 1))
    refused(("part-00000.parquet is damaged, or no shard 0",), lambda: load_run(out))
    with pytest.warns(UserWarning, match=r"part-00000.*1 more"):
        run = run_tiny(folder, out)
    assert plain(run.table) == plain(load_run(whole).table)
    shard(out, 0).unlink()
    missing(out)
    with pytest.warns(UserWarning, match=r"part-00000\.parquet is missing, and 1 more"):
        run_tiny(folder, out)


def test_a_folder_in_a_shards_place_is_refused(folder, out):
    missing(out)
    shard(out).mkdir()
    refused(("part-00001.parquet is no file",), lambda: load_run(out))
    with pytest.warns(UserWarning, match="part-00001"):
        refused(("part-00001.parquet", "folder"), lambda: run_tiny(folder, out))


def test_folders_called_as_leftovers_are_left_alone(folder, out):
    names = ("part-00001.begun", "a.0123456789ab.part", ".decoding-0")
    for name in names:
        (out / name).mkdir()
    as_if_killed(out, 0)
    assert run_tiny(folder, out).is_complete
    assert all((out / name).is_dir() for name in names)


def test_a_lost_shard_of_a_run_that_has_ended_is_named_also_when_the_run_is_extended(
    folder, out, tmp_path
):
    data = shutil.copytree(folder, tmp_path / "data")
    shutil.copy(data / "000.png", data / "new.png")
    missing(out)
    with pytest.warns(UserWarning, match=r"as they are now: part-00001\.parquet is missing\.$"):
        run = run_tiny(data, out, extend=True)
    assert len(run.table) == 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_if_killed(out, 0, 3)  # a run that has not ended lacks shards by right
        assert run_tiny(data, out, extend=True).is_complete


@pytest.mark.parametrize("name", ["part-000001.parquet", "part-00099.parquet", "part-1.parquet"])
def test_a_file_that_readers_would_take_for_a_shard_is_refused(folder, out, name):
    shutil.copy(shard(out), out / name)
    for call in (lambda: load_run(out), lambda: run_tiny(folder, out)):
        refused((name, "Take it out"), call)


def test_a_run_that_is_killed_lacks_shards_and_can_be_read(whole, out):
    as_if_killed(out, 1)
    run = load_run(out)
    assert repr(run) == "DatasetRun(7 of 11 pictures, 1 of them bad)"
    assert not run.is_complete
    rows = plain(load_run(whole).table)
    assert plain(run.table) == {name: values[:4] + values[8:] for name, values in rows.items()}


@pytest.mark.parametrize("name", ["part-00001.parquet", "part-00002.parquet", "keys.parquet"])
def test_no_flipped_bit_reads_as_other_scores(out, name):
    draw = random.Random(3)
    path = out / name
    content = path.read_bytes()
    for _ in range(FLIPS):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        refused((name,), lambda: load_run(out))
    path.write_bytes(content)
    assert load_run(out).is_complete


@pytest.mark.parametrize("name", ["manifest.json", "map.safetensors"])
def test_no_flipped_bit_reads_as_other_settings_or_regions(out, name):
    draw = random.Random(4)
    path = out / name
    content = path.read_bytes()
    before = load_run(out)
    first, regions = before["000.png"], before["000.png"].regions.state()
    for _ in range(FLIPS):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            run = load_run(out)
            found = run["000.png"]
        except ArgumentError as error:
            assert name in str(error)  # noqa: PT017 - either is right
            continue
        assert run.manifest == before.manifest
        assert torch.equal(found.scores, first.scores)
        assert (found.unit, found.view, found.overlap) == (first.unit, first.view, first.overlap)
        state = found.regions.state()
        assert state.keys() == regions.keys()
        assert all(torch.equal(state[part], regions[part]) for part in regions)


def test_a_manifest_that_is_no_manifest_is_one_error(folder, out):
    manifest = read_manifest(out)
    wrong = [{k: v for k, v in manifest.items() if k != name} for name in manifest]
    wrong += [{**manifest, "settings": [1]}, {**manifest, "pictures": "many"}]
    contents = [json.dumps(one).encode() for one in wrong]
    contents += [b"", b"[" * 100_000 + b"]" * 100_000, b'{"x": "\xff"}']
    for content in contents:
        (out / "manifest.json").write_bytes(content)
        refused(("manifest.json",), lambda: load_run(out))
        refused(("manifest.json",), lambda: run_tiny(folder, out))


def test_a_map_that_is_missing_or_damaged_is_written_again(folder, whole, out):
    path = out / "map.safetensors"
    for damage in (path.unlink, lambda: os.truncate(path, 100)):
        damage()
        refused(("map.safetensors",), lambda: load_run(out))
        run = run_tiny(folder, out)
        assert plain(load_run(out).table) == plain(run.table) == plain(load_run(whole).table)


def test_a_list_of_pictures_that_is_damaged_is_made_again(folder, whole, out, monkeypatch):
    path = out / "keys.parquet"
    os.truncate(path, 100)
    refused(("keys.parquet",), lambda: load_run(out))
    monkeypatch.setattr("captum_infomask.dataset_run.job.Worker._rows", None)  # nothing to do
    with pytest.warns(UserWarning, match=r"Made again from `data`.*keys\.parquet"):
        run = run_tiny(folder, out)
    assert plain(load_run(out).table) == plain(run.table) == plain(load_run(whole).table)


def test_a_kill_before_the_first_shard_is_no_damage(folder, whole, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_manifest(out, {**read_manifest(whole), "ended": None})
    shutil.copy(whole / "map.safetensors", out)
    assert repr(load_run(out)) == "DatasetRun(0 of 11 pictures, 0 of them bad)"
    assert plain(run_tiny(folder, out).table) == plain(load_run(whole).table)
