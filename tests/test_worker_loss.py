# The simulation of runs that lose workers, against arithmetic and the closed form.
import math
import statistics

import pytest
import worker_loss
from worker_loss_cases import Case, done_twice, run_case, select
from worker_loss_simulation import Cluster, expected_shard_seconds, expected_twice, simulate

pytestmark = pytest.mark.slow


def test_without_losses_workers_take_turns():
    outcome = simulate(Cluster(3), 10, 5.0, 0)
    assert outcome.finished == (1,) * 10
    assert outcome.wall == 20.0  # four rounds of three
    assert (outcome.losses, outcome.twice, outcome.shard_seconds) == (0, 0.0, 5.0)


def test_one_process_hands_out_shards_one_after_another():
    outcome = simulate(Cluster(10, dispatch=1.0), 100, 2.0, 0)
    assert outcome.wall == 102.0  # ten workers could do it in 20


def test_a_shard_ahead_hides_the_time_of_handing_it_out():
    waits = simulate(Cluster(2, ahead=0, dispatch=0.5), 20, 5.0, 0).wall
    hidden = simulate(Cluster(2, ahead=1, dispatch=0.5), 20, 5.0, 0).wall
    assert waits == pytest.approx(10 * 5.5 + 0.5)
    assert hidden == pytest.approx(10 * 5.0 + 1.0)


@pytest.mark.parametrize(
    ("lives", "shards", "tolerance"),
    [
        pytest.param(50.0, 40_000, 0.12, id="few losses"),
        pytest.param(0.5, 20_000, 0.03, id="many losses"),
    ],
)
def test_the_closed_form_is_met(lives, shards, tolerance):
    seconds = 100.0
    cluster = Cluster(40, between_losses=lives * seconds, replacement=30.0)
    outcome = simulate(cluster, shards, seconds, 1)
    assert outcome.finished == (1,) * shards
    twice = outcome.twice / (shards * seconds)
    assert twice == pytest.approx(expected_twice(cluster, seconds), rel=tolerance)
    beyond = outcome.shard_seconds - seconds
    expected = expected_shard_seconds(cluster, seconds) - seconds
    assert beyond == pytest.approx(expected, rel=tolerance)
    # So many shards that the workers' turns even out.
    assert outcome.wall == pytest.approx(shards / 40 * outcome.shard_seconds, rel=0.02)


def test_the_closed_form_is_that_of_its_terms():
    # E = e^{-λS} S + ∫ λe^{-λt} (t + R + E) dt, with λ = 1/2, S = 3, R = 1, by sums of small steps.
    rate, seconds, replacement, step = 0.5, 3.0, 1.0, 1e-4
    middles = [(k + 0.5) * step for k in range(round(seconds / step))]
    weights = [rate * math.exp(-rate * t) * step for t in middles]
    survives = math.exp(-rate * seconds)
    lost = sum(w * (t + replacement) for w, t in zip(weights, middles, strict=True))
    expected = (survives * seconds + lost) / survives
    cluster = Cluster(1, between_losses=2.0, replacement=1.0)
    assert expected_shard_seconds(cluster, seconds) == pytest.approx(expected, rel=1e-6)
    losses = (1 - survives) / survives
    twice = (expected - seconds - losses * replacement) / seconds
    assert expected_twice(cluster, seconds) == pytest.approx(twice, rel=1e-6)


def test_a_worker_lost_while_idle_is_replaced_before_it_goes_on():
    # Its second shard is handed out long after the first; without the loss it would end at 401.
    ends = [
        simulate(Cluster(1, 50.0, replacement=1e6, ahead=0, dispatch=200.0), 2, 1.0, seed)
        for seed in range(5)
    ]
    assert all(end.losses == 0 and end.wall > 1e6 for end in ends)


def test_the_seed_decides():
    cluster = Cluster(7, between_losses=300.0)
    first = simulate(cluster, 500, 20.0, 4)
    assert simulate(cluster, 500, 20.0, 4) == first
    assert simulate(cluster, 500, 20.0, 5) != first


def test_longer_shards_lose_more_and_shorter_ones_cost_more():
    cluster = Cluster(20, between_losses=600.0, replacement=60.0)
    walls = [
        statistics.median(run_case(cluster, size, 20_000, 1.0, 2.0, 3).overheads())
        for size in (1, 32, 1000)
    ]
    assert walls[0] > 2 > 1.5 * walls[1]
    assert walls[2] > 2 * walls[1]


def test_cases_are_found_and_their_losses_pooled():
    clusters = [Cluster(workers, each) for workers in (5, 10) for each in (math.inf, 500.0)]
    cases = [
        run_case(cluster, size, 5_000, 1.0, 0.0, 2) for cluster in clusters for size in (8, 64)
    ]
    [one] = select(cases, 10, 500.0, 64)
    assert (one.size, one.cluster.workers, one.best, len(one.outcomes)) == (64, 10, 500.0, 2)
    assert [len(case.outcomes) for case in select(cases, between_losses=math.inf)] == [1] * 4
    simulated, expected = done_twice(cases, 500.0, 64)
    both = [outcome for case in select(cases, None, 500.0, 64) for outcome in case.outcomes]
    assert len(both) == 4
    assert simulated == pytest.approx(sum(o.twice for o in both) / (4 * 79 * 64))
    assert simulated == pytest.approx(expected, rel=0.3)


def test_the_tables_and_the_figure(tmp_path, capsys):
    table, figure = tmp_path / "loss.md", tmp_path / "loss.png"
    worker_loss.main(
        f"--pictures 5000 --workers 3 20 --seeds 2 --table {table} --figure {figure}".split()
    )
    text = table.read_text(encoding="utf-8")
    assert text == capsys.readouterr().out.removesuffix("\n")
    assert "Wall time beyond the best (0.07 h) on 20 workers" in text
    assert text.count("| 1024 |") == 3
    assert "| workers | never | every 24 hours | every hour |" in text
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_the_best_size_is_the_one_with_the_least_wall_time():
    sizes = [Case(Cluster(1), size, 1.0, 10.0, simulated) for size, simulated in _walls()]
    assert worker_loss._best(sizes) == "16 (20.0%)"


def _walls():
    for size, wall in ((8, 15.0), (16, 12.0), (32, 13.0)):
        yield size, (simulate(Cluster(1), 1, wall, 0),)
