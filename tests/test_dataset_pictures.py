# The pictures of folders, globs and addresses: which they are, and their names.
from __future__ import annotations

import os
import pickle
from pathlib import Path

import fsspec
import pytest
from torchvision.datasets import ImageFolder

from captum_infomask import ArgumentError
from captum_infomask.dataset_run.data import reading
from captum_infomask.dataset_run.data.data_pictures import DataPictures, find_pictures
from captum_infomask.dataset_run.data.reading import Files
from captum_infomask.dataset_run.listing import label_classes


def fill(folder: Path, *names: str) -> None:
    """Write files that hold their own names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def contents(pictures: DataPictures) -> list[bytes]:
    return [pictures.read(k) for k in range(len(pictures.keys))]


@pytest.fixture
def tree(tmp_path) -> Path:
    fill(tmp_path, "dog/2.png", "dog/10.JPG", "cat/deep/er/1.jpeg", "cat/1.webp", "cat/a.tif")
    fill(tmp_path, "cat/notes.txt", "cat/.hidden.jpg", ".git/x.png", "dog/list.json", "cat/b.npy")
    return tmp_path


@pytest.fixture
def memory():
    """A file system in memory, empty before and after."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


TREE = ["cat/1.webp", "cat/a.tif", "cat/deep/er/1.jpeg", "dog/10.JPG", "dog/2.png"]


# --- folders -----------------------------------------------------------------------------------


def test_a_folders_pictures_are_found_at_any_depth_and_sorted(tree):
    pictures = find_pictures(tree)
    assert isinstance(pictures, DataPictures)
    assert pictures.keys == TREE
    assert pictures.labels is None
    assert contents(pictures) == [name.encode() for name in TREE]


def test_labels_are_the_first_folders_names(tree):
    pictures = find_pictures(str(tree), "label")
    assert pictures.labels == ["cat", "cat", "cat", "dog", "dog"]
    assert pictures.labels_are_folders
    assert pictures.labels[0] is pictures.labels[2]  # a million labels are a few words


def test_a_folder_is_read_as_imagefolder_reads_it(tree, tmp_path_factory):
    """Links are followed, and classes are numbered alike; only hidden files differ."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    fill(elsewhere, "9.png", "sub/8.bmp")
    (tree / "horse").symlink_to(elsewhere, target_is_directory=True)
    (tree / "cat" / "linked.ppm").symlink_to(elsewhere / "9.png")
    (tree / "dog" / "gone.png").symlink_to(elsewhere / "no such file")
    (tree / "cat" / ".hidden.jpg").unlink()
    (tree / ".git" / "x.png").rename(tree / "dog" / "x.png")
    (tree / ".git").rmdir()
    found = find_pictures(tree, "label")
    theirs = ImageFolder(str(tree))
    assert len(theirs.samples) == 10
    ours = [str(tree / key) for key in found.keys]
    assert sorted(path for path, _ in theirs.samples) == sorted(ours)
    classes = label_classes(found.labels, ["x", "y", "z"], folders=True)
    assert dict(theirs.samples) == dict(zip(ours, classes, strict=True))
    with pytest.raises(FileNotFoundError):
        found.read(found.keys.index("dog/gone.png"))


def test_links_in_circles_are_walked_once(tree):
    (tree / "cat" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "cat" / "here").symlink_to(tree / "cat", target_is_directory=True)
    (tree / "itself.png").symlink_to(tree / "itself.png")
    assert find_pictures(tree).keys == [*TREE, "itself.png"]


def test_a_pipe_is_no_picture(tree):
    os.mkfifo(tree / "cat" / "pipe.png")
    assert find_pictures(tree).keys == TREE
    with pytest.raises(ArgumentError, match="is no file"):
        find_pictures(tree / "cat" / "pipe.png")


def test_flat_folders_have_no_labels(tmp_path):
    fill(tmp_path, "a/1.png", "flat.gif", "other.webp")
    assert find_pictures(tmp_path).keys == ["a/1.png", "flat.gif", "other.webp"]
    with pytest.raises(ArgumentError, match=r"sub-folder.*flat\.gif lies in"):
        find_pictures(tmp_path, "label")


@pytest.mark.parametrize("target", ["species", "", "Label"])
def test_folders_have_no_columns(tree, target):
    with pytest.raises(ArgumentError, match=r"'prediction' or 'label'.*not Parquet"):
        find_pictures(tree, target)


def test_one_file_is_a_data_set(tree):
    for name in ("cat/1.webp", "cat/notes.txt"):
        pictures = find_pictures(tree / name)
        assert pictures.keys == [name.removeprefix("cat/")]
        assert contents(pictures) == [name.encode()]


def test_nothing_found_is_said_with_what_was_looked_for(tmp_path):
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "other", "b.txt", "a.npy", ".x.png")
    for data, words in [
        (tmp_path / "empty", r"pictures \(\.jpg, .*\) or \.parquet files; .*no files"),
        (tmp_path / "other", r"2 other files, such as a\.npy"),
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "*.jpg", r"no file matches .*\*\.jpg"),
        ("", "`data`"),
        (None, "`data`"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            find_pictures(data)
    with pytest.raises(ArgumentError, match="`target`"):
        find_pictures(tmp_path, None)


def test_a_folder_that_cannot_be_listed_is_named(tree, monkeypatch):
    scan = os.scandir

    def denied(path: str) -> object:
        if path.endswith("er/"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(ArgumentError, match=r"Permission denied.*cat/deep/er"):
        find_pictures(tree)


def test_names_that_are_no_utf8_are_keys_all_the_same(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(raw, "wb") as file:
        file.write(b"content")
    pictures = find_pictures(tmp_path)
    assert pictures.keys == [r"caf\udce9.png"]
    assert contents(pictures) == [b"content"]
    fill(tmp_path, r"caf\udce9.png")
    with pytest.raises(ArgumentError, match=r"caf\\udce9\.png is there twice"):
        find_pictures(tmp_path)


def test_pictures_can_be_pickled_and_do_not_depend_on_the_working_folder(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    found = [
        find_pictures(data) for data in (tree.name, f"{tree.name}/*/*", f"{tree.name}/cat/1.webp")
    ]
    monkeypatch.chdir(tree / "dog")
    for pictures in found:
        again = pickle.loads(pickle.dumps(pictures))
        assert again.keys == pictures.keys
        assert all(
            name.endswith(key.encode())
            for key, name in zip(again.keys, contents(again), strict=True)
        )


def test_a_key_takes_little_memory():
    names = [f"n{i // 1300:08}/n{i // 1300:08}_{i}.JPEG" for i in range(13_000)]
    assert len(pickle.dumps(Files("/data", names))) < 60 * len(names)


# --- globs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("*/*.png", ["dog/2.png"]),
        ("cat/*", ["1.webp", "a.tif", "b.npy", "notes.txt"]),
        ("[cd]*/[12]*", ["cat/1.webp", "dog/10.JPG", "dog/2.png"]),
        ("**/*.jpeg", ["cat/deep/er/1.jpeg"]),
        ("**/**/1.*", ["cat/1.webp", "cat/deep/er/1.jpeg"]),
        ("cat/deep/*/1.jpeg", ["er/1.jpeg"]),
        ("cat/.hid*", [".hidden.jpg"]),
        ("dog/?.png", ["2.png"]),
    ],
)
def test_every_match_of_a_glob_counts(tree, pattern, keys):
    pictures = find_pictures(f"{tree}/{pattern}")
    assert pictures.keys == keys
    assert all(
        name.endswith(key.encode()) for key, name in zip(keys, contents(pictures), strict=True)
    )


def test_labels_of_a_glob_are_folders_below_its_root(tree):
    assert find_pictures(f"{tree}/*/*.*p*g", "label").labels == ["dog"]
    with pytest.raises(ArgumentError, match=r"2\.png lies in"):
        find_pictures(f"{tree}/dog/*.png", "label")


def test_a_folder_may_be_called_like_a_glob(tmp_path):
    fill(tmp_path, "set [1]*/a.png", "set 1/b.png")
    assert find_pictures(tmp_path / "set [1]*").keys == ["a.png"]


def test_the_home_folder_and_addresses_of_files(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    assert find_pictures("~/dog").keys == ["10.JPG", "2.png"]
    assert find_pictures(f"file://{tree}/dog").keys == ["10.JPG", "2.png"]
    assert find_pictures(f"file://{tree}/*/*.png").keys == ["dog/2.png"]


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        ("memory://set", TREE),
        ("memory:///set/", TREE),
        ("memory://set/cat", ["1.webp", "a.tif", "deep/er/1.jpeg"]),
        ("memory://set/*/*.png", ["dog/2.png"]),
        ("memory://set/**/1.*", ["cat/1.webp", "cat/deep/er/1.jpeg"]),
        ("memory://set/cat/*", ["1.webp", "a.tif", "b.npy", "notes.txt"]),
        ("memory://set/dog/?.png", ["2.png"]),
        ("memory://set/dog/2.png", ["2.png"]),
    ],
)
def test_pictures_at_an_address(tree, memory, data, keys):
    for path in tree.rglob("*"):
        if path.is_file() and path.name != ".hidden.jpg":
            memory.pipe_file(f"/set/{path.relative_to(tree)}", path.read_bytes())
    pictures = pickle.loads(pickle.dumps(find_pictures(data)))
    assert pictures.keys == keys
    assert all(
        name.endswith(key.encode()) for key, name in zip(keys, contents(pictures), strict=True)
    )
    if all("/" in key for key in keys):
        labels = find_pictures(data, "label").labels
        assert labels == [key.partition("/")[0] for key in keys]


def test_hidden_pictures_at_an_address_are_passed_over(memory):
    for name in ("a.png", ".b.png", ".c/d.png", "e/.f/g.png"):
        memory.pipe_file(f"/set/{name}", b"")
    assert find_pictures("memory://set").keys == ["a.png"]


def test_an_archive_is_an_address(tree, tmp_path_factory):
    import shutil

    archive = shutil.make_archive(str(tmp_path_factory.mktemp("archive") / "set"), "zip", tree)
    pictures = find_pictures(f"zip://*/*.png::{archive}", "label")
    assert (pictures.keys, pictures.labels) == (["dog/2.png"], ["dog"])
    assert contents(pickle.loads(pickle.dumps(pictures))) == [b"dog/2.png"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("memory://nothing", "FileNotFoundError"),
        ("memory://nothing/*.png", "no file matches"),
        ("nosuch://bucket/x", "nosuch"),
    ],
)
def test_addresses_where_nothing_is(memory, data, words):
    with pytest.raises(ArgumentError, match=words) as caught:
        find_pictures(data)
    assert data in str(caught.value)


def test_connections_are_made_anew_in_every_process(memory, monkeypatch):
    memory.pipe_file("/set/a.png", b"a")
    pictures = find_pictures("memory://set")
    made = []
    open_address = fsspec.core.url_to_fs
    monkeypatch.setattr(
        reading, "url_to_fs", lambda address: made.append(address) or open_address(address)
    )
    assert contents(pictures) + contents(pictures) == [b"a", b"a"]
    assert len(made) == 1
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert contents(pictures) + contents(pictures) == [b"a", b"a"]
    assert len(made) == 2
    assert contents(pickle.loads(pickle.dumps(pictures))) == [b"a"]
