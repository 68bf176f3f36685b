# Every file that holds a picture is read; what is passed over is counted and named; nothing hangs.
from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from refused import refused
from run_samples import SIDE, rows_of, run_tiny, save_pictures

from captum_infomask import ArgumentError, load_run
from captum_infomask.cli import main
from captum_infomask.dataset_run.data.data_pictures import find_pictures
from captum_infomask.dataset_run.data.finding import picture_suffixes
from captum_infomask.dataset_run.data.reading import Skipped
from captum_infomask.models.preprocessing import decode_image

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def noise(seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(kind: str, seed: int = 0, **settings: object) -> bytes:
    file = io.BytesIO()
    noise(seed).save(file, kind, **settings)
    return file.getvalue()


@pytest.fixture
def in_time() -> Iterator[None]:
    """What hangs is a failure."""

    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# --- what Pillow reads ---------------------------------------------------------------------------

LOSSLESS = {
    **{"a.jp2": "JPEG2000", "a.j2k": "JPEG2000", "a.tga": "TGA", "a.ico": "ICO"},
    **{"a.ppm": "PPM", "A.BMP": "BMP", "a.apng": "PNG", "a.pcx": "PCX", "a.dib": "DIB"},
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_every_suffix_of_a_format_without_loss_is_read(tmp_path, name):
    settings = {"sizes": [(SIDE, SIDE)]} if name == "a.ico" else {}
    (tmp_path / name).write_bytes(encoded(LOSSLESS[name], **settings))
    pictures = find_pictures(tmp_path)
    assert (pictures.keys, pictures.skipped) == ([name], Skipped())
    assert np.array_equal(decode_image(pictures.read(0), name), noise())


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JPG", "mpo"])
def test_every_suffix_of_jpeg_is_read(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(encoded("JPEG"))
    pictures = find_pictures(tmp_path)
    assert pictures.keys == [f"a.{suffix}"]
    assert decode_image(pictures.read(0), "a").size == (SIDE, SIDE)


def test_every_suffix_of_before_is_read_still():
    before = ".jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp .gif"
    assert set(before.split()) <= picture_suffixes()
    assert not {".eps", ".ps", ".pdf", ".mpg", ".h5", ".txt", ".parquet"} & picture_suffixes()


def test_a_format_that_another_package_reads_is_found_once_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "EXTENSION", dict(Image.EXTENSION))
    (tmp_path / "a.heicx").write_bytes(encoded("PNG"))
    (tmp_path / "b.png").write_bytes(encoded("PNG"))
    assert find_pictures(tmp_path).skipped == Skipped(1, ("a.heicx",))
    Image.register_extension("PNG", ".heicx")
    assert find_pictures(tmp_path).keys == ["a.heicx", "b.png"]


# --- names without a suffix ----------------------------------------------------------------------

BARE = {
    **{"1/img_0001": encoded("JPEG"), "1/n7": encoded("PNG"), "2/x": encoded("TIFF")},
    **{"2/dir.d/y": encoded("WEBP"), "2/cut": encoded("PNG")[:200]},
}
NO_PICTURES = {
    **{"LICENSE": b"Permission is hereby granted", "1/README": b"Python reads P6 files"},
    **{"_SUCCESS": b"", "program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"},
    **{"1/labels.csv": b"a,b", "1/photo.heic": b"\0\0\0\x18ftypheic", "t.parquet": b"PAR1"},
}


def test_names_without_a_suffix_are_read_by_what_they_hold(tmp_path):
    for name, content in {**BARE, **NO_PICTURES}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    pictures = find_pictures(tmp_path)
    assert pictures.keys == sorted(BARE)
    assert [pictures.read(k) for k in range(len(BARE))] == [BARE[key] for key in sorted(BARE)]
    assert pictures.skipped == Skipped(len(NO_PICTURES), tuple(sorted(NO_PICTURES)[:5]))


def test_names_without_a_suffix_at_an_address(tmp_path):
    memory = fsspec.filesystem("memory")
    for name, content in {**BARE, **NO_PICTURES}.items():
        memory.pipe_file(f"/bare/{name}", content)
    try:
        pictures = find_pictures("memory://bare")
        assert pictures.keys == sorted(BARE)
        assert pictures.skipped == Skipped(len(NO_PICTURES), tuple(sorted(NO_PICTURES)[:5]))
        assert find_pictures("memory://bare/1/*").skipped == Skipped()
    finally:
        memory.rm("/bare", recursive=True)


def test_a_bomb_without_a_suffix_is_found_and_not_decoded(tmp_path, monkeypatch):
    (tmp_path / "bomb").write_bytes(encoded("PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    pictures = find_pictures(tmp_path)
    assert pictures.keys == ["bomb"]
    with pytest.raises(ArgumentError, match="MAX_IMAGE_PIXELS"):
        decode_image(pictures.read(0), "bomb")


# --- what is passed over is told -----------------------------------------------------------------


def test_what_is_skipped_is_counted_and_named(tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    save_pictures(data, 2)
    for name in ("b.heic", "a.txt", "c\udce9.csv", "d.doc", "e.xls", "f.zip"):
        (data / name).write_text("no picture")
    first = ("a.txt", "b.heic", "c\\udce9.csv", "d.doc", "e.xls")
    run = run_tiny(data, out)
    assert run.skipped == load_run(out).skipped == Skipped(6, first)
    assert json.loads((out / "manifest.json").read_text())["skipped"]["count"] == 6
    (data / "g.txt").write_text("one more does not stop a run that goes on")
    assert run_tiny(data, out).skipped == Skipped(7, first)
    assert main(["report", str(out)]) == 0
    assert "skipped.count" in (out / "report.html").read_text()
    capsys.readouterr()
    words = ["run", "--data", str(data), "--model", "two_digits", "--workers", "0"]
    assert main([*words, "--out", str(tmp_path / "again")]) == 0
    told = capsys.readouterr().out
    assert "7 files skipped, not pictures: a.txt, b.heic, " in told
    assert "e.xls, …" in told


def test_nothing_skipped_is_not_told(tmp_path, capsys):
    save_pictures(tmp_path / "data", 1)
    words = ["run", "--data", str(tmp_path / "data"), "--model", "two_digits", "--workers", "0"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "files skipped" not in capsys.readouterr().out


def test_a_folder_of_tables_names_what_lies_beside_them(tmp_path):
    pq.write_table(pa.table({"image": [encoded("PNG")]}), tmp_path / "a.parquet")
    (tmp_path / "README.md").write_text("read me")
    pictures = find_pictures(tmp_path)
    assert (pictures.keys, pictures.skipped) == (["a.parquet#0"], Skipped(1, ("README.md",)))


# --- what never ends -----------------------------------------------------------------------------


def odd_files(folder: Path) -> list[str]:
    """A pipe, a socket and a link to a device, called pictures."""
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    here = os.getcwd()
    os.chdir(folder)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket.png")
    finally:
        os.chdir(here)
    return ["pipe.png", "socket.png", "zero.png"]


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("pattern", ["", "/*.png", "/**"])
def test_pipes_sockets_and_devices_are_skipped_and_named(tmp_path, pattern):
    data = tmp_path / "data"
    keys = save_pictures(data, 3)
    odd = odd_files(data)
    run = run_tiny(f"{data}{pattern}", tmp_path / "out")
    assert sorted(run) == keys
    assert run.errors == {}
    assert run.skipped == Skipped(3, tuple(odd))


@pytest.mark.usefixtures("in_time")
def test_what_never_ends_is_no_data_set(tmp_path):
    for name in odd_files(tmp_path):
        with pytest.raises(ArgumentError, match="is no file"):
            find_pictures(tmp_path / name)
    with pytest.raises(ArgumentError, match=r"only what is none, such as pipe\.png"):
        find_pictures(f"{tmp_path}/*.png")


@pytest.mark.usefixtures("in_time")
def test_a_picture_that_became_a_pipe_is_an_error_of_its_own(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    pq.write_table(pa.table({"image": [encoded("PNG")]}), tmp_path / "t.parquet")
    pictures, table = find_pictures(tmp_path), find_pictures(tmp_path / "t.parquet")
    for name, found in (("a.png", pictures), ("t.parquet", table)):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(OSError, match="is no regular file"):
            found.read(0)


# --- pictures that a table only names ------------------------------------------------------------


def table_of(folder: Path, paths: list[str | None]) -> Path:
    """A table in Hugging Face's form whose rows hold no bytes."""
    rows = [{"bytes": None, "path": path} for path in paths]
    pq.write_table(pa.table({"image": pa.array(rows, STRUCT)}), folder / "table.parquet")
    return folder / "table.parquet"


def test_rows_without_bytes_are_the_files_that_they_name(tmp_path):
    keys = save_pictures(tmp_path / "set", 4, folders=("", "deep/er"))
    table = table_of(tmp_path / "set", keys)
    run = run_tiny(table, tmp_path / "out")
    assert run.errors == {}
    assert rows_of(run.table) == rows_of(run_tiny(tmp_path / "set", tmp_path / "own").table)


def test_a_table_may_hold_some_and_name_others(tmp_path):
    (tmp_path / "b.png").write_bytes(encoded("PNG", 1))
    rows = [{"bytes": encoded("PNG"), "path": "a"}, {"bytes": None, "path": "b.png"}]
    pq.write_table(pa.table({"image": pa.array(rows, STRUCT)}), tmp_path / "t.parquet")
    pictures = find_pictures(tmp_path / "t.parquet")
    for k in (0, 1, 0, 1):
        assert pictures.read(k) == encoded("PNG", k)


OUTSIDE = ["../x.png", "a/../../x.png", "%2e%2e/x.png", "..", "/x.png", "link.png", "out/x.png"]


def test_no_row_leads_out_of_the_tables_folder(tmp_path, monkeypatch):
    """Each of them is a picture that is there."""
    folder = tmp_path / "set"
    (folder / "a").mkdir(parents=True)
    (folder / "%2e%2e").mkdir()
    for place in (tmp_path / "x.png", folder / "%2e%2e" / "x.png", folder / "in.png"):
        place.write_bytes(encoded("PNG"))
    (folder / "link.png").symlink_to(tmp_path / "x.png")
    (folder / "out").symlink_to(tmp_path)
    address = f"file://{tmp_path}/x.png"
    paths = [*OUTSIDE, str(tmp_path / "x.png"), address, f"simplecache::{address}", "x\0y"]
    pictures = find_pictures(table_of(folder, [*paths, "in.png", "a/../in.png"]))
    opened = []
    monkeypatch.setattr("builtins.open", lambda path, *_: opened.append(path) or io.BytesIO(b"in"))
    for k, path in enumerate(paths):
        with pytest.raises(OSError, match=r"leads out of the folder of table\.parquet"):
            pictures.read(k)
        assert opened == [], path
    assert pictures.read(len(paths)) == pictures.read(len(paths) + 1) == b"in"


def test_no_row_leads_out_at_an_address(tmp_path):
    memory = fsspec.filesystem("memory")
    paths = ["../x.png", "a/../../x.png", "%2e%2e/x.png", "/x.png", "memory://x.png", "::x.png"]
    table = table_of(tmp_path, [*paths, "in.png", "a/in.png"]).read_bytes()
    for name in ("x.png", "set/in.png", "set/a/in.png"):
        memory.pipe_file(f"/{name}", name.encode())
    memory.pipe_file("/set/table.parquet", table)
    try:
        pictures = find_pictures("memory://set/table.parquet")
        for k in range(len(paths)):
            with pytest.raises(OSError, match="leads out"):
                pictures.read(k)
        assert pictures.read(len(paths)) == b"set/in.png"
        assert pictures.read(len(paths) + 1) == b"set/a/in.png"
    finally:
        memory.rm("/x.png")
        memory.rm("/set", recursive=True)


def test_a_file_that_is_missing_is_an_error_of_its_row(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    run = run_tiny(table_of(tmp_path, ["a.png", "gone.png"]), tmp_path / "out" / "deep", workers=0)
    assert list(run) == ["a.png"]
    assert "No such file" in run.errors["gone.png"]


# --- keys and labels of a table ------------------------------------------------------------------


@pytest.mark.parametrize("column", ["key", "path"])
@pytest.mark.parametrize(
    "values", [[["a"]], [{"a": 1}], pa.array([[("a", 1)]], pa.map_("str", "i8"))]
)
def test_keys_that_are_lists_are_an_error_of_the_column(tmp_path, column, values):
    table = pa.table({"image": [encoded("PNG")], column: values})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(ArgumentError, match=rf"column '{column}' to hold words.*t\.parquet"):
        find_pictures(tmp_path)


@pytest.mark.parametrize("column", ["key", "path", "label", "image"])
def test_words_that_are_no_utf8_are_an_error_of_the_table(tmp_path, column):
    """As a file may hold them that another program wrote."""
    pixels = pa.array([encoded("PNG")], pa.binary())
    words = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    columns = {"image": pixels, column: words}
    if column == "image":
        columns = {"image": pa.StructArray.from_arrays([pixels, words], ["bytes", "path"])}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(ArgumentError, match="to be UTF-8"):
        find_pictures(tmp_path, "label" if column == "label" else "prediction")


# --- what is no data set -------------------------------------------------------------------------


def test_a_data_sets_object_is_told_what_to_pass_instead(tmp_path):
    data = (tmp_path, tmp_path)
    refused(
        ("`data`", "(picture, label)", "Pass the folder"), lambda: run_tiny(data, tmp_path / "out")
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pattern", ["", "**/*", "*/*"])
def test_the_results_are_not_among_the_pictures(tmp_path, pattern):
    data = tmp_path / "data"
    save_pictures(data, 2, folders=("cat",))
    if not pattern:
        (data / "link").symlink_to(data / "cat")  # by which results are met once more
    for out in (data / "out", data / "cat" / "out"):
        given = f"{data}/{pattern}".rstrip("/")
        runs = [run_tiny(given, out) for _ in range(2)]
        assert [list(run) for run in runs] == [list(runs[0])] * 2
        assert runs[1].skipped.count == runs[0].skipped.count
        assert runs[1].scored == 0
        shutil.rmtree(out)
