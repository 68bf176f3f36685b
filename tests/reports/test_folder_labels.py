# What a sub-folder's name means never depends on which other sub-folders are there.
from __future__ import annotations

import io
import itertools
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from refused import refused
from run_samples import QUICK, SEEN, run_tiny, save_pictures, tiny
from tiny import Net
from torchvision.datasets import ImageFolder

from captum_infomask import ArgumentError, run_dataset
from captum_infomask.cli import main
from captum_infomask.dataset_run.listing import label_classes
from captum_infomask.models.classifier import Classifier, read_categories


def indices(count: int) -> list[str]:
    """What categories are called that have no names."""
    return [str(k) for k in range(count)]


def one_to(count: int) -> list[str]:
    return [str(k) for k in range(1, count + 1)]


def classes_of(folders: list[str], categories: list[str], **given: bool) -> dict[str, int] | None:
    """Each folder's class; None where the data set is refused."""
    try:
        found = label_classes(folders, categories, folders=True, **given)
    except ArgumentError:
        return None
    return dict(zip(folders, found, strict=True))


@pytest.mark.parametrize(
    ("names", "first"),
    [(indices(12), "10"), (one_to(12), "1"), ([f"{k:02}" for k in range(1, 13)], "01")],
)
def test_numbers_that_are_not_their_own_place_show_both_readings(names, first):
    place = sorted(names).index(first)
    readings = (
        f"'{first}' may be class {place}, its place among the sorted names as in torchvision's "
        f"ImageFolder, or class {int(first)}, its number. Pass `categories`"
    )
    for categories in (indices(12), [f"kind {k}" for k in range(12)]):
        with pytest.raises(ArgumentError, match=re.escape(readings)):
            label_classes(names, categories, folders=True)


@pytest.mark.parametrize("missing", range(12))
def test_one_missing_folder_changes_no_meaning(missing):
    """With all twelve "2" was class 4, with eleven class 2."""
    names = one_to(12)
    left = names[:missing] + names[missing + 1 :]
    assert classes_of(names, indices(12)) is classes_of(left, indices(12)) is None
    with pytest.raises(ArgumentError, match=r"its number, or its place.*all 12.*11 are there"):
        label_classes(left, indices(12), folders=True)


def test_no_subset_of_numbers_gives_a_folder_two_meanings():
    names = [*indices(4), "7", "10", "03", "a"]
    for categories in (indices(3), indices(4), ["x", "y", "z"]):
        meanings: dict[str, set[int]] = {name: set() for name in names if name != "a"}
        for size in range(1, len(names) + 1):
            for folders in itertools.combinations(names, size):
                found = classes_of(list(folders), categories) or {}
                for name in meanings.keys() & found.keys():
                    meanings[name].add(found[name])
        assert max(map(len, meanings.values())) == 1
        assert all(found <= {int(name)} for name, found in meanings.items())


def test_numbers_that_are_their_own_place_need_no_names():
    assert classes_of(indices(10), indices(10)) == {str(k): k for k in range(10)}
    padded = [f"{k:03}" for k in range(200)]
    assert classes_of(padded, [f"kind {k}" for k in range(200)]) == {
        name: k for k, name in enumerate(padded)
    }


def test_names_that_are_given_settle_it():
    names = one_to(12)
    by_place = {name: k for k, name in enumerate(sorted(names))}
    by_number = {name: int(name) - 1 for name in names}
    for order, meaning in ((sorted(names), by_place), (names, by_number)):
        for left in (names, names[:-1], ["10"]):
            expected = {name: meaning[name] for name in left}
            assert classes_of(left, order, given=True) == expected
    assert classes_of(["10", "2"], indices(12), given=True) == {"10": 10, "2": 2}
    assert classes_of(["7", "CAT"], ["cat", "Dog", "7"]) == {"7": 2, "CAT": 0}


@pytest.mark.parametrize("folders", [["cat", "1"], ["cat", "n1", "n2"], ["1", "10", "x"]])
def test_names_beside_what_is_none_are_refused(folders):
    assert classes_of(folders, ["cat", "dog", "cow"]) is None


def test_a_name_of_two_categories_is_said_to_be_one():
    with pytest.raises(ArgumentError, match="'crane' names several categories"):
        label_classes(["crane"], ["crane", "ship", "crane"], folders=True)


def test_a_columns_numbers_are_indices_whichever_are_there():
    """With twelve words "2" was class 4, with eleven class 2."""
    for words in (one_to(12), one_to(11), ["2"], ["2", "x"], [*one_to(11), "x"]):
        found = dict(zip(words, label_classes(words, indices(12)), strict=True))
        assert found == {w: None if w in ("12", "x") else int(w) for w in words}
    assert label_classes(["1_0", "\u0661", "", "n1"], indices(12)) == (None,) * 4


def test_an_empty_label_takes_no_place_in_the_order():
    assert label_classes(["n2", "", "n1", "n3"], ["x", "y", "z"]) == (1, None, 0, 2)


def folders_of_one(folder: Path, names: list[str]) -> Path:
    for k, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (16, 16), (20 * k, 9, 200 - k)).save(folder / name / "a.png")
    return folder


def test_a_network_of_imagefolders_is_scored_by_its_own_classes(tmp_path):
    data = folders_of_one(tmp_path / "data", one_to(12))
    torch.manual_seed(0)
    network = torch.nn.Sequential(Net(), torch.nn.Linear(5, 12))
    model = Classifier("twelve", network, tuple(indices(12)), preprocess=SEEN)
    with pytest.raises(ArgumentError, match=r"'1' may be class 0, its place.*class 1,"):
        run_dataset(data, model, tmp_path / "out", target="label", **QUICK)
    assert not (tmp_path / "out").exists()
    theirs = ImageFolder(str(data))
    run = run_dataset(
        data, model, tmp_path / "out", target="label", categories=theirs.classes, **QUICK
    )
    targets = dict(zip(run.table["key"].to_pylist(), run.table["target"].to_pylist(), strict=True))
    assert targets == {str(Path(p).relative_to(data)): k for p, k in theirs.samples}
    assert targets["10/a.png"] == 1


def test_the_command_line_gives_names_too(tmp_path, capsys):
    data = folders_of_one(tmp_path / "data", ["1", "2"])
    words = ["run", "--data", str(data), "--model", "two_digits", "--target", "label"]
    words += ["--workers", "0", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "'1' may be class 0, its place" in capsys.readouterr().err
    (tmp_path / "names.txt").write_text("2\n1\n")
    assert main([*words, "--categories", str(tmp_path / "names.txt")]) == 0
    from captum_infomask import load_run

    assert load_run(tmp_path / "out").table["target"].to_pylist() == [1, 0]


def test_a_subset_of_named_folders_keeps_its_classes(tmp_path):
    save_pictures(tmp_path / "data", 4, folders=("Elk", "bee"))
    run = run_tiny(tmp_path / "data", tmp_path / "out", tiny(), target="label")
    assert set(run.table["target"].to_pylist()) == {1, 4}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"\xef\xbb\xbfcat\ndog\n", ("cat", "dog")),
        (b"cat\r\ndog\r\n", ("cat", "dog")),
        ("a\u2028b\nc\n".encode(), ("a\u2028b", "c")),
        (b"a\x0cb\nc\x1dd\n", ("a\x0cb", "c\x1dd")),
    ],
)
def test_a_file_of_names_has_a_name_a_line(tmp_path, content, names):
    """A byte-order mark made the first name another one; odd separators moved all that follow."""
    (tmp_path / "names.txt").write_bytes(content)
    assert read_categories(tmp_path / "names.txt") == names


# --- words of Parquet's columns ------------------------------------------------------------------


def pictures() -> list[bytes]:
    """Four files."""
    files = [io.BytesIO() for _ in range(4)]
    for k, file in enumerate(files):
        Image.new("RGB", (16, 16), (60 * k, 0, 0)).save(file, "PNG")
    return [file.getvalue() for file in files]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
)
def test_words_of_a_column_are_classes_by_name(tmp_path, kind):
    table = pa.table(
        {"image": pictures(), "what": pa.array(["dog", "Ant", "3", "none"]).cast(kind)}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    run = run_tiny(tmp_path / "a.parquet", tmp_path / "out", target="what")
    assert run.table["target"].to_pylist() == [3, 0, 3, None]
    assert ["got 'none'" in error for error in run.errors.values()] == [True]


def test_labels_none_of_which_names_a_class_are_refused_before_any_work(tmp_path):
    table = pa.table({"image": pictures(), "what": ["n1", "n2", "n2", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    out = tmp_path / "out"
    words = ("`target` 'what'", "of 4 labels none", "index from 0 to 4", "'n1'", "`categories`")
    refused(words, lambda: run_tiny(tmp_path / "a.parquet", out, target="what"))
    refused(("`target`", "'dog'"), lambda: run_tiny(tmp_path / "a.parquet", out, target="dog"))
    assert not out.exists()
    named = ("n1", "n2", "x", "y", "z")
    run = run_tiny(tmp_path / "a.parquet", out, target="what", categories=named)
    assert run.table["target"].to_pylist() == [0, 1, 1, None]


def test_a_class_is_no_target_of_a_folder(tmp_path):
    save_pictures(tmp_path / "data", 2)
    refused(
        ("`target`", "got 'dog'", "One class for all pictures"),
        lambda: run_tiny(tmp_path / "data", tmp_path / "out", target="dog"),
    )
