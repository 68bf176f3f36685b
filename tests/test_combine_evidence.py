# Evidence of many pictures: against the literal bets, and on marks that are known.
from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from refused import refused
from small_net import SmallNet

from captum_infomask import CombinedEvidence, InfoMask, combine_evidence, from_feature_mask, grid
from captum_infomask.scores.betting import AnyPrior, KnownPrior, log2_of_mean

CLASSES = 3
NAMES = ["ant", "bee", "cat"]


def marked(n=300, share=1.0, seed=0):
    """Grey noise of 8 × 8; a mark at the top left shows class 2 in a share of its pictures."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.2 + 0.6 * torch.rand(n, 1, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.arange(n) % CLASSES
    has_mark = (labels == 2) & (torch.rand(n, generator=generator) < share)
    x[has_mark, :, :4, :4] = 1
    return x, labels


def network(x):
    """It reads a flat white crop as class 2, and any other as the classes' shares without it."""
    is_mark = x.amin((1, 2, 3)) == 1
    sure = torch.tensor([0.02, 0.02, 0.96], dtype=torch.float64).log()
    open_ = torch.tensor([0.34, 0.34, 0.32], dtype=torch.float64).log()
    return torch.where(is_mark[:, None], sure, open_)


def maps_of(x, model=network, view="crop", **settings):
    return InfoMask(model, **settings).score_classes(x, view=view, regions=grid(x, 2, 2))


def target_maps(x, labels, model=network, view="crop", prior="balanced"):
    infomask = InfoMask(model, prior=prior)
    return infomask.score_regions(x, target=labels, view=view, regions=grid(x, 2, 2))


# They are the bets


@pytest.mark.parametrize("batch", [7, 300])
def test_class_maps_give_the_bets_of_every_class_and_place(batch):
    x, labels = marked(40)
    model = SmallNet(channels=1, classes=CLASSES)
    q = torch.stack([model(part).softmax(1) for part in _crops(x)], 1).detach().numpy()
    capital = AnyPrior(CLASSES, 4)
    capital.add(labels.numpy(), np.broadcast_to(np.arange(3), q.shape), q)
    want = capital.log2_e_values()
    maps = [maps_of(part, model) for part in x.split(batch)]
    both = combine_evidence(maps, "class and place", labels=labels)
    assert both.log2_e_values.numpy() == pytest.approx(want, abs=1e-6)
    by_class = combine_evidence(maps, "class", labels=labels)
    assert by_class.log2_e_values.numpy() == pytest.approx(log2_of_mean(want, 1), abs=1e-6)
    by_place = combine_evidence(iter(maps), labels=labels.tolist())
    assert by_place.log2_e_values.numpy() == pytest.approx(log2_of_mean(want, 0), abs=1e-6)


def test_a_place_counts_classes_that_do_not_occur():
    """Else the number of e-values in its mean would depend on the labels so far."""
    x, labels = marked(40)
    labels = labels.clamp_max(1)
    model = SmallNet(channels=1, classes=CLASSES)
    q = torch.stack([model(part).softmax(1) for part in _crops(x)], 1).detach().numpy()
    capital = AnyPrior(CLASSES, 4)
    capital.add(labels.numpy(), np.broadcast_to(np.arange(3), q.shape), q)
    want = log2_of_mean(capital.log2_e_values(), 0)
    found = combine_evidence(maps_of(x, model), labels=labels)
    assert found.log2_e_values.numpy() == pytest.approx(want, abs=1e-6)
    both = combine_evidence(maps_of(x, model), "class and place", labels=labels)
    assert both.classes.tolist() == [0, 1]


@pytest.mark.parametrize(
    "form",
    [
        lambda labels: [NAMES[k] for k in labels],
        lambda labels: tuple(NAMES[k] for k in labels),
        lambda labels: np.array([NAMES[k] for k in labels]),
        lambda labels: labels.numpy(),
        lambda labels: labels.numpy().astype(np.int32),
        lambda labels: labels.to(torch.uint8),
        lambda labels: list(labels.numpy()),
    ],
)
def test_labels_come_as_names_arrays_and_other_integers(form):
    x, labels = marked(12)
    maps = maps_of(x, categories=NAMES)
    want = combine_evidence(maps, "class and place", labels=labels)
    found = combine_evidence(maps, "class and place", labels=form(labels))
    assert torch.equal(found.log2_e_values, want.log2_e_values)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["ant", "cow"] * 6, ("`labels`", "cow")),
        (["ant"] * 11 + [0.5], ("`labels`", "integers")),
        (torch.zeros(12), ("`labels`", "integers of at least 0", "float32")),
        (torch.zeros(12, 1).long(), ("`labels`", "(12, 1)")),
        ([-1] * 12, ("`labels`", "at least 0")),
    ],
)
def test_labels_that_are_no_classes_are_refused_in_plain_words(labels, words):
    maps = maps_of(marked(12)[0], categories=NAMES)
    error = refused(words, lambda: combine_evidence(maps, labels=labels))
    assert "batch" not in str(error)


@pytest.mark.parametrize("labels", ["predictions", [0] * 12])
@pytest.mark.parametrize(
    "settings",
    [
        {"model": lambda x: torch.nn.functional.pad(network(x), (0, 1))},
        {"prior": [0.5, 0, 0.5]},
        {"categories": ["a", "b", "c"]},
    ],
    ids=["more classes", "fewer classes", "other names"],
)
def test_maps_of_other_classes_are_refused(settings, labels):
    """Pictures of another number of classes were left out without a word."""
    x = marked(6)[0]
    maps = iter([maps_of(x, categories=NAMES), maps_of(x, **settings)])
    refused(("`maps`", "same classes"), lambda: combine_evidence(maps, labels=labels))


def _crops(x):
    halves = [x[:, :, r : r + 4, c : c + 4] for r in (0, 4) for c in (0, 4)]
    resize = {"size": (8, 8), "mode": "bilinear", "antialias": True}
    return [torch.nn.functional.interpolate(part, **resize) for part in halves]


@pytest.mark.parametrize("view", ["crop", "keep"])
def test_infomaps_give_the_bets_on_their_labels(view):
    x, labels = marked(30)
    model = SmallNet(channels=1, classes=CLASSES)
    infomap = target_maps(x, labels, model, view)
    capital = KnownPrior(4)
    capital.add(infomap.e_values().log2().numpy())
    found = combine_evidence(infomap)
    assert found.log2_e_values.numpy() == pytest.approx(capital.log2_e_values(), abs=1e-6)
    assert torch.equal(found.log2_e_values, combine_evidence(list(infomap)).log2_e_values)
    assert found.bits.numpy() == pytest.approx(infomap.from_prior().sum(0).numpy())
    assert found.pictures.tolist() == [30] * 4


def test_bits_are_those_of_the_own_label():
    x, labels = marked(31)
    model = SmallNet(channels=1, classes=CLASSES)
    own = target_maps(x, labels, model).scores.numpy()
    maps = maps_of(x, model)
    both = combine_evidence(maps, "class and place", labels=labels)
    for c in range(CLASSES):
        rows = own[labels == c]
        assert both.mean_bits[c].numpy() == pytest.approx(rows.mean(0), abs=1e-9)
        assert both.pictures[c].tolist() == [len(rows)] * 4
        errors = rows.std(0, ddof=1) / len(rows) ** 0.5
        assert both.standard_errors[c].numpy() == pytest.approx(errors, rel=1e-6)
    by_class = combine_evidence(maps, "class", labels=labels)
    assert by_class.mean_bits.tolist() == pytest.approx(
        [own[labels == c].mean() for c in range(CLASSES)]
    )
    by_place = combine_evidence(maps, "place", labels=labels)
    assert by_place.mean_bits.numpy() == pytest.approx(own.mean(0))


def test_the_interval_covers_the_mean():
    x, labels = marked(12, share=0.5)
    found = combine_evidence(maps_of(x), "class and place", labels=labels)
    low, high = found.interval(0.95)
    t = float(((high - low) / 2 / found.standard_errors)[2, 0])
    assert t == pytest.approx(3.182446305)  # Student's t for 4 pictures
    assert torch.allclose((high + low) / 2, found.mean_bits)
    single = combine_evidence(maps_of(x[:1]), labels=labels[:1])
    assert single.standard_errors.isnan().all()


# What they find


def test_the_mark_is_found_and_nothing_else():
    x, labels = marked(300, share=0.5)
    found = combine_evidence(maps_of(x), "class and place", labels=labels)
    assert found.classes.tolist() == [0, 1, 2]
    assert found.discoveries(0.05)[2].tolist() == [True, False, False, False]
    assert not found.discoveries(0.05)[:, 1:].any()
    assert found.log2_e_values[2, 0] > 20
    assert found.e_values[2, 0] > 1e6
    assert found.p_values[2, 0] < 1e-6
    names = ["ant", "bee", "crow"]
    named = combine_evidence(maps_of(x, categories=names), "class and place", labels=labels)
    assert repr(named).startswith("CombinedEvidence(by class and place, ")
    assert "strongest e-values: crow at place 0" in repr(named)


def test_no_prior_is_needed():
    """The network takes classes for balanced; here class 2 is rare, and nothing depends on it."""
    x, _ = marked(600, share=0)
    labels = torch.randint(0, 30, (600,), generator=torch.Generator().manual_seed(0)) % 29 // 14
    found = combine_evidence(maps_of(x), "class and place", labels=labels)
    assert (found.log2_e_values < 0).all()
    plain = combine_evidence(target_maps(x, labels, lambda x: _says(x, 0)))
    assert (plain.log2_e_values > 50).all()  # a wrong prior: "0" is said always, and is frequent
    safe = combine_evidence(maps_of(x, lambda x: _says(x, 0)), "class and place", labels=labels)
    assert (safe.log2_e_values < 0).all()


def _says(x, k):
    return torch.tensor([0.9 if c == k else 0.05 for c in range(CLASSES)]).log().expand(len(x), -1)


def test_predictions_are_the_labels_of_whole_pictures():
    x, _ = marked(60)
    maps = maps_of(x)
    predicted = network(x).argmax(1)
    assert torch.equal(maps.likeliest(), predicted)
    a = combine_evidence(maps, "class", labels="predictions")
    b = combine_evidence(maps, "class", labels=predicted)
    assert torch.equal(a.log2_e_values, b.log2_e_values)


def test_the_table_is_sorted_by_evidence():
    pytest.importorskip("pandas")
    x, labels = marked(300, share=0.5)
    names = ["ant", "bee", "crow"]
    found = combine_evidence(maps_of(x, categories=names), "class and place", labels=labels)
    table = found.to_pandas()
    assert len(table) == 12
    first = table.iloc[0].to_dict()
    assert (first["label"], first["class"], first["place"], bool(first["found"])) == (
        *("crow", 2, 0, True),
    )
    assert [first[name] for name in ("x0", "y0", "x1", "y1")] == [0, 0, 4, 4]
    assert first["pictures"] == 100
    assert first["low"] < first["mean_bits"] < first["high"]
    assert table["log2_e"].is_monotonic_decreasing
    by_class = combine_evidence(maps_of(x), "class", labels=labels).to_pandas()
    assert list(by_class) == ["class", "pictures", "mean_bits", "low", "high", "log2_e", "found"]
    by_place = combine_evidence(maps_of(x), labels=labels).to_pandas()
    assert by_place["place"].tolist()[0] == 0


# What is refused


def test_infomaps_are_not_asked_for_classes():
    x, labels = marked(6)
    infomap = target_maps(x, labels)
    for by in ("class", "class and place"):
        refused(("by='place'", "score_classes"), lambda by=by: combine_evidence(infomap, by))
    refused(("labels",), lambda: combine_evidence(infomap, labels=labels))
    with pytest.warns(UserWarning, match="E-values hold"):
        combine_evidence(target_maps(x, labels, prior=None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        combine_evidence(maps_of(x), labels=labels)


def test_chosen_classes_and_differences_are_refused():
    x, labels = marked(6)
    infomask = InfoMask(network)
    chosen = infomask.score_classes(x, top_k=2, view="crop", regions=grid(x, 2, 2))
    refused(("all classes", "top_k"), lambda: combine_evidence(chosen, labels=labels))
    refused(("view='drop'",), lambda: combine_evidence(maps_of(x, view="drop"), labels=labels))
    drop = target_maps(x, labels, view="drop")
    refused(("view='drop'",), lambda: combine_evidence([drop]))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, ("`labels`", "None")),
        ("truth", ("predictions", "truth")),
        ([0, 1, 2], ("one of `labels` for each", "3 for 6")),
        ([0] * 7, ("7 for 6",)),
        ([0, 1, 2, 0, 1, 3], ("among the 3 classes", "3")),
        ([0.5] * 6, ("integers",)),
        ([-1] * 6, ("at least 0",)),
    ],
)
def test_bad_labels(labels, words):
    x, _ = marked(6)
    refused(words, lambda: combine_evidence(maps_of(x), labels=labels))


@pytest.mark.parametrize("maps", [None, [], "maps", 3, torch.zeros(2), [1, 2]])
def test_bad_maps(maps):
    refused(("`maps`",), lambda: combine_evidence(maps))


def test_bad_settings():
    x, labels = marked(6)
    refused(
        ("`by`", "class and place"), lambda: combine_evidence(maps_of(x), "classes", labels=labels)
    )
    found = combine_evidence(maps_of(x), labels=labels)
    refused(("`rate`",), lambda: found.discoveries(1))
    refused(("`level`",), lambda: found.interval(1))
    mixed = [maps_of(x), target_maps(x, labels)]
    refused(("one kind",), lambda: combine_evidence(mixed, labels=labels))


def test_a_name_of_several_classes_is_refused():
    x, labels = marked(6)
    maps = maps_of(x, categories=["crane", "crane", "cup"])
    found = combine_evidence(maps, "class and place", labels=labels)
    refused(("`label`", "several", "'crane'"), lambda: found.figure("crane"))
    assert found.figure(1)[1].get_title("left") == found.figure(0)[1].get_title("left") == "crane"


def test_a_later_map_without_a_prior_is_doubted_once():
    x, labels = marked(4)
    known, unknown = target_maps(x, labels), target_maps(x, labels, prior=None)
    with pytest.warns(UserWarning, match="estimate_prior") as caught:
        combine_evidence(iter([known, unknown, unknown]))
    assert [one.filename for one in caught] == [__file__]


def test_places_must_be_common():
    x, labels = marked(4)
    infomask = InfoMask(network, prior="balanced")
    halves = torch.zeros(4, 1, 8, 8, dtype=torch.long)
    halves[:2, ..., 4:], halves[2:, :, 4:] = 1, 1
    regions = from_feature_mask(x, halves)
    each = infomask.score_regions(x, target=labels, view="keep", regions=regions)
    refused(("same regions",), lambda: combine_evidence(each))
    grids = [
        target_maps(x, labels),
        infomask.score_regions(x, target=labels, view="crop", regions=grid(x, 2, 4)),
    ]
    refused(("same regions",), lambda: combine_evidence(grids))


def test_a_run_is_asked_itself():
    x, labels = marked(6)
    found = combine_evidence(maps_of(x), labels=labels)

    class Run:
        def evidence(self, by):
            assert by == "class"
            return found

    assert combine_evidence(Run(), "class") is found
    assert isinstance(found, CombinedEvidence)
    refused(("labels",), lambda: combine_evidence(Run(), labels=labels))
