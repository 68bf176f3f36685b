# Pictures in Parquet: over several files and row groups, in any order, without reading the rest.
from __future__ import annotations

import os
import pickle
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from captum_infomask import ArgumentError
from captum_infomask.dataset_run.data import parquet_files
from captum_infomask.dataset_run.data.data_pictures import DataPictures, find_pictures

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def blob(number: int) -> bytes:
    return f"picture {number}".encode() * 50


def write(file: Path, numbers: range, group: int = 4, **columns: list) -> None:
    """Write pictures as bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": pa.array([blob(n) for n in numbers], pa.binary()), **columns})
    pq.write_table(table, file, row_group_size=group)


def write_structs(path: Path, numbers: range, paths: list, group: int = 4) -> None:
    """Write pictures as Hugging Face writes them."""
    structs = [{"bytes": blob(n), "path": p} for n, p in zip(numbers, paths, strict=True)]
    pq.write_table(pa.table({"image": pa.array(structs, STRUCT)}), path, row_group_size=group)


def in_any_order(pictures: DataPictures) -> bool:
    """Whether every picture is read rightly, forward, backward and at random."""
    forward = list(range(len(pictures.keys)))
    mixed = random.Random(0).sample(forward, len(forward))
    return all(pictures.read(k) == blob(k) for k in [*forward, *forward[::-1], *mixed])


# --- reading -----------------------------------------------------------------------------------


def test_rows_of_several_files_and_row_groups(tmp_path):
    write(tmp_path / "b" / "2.parquet", range(30, 31))
    write(tmp_path / "b" / "10.parquet", range(9, 30), group=5)
    write(tmp_path / "a.parquet", range(9))
    pictures = find_pictures(tmp_path)
    assert isinstance(pictures, DataPictures)
    assert pictures.labels is None
    assert pictures.keys[:2] == ["a.parquet#0", "a.parquet#1"]
    assert pictures.keys[9:11] == ["b/10.parquet#0", "b/10.parquet#1"]
    assert pictures.keys[30:] == ["b/2.parquet#0"]
    assert in_any_order(pictures)
    assert in_any_order(pickle.loads(pickle.dumps(pictures)))
    assert find_pictures(f"{tmp_path}/*/*.parquet").keys[0] == "b/10.parquet#0"
    assert find_pictures(tmp_path / "b" / "2.parquet").keys == ["2.parquet#0"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        *([pa.binary_view()] if hasattr(pa, "binary_view") else []),  # from pyarrow 16 on
    ],
)
def test_bytes_of_every_type(tmp_path, kind):
    pq.write_table(pa.table({"image": pa.array([blob(0), blob(1)], kind)}), tmp_path / "a.parquet")
    assert in_any_order(find_pictures(tmp_path))


def test_an_empty_file_between_others_takes_no_row(tmp_path):
    write(tmp_path / "a.parquet", range(3))
    write(tmp_path / "b.parquet", range(0))
    write(tmp_path / "c.parquet", range(3, 5))
    pictures = find_pictures(tmp_path)
    assert pictures.keys[2:] == ["a.parquet#2", "c.parquet#0", "c.parquet#1"]
    assert in_any_order(pictures)


def test_a_row_without_a_picture_is_an_error_of_that_row(tmp_path):
    pq.write_table(
        pa.table({"image": pa.array([None, blob(1), b""], pa.binary())}), tmp_path / "a.parquet"
    )
    structs = [None, {"bytes": None, "path": ""}, {"bytes": blob(4), "path": "c"}]
    pq.write_table(pa.table({"image": pa.array(structs, STRUCT)}), tmp_path / "b.parquet")
    pictures = find_pictures(tmp_path)
    for k in (0, 3, 4):
        with pytest.raises(OSError, match="holds no picture"):
            pictures.read(k)
    assert pictures.read(1) == blob(1)
    assert pictures.read(2) == b""
    assert pictures.read(5) == blob(4)


def test_only_the_pictures_are_read(tmp_path):
    """The other columns are damaged, which whoever reads them notices."""
    path = tmp_path / "a.parquet"
    write(path, range(8), other=[os.urandom(100) for _ in range(8)])
    metadata = pq.ParquetFile(path).metadata
    content = bytearray(path.read_bytes())
    for group in range(2):
        column = metadata.row_group(group).column(1)
        start, size = column.file_offset or column.data_page_offset, column.total_compressed_size
        start = min(x for x in (column.dictionary_page_offset, column.data_page_offset) if x)
        content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises(OSError, match="page header"):
        pq.read_table(path)
    assert in_any_order(find_pictures(path))


def test_a_damaged_picture_column_is_an_error_of_its_rows(tmp_path):
    path = tmp_path / "a.parquet"
    write(path, range(8))
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    pictures = find_pictures(path)
    for _ in range(2):
        for k in range(4):
            with pytest.raises(OSError, match="page header"):
                pictures.read(k)
        assert [pictures.read(k) for k in range(4, 8)] == [blob(k) for k in range(4, 8)]


def test_a_row_group_need_not_fit_into_memory(tmp_path):
    path = tmp_path / "a.parquet"
    pictures = [os.urandom(2**20) for _ in range(64)]
    table = pa.table({"image": pa.array(pictures, pa.binary())})
    pq.write_table(table, path, data_page_size=2**20, write_batch_size=1, use_dictionary=False)
    assert pq.ParquetFile(path).num_row_groups == 1
    del table
    found = find_pictures(path)
    before, most = pa.total_allocated_bytes(), 0
    for k in range(64):
        assert found.read(k) == pictures[k]
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 48 * 2**20


def test_one_thread_does_not_read_on_where_another_reads(tmp_path, monkeypatch):
    """Another thread's read falls between the choice of a row group's reader and its use."""
    write(tmp_path / "a.parquet", range(60), group=60)
    pictures = find_pictures(tmp_path)
    assert pictures.read(0) == blob(0)
    read_row, others = parquet_files._Reading.row, []

    def row(reading: parquet_files._Reading, number: int) -> bytes | None:
        if not others:
            others.append(None)
            others[0] = pictures.read(59)
        return read_row(reading, number)

    monkeypatch.setattr(parquet_files._Reading, "row", row)
    assert pictures.read(1) == blob(1)
    assert others == [blob(59)]
    assert in_any_order(pictures)


def test_a_forked_process_reads_rightly_beside_its_parent(tmp_path):
    """They must not share an open file, whose place both would move."""
    write(tmp_path / "a.parquet", range(60), group=60)
    pictures = find_pictures(tmp_path)
    assert pictures.read(5) == blob(5)
    reading = pictures._reading["last"]
    assert reading.reaches(0, 6)
    getpid = os.getpid
    os.getpid = lambda: -1
    try:
        assert not reading.reaches(0, 6)
        assert in_any_order(pictures)
    finally:
        os.getpid = getpid


def test_parquet_at_an_address(tmp_path):
    import fsspec

    write(tmp_path / "a.parquet", range(9), label=list(range(9)))
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/tables/a.parquet", (tmp_path / "a.parquet").read_bytes())
    try:
        for data in ("memory://tables", "memory://tables/*.parquet", "memory://tables/a.parquet"):
            pictures = find_pictures(data, "label")
            assert pictures.labels == list(range(9))
            assert in_any_order(pictures)
    finally:
        memory.rm("/tables", recursive=True)


# --- keys --------------------------------------------------------------------------------------


def test_keys_are_the_structs_paths_if_each_is_there_once(tmp_path):
    write_structs(tmp_path / "a.parquet", range(3), ["x.png", "y.png", "z.png"])
    write_structs(tmp_path / "b.parquet", range(3, 5), ["b/x.png", "é.png"])
    pictures = find_pictures(tmp_path)
    assert pictures.keys == ["x.png", "y.png", "z.png", "b/x.png", "é.png"]
    assert in_any_order(pictures)


@pytest.mark.parametrize("paths", [["x", "x", "y"], ["x", None, "y"], ["x", "", "y"]])
def test_paths_that_do_not_tell_the_rows_apart_are_no_keys(tmp_path, paths):
    write_structs(tmp_path / "a.parquet", range(3), paths)
    assert find_pictures(tmp_path).keys == ["a.parquet#0", "a.parquet#1", "a.parquet#2"]


def test_keys_are_a_column(tmp_path):
    write(tmp_path / "a.parquet", range(2), path=["p", "q"], key=[7, 5])
    assert find_pictures(tmp_path).keys == ["7", "5"]
    write(tmp_path / "b.parquet", range(1), path=["r"])
    assert find_pictures(tmp_path).keys == ["p", "q", "r"]
    write(tmp_path / "c.parquet", range(1))
    assert find_pictures(tmp_path).keys[2:] == ["b.parquet#0", "c.parquet#0"]


@pytest.mark.parametrize(("keys", "words"), [(["x", "x"], "'x' names two"), (["x", None], "none")])
def test_a_column_of_keys_must_tell_the_rows_apart(tmp_path, keys, words):
    write(tmp_path / "a.parquet", range(2), key=keys)
    with pytest.raises(ArgumentError, match=f"'key'.*{words}"):
        find_pictures(tmp_path)


# --- labels ------------------------------------------------------------------------------------


def test_labels_are_a_column_of_integers_or_words(tmp_path):
    words = pa.array(["cat", None, "cat"]).dictionary_encode()
    write(tmp_path / "a.parquet", range(3), label=[2, None, 0], kind=words, none=[None] * 3)
    assert find_pictures(tmp_path, "label").labels == [2, None, 0]
    pictures = find_pictures(tmp_path, "kind")
    assert pictures.labels == ["cat", None, "cat"]
    assert not pictures.labels_are_folders
    assert find_pictures(tmp_path, "none").labels == [None] * 3


def test_labels_that_cannot_be_had_are_named(tmp_path):
    write(tmp_path / "a.parquet", range(2), weight=[0.5, 1.0], flag=[True, False], many=[[1], [2]])
    for target, words in [
        ("label", r"`target` to be a column of a\.parquet; got .label.; it has image, weight"),
        ("species", "'species'"),
        ("weight", "integers or words; in a.parquet it holds double"),
        ("flag", "bool"),
        ("many", "list"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            find_pictures(tmp_path, target)
    write(tmp_path / "b.parquet", range(2), label=[0, 1])
    with pytest.raises(ArgumentError, match=r"a\.parquet"):
        find_pictures(tmp_path, "label")


# --- what is no Parquet of pictures ------------------------------------------------------------


def test_what_is_no_parquet_of_pictures_is_named(tmp_path):
    write(tmp_path / "whole.parquet", range(4))
    content = (tmp_path / "whole.parquet").read_bytes()
    for name, data in {"cut": content[:-20], "empty": b"", "text": b"a,b\n1,2\n" * 9}.items():
        (tmp_path / f"{name}.parquet").write_bytes(data)
        with pytest.raises(ArgumentError, match=rf"{name}\.parquet cannot be read"):
            find_pictures(tmp_path / f"{name}.parquet")
        with pytest.raises(ArgumentError, match=r"cannot be read"):
            find_pictures(tmp_path)
    for name, columns, words in [
        ("other", {"x": [1]}, r"column 'image' of pictures in other\.parquet; it has x"),
        ("text", {"image": ["a"]}, "holds string"),
        ("struct", {"image": [{"path": "a"}]}, "holds struct"),
        ("none", {"image": pa.array([], pa.binary())}, r"none\.parquet has no rows"),
    ]:
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        with pytest.raises(ArgumentError, match=words):
            find_pictures(tmp_path / f"{name}.parquet")


def test_a_folder_with_pictures_is_a_folder_of_pictures(tmp_path):
    write(tmp_path / "table.parquet", range(4))
    (tmp_path / "a.png").write_bytes(b"a")
    assert find_pictures(tmp_path).keys == ["a.png"]
    assert len(find_pictures(f"{tmp_path}/*.parquet").keys) == 4
    with pytest.raises(ArgumentError, match=r"not both.*table\.parquet and a\.png"):
        find_pictures(f"{tmp_path}/*")
