# The benchmark scripts: what they time, how a part's time becomes a whole map's, what they print.
from __future__ import annotations

import json
import math
from argparse import Namespace
from collections import OrderedDict
from functools import partial

import cams
import ceilings
import evidence_of_a_run
import exactness
import interleave
import networks
import pytest
import records
import speed
import speed_tables
import torch
import volumes
from contenders import Contender, contenders
from live_bytes import LiveBytes, activation_bytes, copied_bytes
from measure import Effort, best_settings, measure
from subjects import Subject
from torch import nn

from captum_infomask.engines.traced import folded, traced

pytestmark = pytest.mark.slow

ENGINES = ["batched", "incremental", "auto"]
CAPTUM = ["Occlusion", "FeatureAblation"]


def small_network(side=32):
    layers = OrderedDict(
        first=nn.Conv2d(3, 8, 3, padding=1),
        norm=nn.BatchNorm2d(8),
        act=nn.ReLU(),
        layer4=nn.Conv2d(8, 8, 3, padding=1, stride=2),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        head=nn.Linear(8, 5),
    )
    return nn.Sequential(layers)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "small", small_network)


@pytest.fixture
def subject(small):
    return Subject("small", networks.network("small", 32), torch.randn(1, 3, 32, 32), 8, 4)


class Clock:
    """Time that passes only where a call says so."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for name in ("perf_counter", "process_time"):
            monkeypatch.setattr(interleave.time, name, lambda: self.now)

    def spend(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def costing(clock, fixed, each):
    """A contender that takes so many seconds for a call, and for each window."""

    def call(subject, views):
        return lambda: clock.spend(fixed + each * len(subject.windows)) or "me"

    return call


def test_calls_run_in_turn_and_the_order_turns_around(clock):
    ran = []

    def call(k):
        ran.append(k)
        clock.spend(k + 1)

    table = interleave.interleaved([partial(call, k) for k in range(3)], 3)
    assert ran == [0, 0, 1, 2, 2, 1, 0, 0, 1, 2]
    assert interleave.by_clock(table, "wall") == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]


def test_time_of_a_part_becomes_the_time_of_the_map(clock, subject):
    large = Subject("", subject.network, torch.zeros(1, 3, 128, 128), 8, 4)
    assert len(large.windows) == 961
    measured = measure(
        large,
        {
            "passes": Contender(costing(clock, 3.0, 3.0), per_pass=True),
            "engine": Contender(costing(clock, 50.0, 2.0)),
            "cheap": Contender(costing(clock, 0.5, 0.001)),
        },
        {"passes": None, "engine": None, "cheap": None},
        Effort(rounds=2, budget=400.0),
    )
    assert [measured[name]["timed"] for name in measured] == [16, 128, 961]
    assert measured["passes"]["seconds"] == pytest.approx([3.0 * 962] * 2)
    assert measured["engine"]["seconds"] == pytest.approx([50.0 + 2.0 * 961] * 2)
    assert measured["cheap"]["seconds"] == pytest.approx([0.5 + 0.961] * 2)
    assert {each["ran"] for each in measured.values()} == {"me"}


def test_each_contender_gets_its_fastest_setting(clock, subject):
    def call(best):
        return lambda subject, views: lambda: clock.spend(1 + abs(views - best)) or ""

    asked = {
        "four": Contender(call(4), (1, 4, 16)),
        "sixteen": Contender(call(16), (1, 4, 16)),
        "own": Contender(call(0)),
    }
    settings = best_settings(subject, asked, Effort())
    assert settings == {"four": 4, "sixteen": 16, "own": None}


@pytest.mark.parametrize("name", [*CAPTUM, "plain"])
def test_what_is_timed_per_pass_sends_every_window_once_and_the_picture(subject, name):
    sent = []
    subject.network.register_forward_pre_hook(lambda module, inputs: sent.append(len(inputs[0])))
    tiles = subject.tiled(16)
    contenders(())[name].call(tiles, 4)()
    assert (len(tiles.windows), sum(sent), max(sent)) == (16, 17, 4)


def test_a_part_of_the_windows_is_drawn_from_them(subject):
    part = subject.part(10)
    every = {tuple(box.flatten().tolist()) for box in subject.windows.boxes[0]}
    drawn = [tuple(box.flatten().tolist()) for box in part.windows.boxes[0]]
    assert len(set(drawn)) == 10
    assert set(drawn) < every
    assert subject.part(len(every)) is subject


def test_batch_norms_are_calibrated_and_heads_are_redrawn(subject):
    pictures = torch.randn(4, 3, 32, 32)
    normalised = subject.network[:2](pictures)
    assert normalised.std().item() == pytest.approx(1, abs=0.2)
    assert subject.network.head.weight.std() > 0.1
    assert not subject.network.training


@pytest.mark.parametrize("engine", ENGINES)
def test_exactness_measures_the_error_beside_the_effect(subject, engine):
    found = exactness.exactness(subject, {engine: engine}, count=12)
    assert len(found["effects"]) == 12
    assert min(found["effects"]) > 1e-3 * found["scale"]
    for measured in found["errors"].values():
        assert max(measured["errors"]) < 1e-5 * found["scale"]


def test_exactness_sees_an_engine_that_is_wrong(subject, monkeypatch):
    chosen = exactness.choose_engine

    class Off:
        name = "off"

        def start(self, call):
            self.running = chosen("batched", None).start(call)
            return self

        def run(self, plan):
            for rows, output in self.running.run(plan):
                yield rows.flip(0), output.flip(0) + 0.25

    monkeypatch.setattr(exactness, "choose_engine", lambda *_: Off())
    found = exactness.exactness(subject, {"off": "off"}, count=8)
    assert found["errors"]["off"]["errors"] == pytest.approx([0.25] * 8, rel=1e-4)


def test_live_bytes_counts_what_is_alive_at_once():
    outside = torch.zeros(10_000)
    with LiveBytes([outside]) as memory:
        a = torch.zeros(1000)
        b = a + 1
        del a
        parameter = nn.Parameter(b.contiguous(), requires_grad=False)
        del b
        c = torch.zeros(500)
        view = parameter[:10]
        assert outside[:5].shape == (5,)
        assert memory.now == 4 * (1000 + 500)
        del parameter
        assert memory.now == 4 * (1000 + 500)
        del view
        assert memory.now == 4 * 500
    assert memory.peak == 4 * 2000
    del c
    assert memory.now == 0


def test_activations_and_copied_weights_of_a_known_network():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Identity())
    graph = folded(traced(network.eval()))
    assert activation_bytes(graph, torch.zeros(1, 3, 8, 8)) == 4 * 2 * (4 * 8 * 8)
    assert copied_bytes(graph, network) == 4 * (4 * 3 * 9)


def test_a_record_takes_the_place_of_the_one_with_its_keys(tmp_path):
    for value in (1, 2):
        records.add(tmp_path, "speed", {"network": "a", "value": value}, ("network",))
    records.add(tmp_path, "speed", {"network": "b", "value": 3}, ("network",))
    assert [r["value"] for r in records.load(tmp_path, "speed")] == [2, 3]


def test_ratios_are_taken_within_rounds():
    def timed(*seconds):
        return {"views": None, "ran": "", "timed": 10, "seconds": list(seconds)}

    record = {
        "network": "a",
        "picture": 224,
        "window": 16,
        "stride": 8,
        "windows": 10,
        "contenders": {
            "Occlusion": timed(1.0, 2.0, 3.0),
            "batched": timed(0.5, 1.0, 1.5),
            "incremental": timed(0.25, 0.5, 3.0),
            "auto": timed(0.5, 0.5, 1.5),
        },
    }
    row = speed_tables.speed_table([record]).splitlines()[4].split(" | ")
    assert row[2:] == [
        "200.0 [100.0, 300.0]",
        "2.00 [2.00, 2.00]",
        "4.00 [1.00, 4.00]",
        "2.00 [2.00, 4.00]",
        "1.00 [0.50, 1.00] |",
    ]


def run(tmp_path, part, *options):
    shared = ["--models", "small", "--side", "32", "--windows", "8/4", "--rounds", "1"]
    speed.main([part, *shared, "--budget", "0.1", "--json", str(tmp_path), *options])


def test_speed_and_growth_are_measured_and_drawn(small, tmp_path, capsys):
    run(tmp_path, "speed", "--contenders", *CAPTUM, "plain", *ENGINES)
    run(tmp_path, "growth", "--sides", "16", "32", "--counts", "4", "49")
    speed.main(["plot", "--json", str(tmp_path), "--out", str(tmp_path)])
    speed.main(["tables", "--json", str(tmp_path)])
    said = capsys.readouterr().out
    assert "| small | 49 |" in said
    assert "| small | 16² | 9 |" in said
    measured = records.load(tmp_path, "speed")[0]["contenders"]
    assert list(measured) == [*CAPTUM, "plain", *ENGINES]
    assert all(each["seconds"][0] > 0 for each in measured.values())
    assert all((tmp_path / f"{part}.png").stat().st_size > 5000 for part in ("speed", "growth"))


def test_linear_and_exactness_are_measured(small, tmp_path, capsys):
    run(tmp_path, "linear")
    run(tmp_path, "exactness", "--contenders", "batched")
    said = capsys.readouterr().out
    assert "| small | Occlusion | 50 |" in said
    assert "| small | plain |" in said


def test_memory_is_that_of_a_process_for_each_contender(small, tmp_path, capsys, monkeypatch):
    def in_this_process(options):
        speed.main(["peak", *options])
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    monkeypatch.setattr(speed.speed_parts, "in_own_process", in_this_process)
    run(tmp_path, "memory", "--contenders", "Occlusion", *ENGINES)
    measured = records.load(tmp_path, "memory")[0]["contenders"]
    # A chunk of Occlusion's pictures and of their first activations; it counts bytes.
    assert measured["Occlusion"]["live"] > 16 * 4 * (3 + 8) * 32 * 32
    assert all(each["live"] > 0 for each in measured.values())


def test_cams_are_timed_on_a_network_that_stays_as_it_was(subject):
    found = cams.cam_table(subject, (4, 8), 1, "wall")
    assert set(found) > {"Grad-CAM", "ScoreCAM", "AblationCAM", "InfoMask drop"}
    assert all(each["seconds"][0] > 0 for each in found.values())
    assert {found[name]["views"] for name in ("ScoreCAM", "AblationCAM")} <= {4, 8}
    assert not any(module._forward_hooks for module in subject.network.modules())


def test_ceilings_count_what_boxes_and_whole_pictures_take(small):
    found = ceilings.ceiling("small", 8, 4, side=32)
    # 3 × 3 convolutions of 3 → 8 channels on 32 × 32, and of 8 → 8 on 16 × 16.
    assert found.whole == pytest.approx((32 * 32 * 8 * 27 + 16 * 16 * 8 * 72) / 1e6)
    # A window of 8 becomes 10, or 9 at a border, of 32; then 6, or 5, of 16.
    tight = [(min(y + 9, 32) - max(y - 1, 0)) for y in range(0, 25, 4)]
    assert tight == [9, 10, 10, 10, 10, 10, 9]
    first = sum(h * w for h in tight for w in tight) / 49 * 8 * 27
    assert first / 1e6 < found.tight < found.run <= found.whole
    assert math.isnan(found.rate)


def test_ceilings_print_a_table(small, capsys):
    ceilings.main(["--models", "small", "--window", "8", "--stride", "8"])
    assert "| small |" in capsys.readouterr().out


def test_the_evidence_of_a_run_is_that_of_a_killed_one(capsys, tmp_path):
    page = tmp_path / "page.html"
    words = ["--pictures", "1280", "--steps", "60", "--page", str(page)]
    evidence_of_a_run.main(words)
    said = capsys.readouterr().out
    assert "of 10 shards were\nwritten" in said or "of 10 shards were written" in said
    assert "to the bit" in said
    assert len([line for line in said.splitlines() if line.startswith("| class ")]) == 7
    assert "What places say about classes" in page.read_text(encoding="utf-8")
    few, _ = evidence_of_a_run.pictures(7, seed=1)
    more, labels = evidence_of_a_run.pictures(20, seed=1)
    assert torch.equal(more[:7], few)
    assert bool((more[labels == 3][:, :, 0, :6] == 1).all())


def small_volumes():
    norm, pool = nn.BatchNorm3d(8), nn.AdaptiveAvgPool3d(1)
    layers = [nn.Conv3d(1, 8, 3, padding=1), norm, nn.ReLU(), pool, nn.Flatten(), nn.Linear(8, 5)]
    return nn.Sequential(*layers)


@pytest.fixture
def of_volumes(monkeypatch, tmp_path):
    monkeypatch.setitem(volumes.NETWORKS, "small", small_volumes)
    monkeypatch.setattr(volumes, "SETTINGS", (1, 2))
    return Namespace(network="small", side=24, counts=[6], rounds=2, json=tmp_path)


def test_windows_of_volumes_are_timed_by_pass_and_by_call(of_volumes, clock, monkeypatch):
    """Occlusion takes 9 s for its 9 passes, our call 3 s for its 6 windows: twice as fast."""
    own = volumes.scored
    monkeypatch.setattr(volumes, "occlusion", lambda *_: partial(clock.spend, 9.0))
    monkeypatch.setattr(volumes, "scored", lambda *given: (clock.spend(3.0), own(*given))[1])
    volumes.speed(of_volumes)
    (row,) = records.load(of_volumes.json, "volumes_speed")
    assert (row["windows"], row["count"], row["engine"]) == (125, 6, "incremental")
    assert row["captum"] == [1.0, 1.0]
    assert row["incremental"] == [0.5, 0.5]
    assert row["off"] < 1e-5 < row["largest"]
    assert "| small | 24³ | 6 of 125 | 1000 [1000, 1000] |" in volumes.tables(of_volumes.json)
    assert "| 2.0 [2.0, 2.0] |" in volumes.tables(of_volumes.json)


@pytest.mark.parametrize("views", [1, 4])
def test_occlusion_of_volumes_sends_eight_tiles_and_the_volume(of_volumes, views):
    network, x = volumes.subject("small", 24)
    sent = []
    network.register_forward_pre_hook(lambda module, inputs: sent.append(len(inputs[0])))
    volumes.occlusion(network, x, views)()
    assert (sum(sent), max(sent)) == (9, views)
