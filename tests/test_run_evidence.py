# The evidence of a run: what its rows hold of each view's classes, and what is added up from them.
from __future__ import annotations

import math
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from refused import refused
from run_folders import good, template, write_run
from run_samples import Drawing, as_if_killed, same
from tiny import Net, images, randomise
from torch import nn

from captum_infomask import (
    FalseDiscoveries,
    InfoMask,
    Score,
    UniformNoise,
    combine_evidence,
    grid,
    load_run,
    run_dataset,
)
from captum_infomask._run_length import decode
from captum_infomask.dataset_run.manifest import read_manifest, write_manifest
from captum_infomask.dataset_run.run_settings import LIKELY
from captum_infomask.scores.likely_classes import LikelyClasses

COUNT, SIDE, BATCH = 10, 8, 4
PLACES = grid(torch.zeros(1, 3, SIDE, SIDE), 2, 2)
BY = ("place", "class", "class and place")


def soft():
    """Five classes, none of which is sure."""
    return randomise(Net(), 0.5)


class Dozen(nn.Module):
    """Twelve classes, so a view's eight likeliest are not all."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 12)
        randomise(self)

    def forward(self, x):
        return self.head(self.pool(self.body(x)).flatten(1))


def pairs(labels, seed=0):
    """Pictures with their labels."""
    return list(zip(images(len(labels), seed=seed), labels, strict=True))


def made(out, network, labels=None, data=None, **settings):
    """A run over ten pictures, in shards of one batch."""
    labels = [k % 5 for k in range(COUNT)] if labels is None else labels
    usual = {"view": "crop", "regions": PLACES, "target": "label"}
    usual |= {"batch_size": BATCH, "shard_size": BATCH}
    return run_dataset(
        pairs(labels) if data is None else data, network, out, **{**usual, **settings}
    )


def likely_of(run, places=4):
    """Classes and probabilities of all good rows, (n, R, K), as the files hold them."""
    parts = [pq.read_table(path) for path in sorted(run.folder.glob("part-*.parquet"))]
    rows = [row for part in parts for row in part.to_pylist() if row["error"] is None]
    return [np.array([row[name] for row in rows]).reshape(len(rows), places, -1) for name in LIKELY]


def literal(network, score, *, views, **options):
    """Batch by batch, as the run shows the pictures: information about all classes, (n, R, M)."""
    usual = {"view": "crop", "regions": PLACES, **options}
    shown, found = images(COUNT), []
    for start in range(0, COUNT, BATCH):
        x = shown[start : start + BATCH]
        count = len(x)
        x = torch.cat([x, x[:1].expand(BATCH - count, -1, -1, -1)])
        infomask = InfoMask(network.eval(), score=score)
        maps = infomask.score_classes(x, perturbations_per_eval=views, **usual)
        found.append(maps.stacked.from_prior()[:count].double())
    return torch.cat(found)


PRIOR = [0.1, 0.2, 0.3, 0.15, 0.25]
CASES = {
    "crop": (soft(), {}, {}, [0.2] * 5),
    "twelve": (Dozen(), {}, {}, [1 / 12] * 12),
    "features": (Dozen(), {}, {"view": "features"}, [1 / 12] * 12),
    "keep, from the blank": (soft(), {}, {"view": "keep"}, [0.2] * 5),
    "draws": (
        Net(),
        {"prior": PRIOR},
        {"view": "keep", "imputer": UniformNoise(), "n_samples": 3},
        PRIOR,
    ),
    "samples": (Drawing(), {}, {"n_samples": 3, "seed": 2}, [0.2] * 5),
    "nats": (soft(), {"unit": "nats", "temperature": 0.7, "prior": PRIOR}, {}, PRIOR),
    "groups": (soft(), {"groups": [[0, 3], [1], [2]], "prior": PRIOR}, {}, [0.25, 0.2, 0.3]),
    "a class that never occurs": (
        soft(),
        {"prior": [0.5, 0.5, 0, 0, 0], "trained_with": "pc_softmax"},
        {},
        [0.5, 0.5, 0, 0, 0],
    ),
}


@pytest.mark.parametrize("target", ["label", "prediction"])
@pytest.mark.parametrize("case", CASES)
def test_rows_hold_the_likeliest_classes_of_each_view_alone(tmp_path, case, target):
    network, settings, options, priors = CASES[case]
    score, count = Score(**settings), len(priors)
    labels = [k % 2 for k in range(COUNT)]
    run = made(tmp_path, network, labels, target=target, score=score, **options)
    chosen, q = likely_of(run)
    views = run.manifest["settings"]["perturbations_per_eval"]
    nats = 1.0 if settings.get("unit") == "nats" else math.log(2)
    information = literal(network, score, views=views, **options)
    if case == "a class that never occurs":
        information = torch.cat([information, torch.zeros(COUNT, 4, 3)], 2)
    wanted = (nats * information).exp().numpy() * np.array(priors)
    assert chosen.shape == q.shape == (COUNT, 4, min(8, count))
    assert np.allclose(q, np.take_along_axis(wanted, chosen, 2), rtol=1e-5, atol=1e-9)
    assert np.allclose(q, -np.sort(-wanted, 2)[..., :8], rtol=1e-5, atol=1e-9)
    assert (np.sort(chosen, 2)[..., 1:] > np.sort(chosen, 2)[..., :-1]).all(), "each class once"
    if case in ("crop", "keep, from the blank", "draws", "nats"):
        assert np.allclose(q.sum(2), 1, atol=1e-5)
    assert q.std() > 0.05, "a constant would pass"


@pytest.mark.parametrize("case", ["keep, from the blank", "draws", "samples", "groups", "features"])
def test_the_targets_numbers_stay_as_they_are(tmp_path, case):
    network, settings, options, _ = CASES[case]
    score = Score(**settings)
    labels = [k % 2 for k in range(COUNT)]
    run = made(tmp_path, network, labels, score=score, **options)
    views, x = run.manifest["settings"]["perturbations_per_eval"], images(COUNT)[:BATCH]
    asked = {"view": "crop", "regions": PLACES, "perturbations_per_eval": views, **options}
    infomap = InfoMask(network.eval(), score=score).score_regions(x, target=labels[:4], **asked)
    for k in range(BATCH):
        row = run[str(k)]
        for name in ("scores", "total", "blank", "lower", "upper", "spread", "targets"):
            whole = getattr(infomap, name)
            own = getattr(row, name)
            if name == "targets" or whole is None:
                assert (own is None) == (whole is None)
                continue
            assert same(own, whole[k : k + 1])
        assert (row.engine, row.views * BATCH) == (infomap.engine, infomap.views)


def test_labels_and_the_rest_of_the_picture_change_no_view(tmp_path):
    labels = [k % 5 for k in range(COUNT)]
    one = likely_of(made(tmp_path / "one", Dozen(), labels))
    other = likely_of(made(tmp_path / "other", Dozen(), [11 - label for label in labels]))
    answers = likely_of(made(tmp_path / "answers", Dozen(), target="prediction"))
    for name, *all_three in zip(LIKELY, one, other, answers, strict=True):
        assert all((part == all_three[0]).all() for part in all_three), name
    rest = [(x.clone(), label) for x, label in pairs(labels)]
    for x, _ in rest:
        x[:, 4:] = torch.rand(3, 4, 8)
    changed = likely_of(made(tmp_path / "rest", Dozen(), data=rest))
    for before, after in zip(one, changed, strict=True):
        assert np.allclose(before[:, :2], after[:, :2], rtol=1e-5)
        assert (before[:, 2:] != after[:, 2:]).any()


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("case", ["crop", "keep, from the blank", "nats"])
def test_evidence_is_that_of_all_maps_together(tmp_path, case, by):
    network, settings, options, _ = CASES[case]
    score, labels = Score(**settings), [(3 * k) % 4 for k in range(COUNT)]
    run = made(tmp_path, network, labels, score=score, **options)
    asked = {"view": "crop", "regions": PLACES, **options}
    maps = InfoMask(network.eval(), score=score).score_classes(images(COUNT), **asked)
    close(run.evidence(by), combine_evidence(maps, by, labels=labels))
    close(combine_evidence(run, by), run.evidence(by), rtol=0)


def close(found, wanted, rtol=1e-4):
    assert found.by == wanted.by
    for name in ("log2_e_values", "bits", "standard_errors"):
        one, other = getattr(found, name), getattr(wanted, name)
        assert one.dtype == torch.float64
        assert torch.allclose(one, other, rtol=rtol, atol=rtol / 10, equal_nan=True), name
        assert one.numel() < 2 or one.nan_to_num().std() > 10 * rtol * one.nan_to_num().abs().mean()
    assert torch.equal(found.pictures, wanted.pictures)
    same_classes = found.classes is wanted.classes or torch.equal(found.classes, wanted.classes)
    assert same_classes
    assert found.null == wanted.null


def test_predictions_are_labels_too(tmp_path):
    run = made(tmp_path, soft(), target="prediction")
    maps = InfoMask(soft()).score_classes(images(COUNT), view="crop", regions=PLACES)
    close(run.evidence("place"), combine_evidence(maps, "place", labels="predictions"))


def test_groups_count_as_classes(tmp_path):
    groups = [[0, 3], [1, 2]]  # 4 is in none: pictures of it are bad
    run = made(tmp_path, soft(), groups=groups)
    assert len(run.errors) == 2
    evidence = run.evidence()
    assert evidence.classes.tolist() == [0, 1]
    assert evidence.pictures.tolist() == [[4] * 4, [4] * 4]
    merged = InfoMask(lambda x: torch.stack([p(x, g) for g in [*groups, [4]]], 1), head="probs")
    good_ones = [k for k in range(COUNT) if k % 5 != 4]
    maps = merged.score_classes(images(COUNT)[good_ones], view="crop", regions=PLACES)
    labels = [{0: 0, 3: 0, 1: 1, 2: 1}[k % 5] for k in good_ones]
    wanted = combine_evidence(maps, "class and place", labels=labels)
    assert torch.allclose(evidence.log2_e_values, wanted.log2_e_values, rtol=1e-4)


def p(x, group):
    return soft()(x).softmax(1)[:, group].sum(1)


def test_one_pass_over_shards_is_one_table(tmp_path):
    small = made(tmp_path / "small", Dozen(), shard_size=4).evidence()
    large = made(tmp_path / "large", Dozen(), shard_size=COUNT).evidence()
    close(small, large, rtol=1e-9)


def test_bad_pictures_do_not_count(tmp_path):
    labels = [k % 3 for k in range(COUNT)]
    spoiled = pairs(labels)
    spoiled[2] = (torch.full((3, SIDE, SIDE), float("nan")), labels[2])
    spoiled[7] = (spoiled[7][0], 99)
    run = made(tmp_path / "bad", Net(), data=spoiled)
    assert list(run.errors) == ["2", "7"]
    others = [k for k in range(COUNT) if k not in (2, 7)]
    maps = InfoMask(Net()).score_classes(images(COUNT)[others], view="crop", regions=PLACES)
    wanted = combine_evidence(maps, "class and place", labels=[labels[k] for k in others])
    close(run.evidence(), wanted)
    assert run.evidence().pictures.sum() == 8 * 4


class Masked(nn.Module):
    """Class 1 has the logit −inf in every picture."""

    def forward(self, x):
        scores = x.flatten(1)[:, :5].clone()
        scores[:, 1] = -torch.inf
        return scores


def test_pictures_that_are_left_out_because_of_their_label_are_told(tmp_path):
    """Their label is what leaves them out, so the rest is no fair sample of bets."""
    run = made(tmp_path / "masked", Masked())
    assert len(run.errors) == 2  # the pictures of class 1, of five classes
    with pytest.warns(UserWarning, match="label of 2 pictures is impossible"):
        run.evidence()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(tmp_path / "none", Masked(), labels=[0, 2, 3, 4, 0] * 2).evidence()


def test_a_resumed_run_has_the_same_bits(tmp_path):
    whole = made(tmp_path, Dozen()).evidence()
    files = {path.name: path for path in tmp_path.glob("part-*.parquet")}
    before = [pq.read_table(path).drop_columns("seconds") for path in files.values()]
    run = made(as_if_killed(tmp_path, 0, 2), Dozen())
    assert run.scored == 6
    after = [pq.read_table(path).drop_columns("seconds") for path in files.values()]
    assert all(one.equals(other) for one, other in zip(before, after, strict=True))
    for name in ("log2_e_values", "bits", "standard_errors"):
        assert same(getattr(run.evidence(), name), getattr(whole, name))
        assert same(getattr(load_run(tmp_path).evidence(), name), getattr(whole, name))


def test_half_a_run_has_the_evidence_of_its_half(tmp_path):
    made(tmp_path, Net())
    half = load_run(as_if_killed(tmp_path, 1)).evidence()
    maps = InfoMask(Net()).score_classes(
        images(COUNT)[[0, 1, 2, 3, 8, 9]], view="crop", regions=PLACES
    )
    labels = [k % 5 for k in (0, 1, 2, 3, 8, 9)]
    close(half, combine_evidence(maps, "class and place", labels=labels))


def test_the_table_leaves_the_views_classes_in_the_files(tmp_path):
    run = made(tmp_path, Net())
    assert not set(LIKELY) & set(run.table.column_names)
    assert set(LIKELY) <= set(pq.read_schema(tmp_path / "part-00000.parquet").names)
    assert len(run.to_pandas()) == COUNT


def test_regions_that_a_picture_lacks_get_no_bet():
    bits = torch.full((2, 3, 12), torch.nan)
    bits[0], bits[1, 1] = torch.randn(3, 12), torch.randn(12)
    found = LikelyClasses.of(bits, Score(), 12)
    is_there = torch.tensor([[True] * 3, [False, True, False]])
    assert ((found.classes >= 0).all(2) == is_there).all()
    assert (found.classes[~is_there] == -1).all()
    assert (found.probabilities.isnan().any(2) == ~is_there).all()
    assert found.classes[1, 1].tolist() == bits[1, 1].argsort(descending=True)[:8].tolist()
    assert same(found.of_picture(1).probabilities, found.probabilities[1:])


def test_memory_does_not_grow_with_pictures(tmp_path):
    rows = [_row(k) for k in range(64)]
    peaks = []
    for shards in (2, 32):
        run = _long(tmp_path / str(shards), rows, shards)
        tracemalloc.start()
        assert run.evidence().pictures.sum() == 64 * shards * 4
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks


def _row(k):
    shares = np.full((4, 3), 1 / 3)
    return good(f"{k}", k % 3, 1.0) | {
        "likely_classes": np.tile([0, 1, 2], 4).tolist(),
        "likely_probabilities": shares.flatten().tolist(),
    }


def _long(folder, rows, shards):
    """A run of many shards with the same rows under other names."""
    import pyarrow as pa

    from captum_infomask import DatasetRun
    from captum_infomask.dataset_run.listing import Listing
    from captum_infomask.dataset_run.result_rows import schema
    from captum_infomask.dataset_run.shards import shard_path, write_shard

    write_run(folder, rows[:1])
    shard_path(folder, 0).unlink()
    manifest = read_manifest(folder)
    manifest["settings"]["shard_size"] = len(rows)
    write_manifest(folder, {**manifest, "pictures": len(rows) * shards})
    keys = []
    for shard in range(shards):
        named = [row | {"key": f"{shard}/{row['key']}"} for row in rows]
        keys += [row["key"] for row in named]
        table = pa.Table.from_pylist(named, schema=schema(torch.float32, LIKELY))
        write_shard(folder, shard, table, "11")
    Listing(keys, (), (), [len(keys)]).save(folder, "11")
    return DatasetRun(folder)


# --- what has no evidence ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"view": "drop"}, ("view='drop'", "differences", "view='crop'")),
        ({"contrast": 4}, ("contrast", "differences")),
        ({"head": "sigmoid"}, ("one of several labels",)),
    ],
)
def test_runs_without_bets_have_no_evidence_and_no_columns(tmp_path, options, words):
    run = made(tmp_path, Net(), [0, 1] * 5, **options)
    assert not set(LIKELY) & set(pq.read_schema(tmp_path / "part-00000.parquet").names)
    assert "likely_classes" not in run.manifest["settings"]
    refused((*words, str(tmp_path)), run.evidence)


def test_a_run_of_an_earlier_version_says_so(tmp_path):
    run = write_run(tmp_path, [good("a.png", 0, 1.0)])
    assert run["a.png"].total == 1
    refused(("earlier version", "new `out`", str(tmp_path)), run.evidence)
    unread = write_run(tmp_path / "b", [good("a.png", 0, 1.0)], infomap=template("drop"))
    refused(("view='drop'",), unread.evidence)


def test_an_earlier_versions_run_does_not_go_on(tmp_path):
    made(tmp_path, Net())
    manifest = read_manifest(tmp_path)
    assert manifest["settings"].pop("likely_classes") == 8
    write_manifest(tmp_path, manifest)
    refused(("likely_classes: null before, 8 now", "new `out`"), lambda: made(tmp_path, Net()))


def test_wrong_arguments_and_empty_runs_are_refused(tmp_path):
    run = made(tmp_path / "a", Net())
    refused(("`by`", "'plaec'", "class and place"), lambda: run.evidence("plaec"))
    spoiled = [(torch.full((3, SIDE, SIDE), float("nan")), 0)] * 3
    refused(("at least one picture",), made(tmp_path / "b", Net(), data=spoiled).evidence)


# --- masks of discoveries ---------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"prior": "balanced"}, {"view": "keep", "prior": "balanced"}])
def test_masks_of_discoveries_are_the_infomaps(tmp_path, settings):
    data = [(9 * x, label) for x, label in pairs([0, 1, 2, 3, 4] * 2)]
    rule = FalseDiscoveries(0.6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = made(tmp_path, Net(), data=data, rule=rule, **settings)
    found = {row["key"]: decode(row["mask"]) for row in run.table.to_pylist()}
    kept = []
    for key, infomap in run.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No region of image")
            assert torch.equal(found[key], infomap.mask(rule)[0].any(0))
        kept.append(bool(found[key].any()))
    assert any(kept)
    assert not all(kept)


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        (FalseDiscoveries(family="batch"), {}, ("`rule`", "family='image'")),
        (FalseDiscoveries(), {"view": "drop"}, ("view='drop'", "differences")),
        (FalseDiscoveries(), {"view": None, "regions": None}, ("view='relay'", "differences")),
        (FalseDiscoveries(), {"contrast": "runner_up"}, ("contrast",)),
        (FalseDiscoveries(), {"head": "sigmoid"}, ("one of several labels",)),
    ],
)
def test_rules_of_discoveries_need_bets(tmp_path, rule, options, words):
    out: Path = tmp_path / "out"
    refused(words, lambda: made(out, Dozen(), rule=rule, **options))
    assert not out.exists()
