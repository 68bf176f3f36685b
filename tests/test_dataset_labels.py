# From the data's labels to the network's classes.
from __future__ import annotations

import pytest

from captum_infomask import ArgumentError
from captum_infomask.dataset_run import listing as module
from captum_infomask.dataset_run.listing import label_classes, label_error
from captum_infomask.models.classifier import resolve_target
from captum_infomask.models.imagenet import imagenet_categories

NAMES = ["cat", "Dog", "7"]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([2, 0, 1, 2], (2, 0, 1, 2)),
        ([3, -1, None, 0], (None, None, None, 0)),
        (["dog", "CAT", "7", "1"], (1, 0, 2, 1)),
        (["dog", "horse", None, "3", ""], (1, None, None, None, None)),
        ([], ()),
    ],
)
def test_labels_are_names_or_indices(labels, classes):
    assert label_classes(labels, NAMES) == classes


def test_as_many_words_as_categories_stand_for_them_in_order():
    assert label_classes(["n03", "n01", "n02", "n01", None], NAMES) == (2, 0, 1, 0, None)
    words = [f"n{i}" for i in range(1, 11)]
    indices = [str(i) for i in range(10)]
    by_order = {word: k for k, word in enumerate(sorted(words))}
    assert label_classes(words, indices) == tuple(by_order[word] for word in words)
    assert label_classes(indices, indices) == tuple(range(10))


@pytest.mark.parametrize("words", [["n1", "n2"], ["n1", "n2", "n3", "n4"], ["cat", "n2", "n3"]])
def test_other_words_stand_for_nothing(words):
    """Of too few words, or words beside a category's name, the order says nothing."""
    classes = label_classes(words, NAMES)
    assert classes == tuple(0 if word == "cat" else None for word in words)
    with pytest.raises(ArgumentError, match=r"3 categories.*'n\d' is no category"):
        label_classes(words, NAMES, folders=True)


def test_a_name_of_two_categories_is_none():
    assert label_classes(["crane", "ship"], ["crane", "ship", "crane"]) == (None, 1)


def test_the_error_says_what_was_expected():
    assert label_error("horse", NAMES).endswith(
        "index from 0 to 2 or a category name; got 'horse'."
    )
    assert label_error(None, NAMES).endswith("got none.")
    assert label_error(9, NAMES).endswith("got 9.")


def test_of_many_labels_each_different_word_is_looked_up_once(monkeypatch):
    """Each different word is looked up once, and no unknown one is compared to all names."""
    names = imagenet_categories()
    labels = [f"n{i % 3000:08}" for i in range(300_000)] + [*names] * 1000
    asked = []

    def counted(label, categories):
        asked.append(label)
        return resolve_target(label, categories)

    monkeypatch.setattr(module, "resolve_target", counted)
    classes = label_classes(labels, names)
    assert sorted(asked) == sorted(set(names))
    assert classes[0] is None
    assert classes[-1] == 999
