# What views cost, and which of them run together.
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from captum_infomask.engines.incremental.views_in_chunks import CostModel, chunks_of


def cost_model(steps=4, fixed=1e4, dims=2):
    sizes = np.array([[side >> k for side in (40, 44, 36)[:dims]] for k in range(steps)])
    return CostModel(
        nodes=(),
        sizes=sizes,
        channels=np.array([3 << k for k in range(steps)]),
        per_position=np.array([7.0 * 3**k for k in range(steps)]),
        rest=100.0,
        fixed=fixed,
    )


def lengths_of(views, model, seed):
    """Heights and widths of what changes, which grow relative to the maps."""
    at = np.random.default_rng(seed).integers(1, 12, (views, 1, model.sizes.shape[1]))
    step = np.arange(len(model.sizes))[:, None]
    return np.minimum(at // 2**step + 1 + step, model.sizes)


@settings(max_examples=50, deadline=None)
@given(
    views=st.integers(1, 70),
    most=st.integers(1, 40),
    seed=st.integers(0, 999),
    fixed=st.sampled_from([1e3, 1e5, 1e7]),
    dims=st.sampled_from([1, 2, 3]),
)
def test_chunks(views, most, seed, fixed, dims):
    model = cost_model(fixed=fixed, dims=dims)
    lengths = lengths_of(views, model, seed)
    chunks = chunks_of(model, lengths, most)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(views))
    assert all(1 <= len(chunk) <= most for chunk in chunks)
    cost = chunks_cost(model, lengths, chunks) * (1 - 1e-12)
    one_class = np.array_split(np.arange(views), -(-views // most))
    assert cost <= chunks_cost(model, lengths, one_class)
    if fixed >= 1e5 and dims < 3:  # else a dozen classes may be too few
        alone = np.arange(views)[:, None]
        assert cost <= chunks_cost(model, lengths, alone)


def chunks_cost(model, lengths, chunks):
    """The same cost as the model's, box by box."""
    total = 0.0
    for chunk in chunks:
        total += model.fixed
        for _ in chunk:
            total += model.rest
            for step, size in enumerate(model.sizes):
                area = lengths[chunk, step].max(0).prod()
                positions = size.prod() if area >= 0.85 * size.prod() else area
                total += positions * model.per_position[step]
    return total


def test_views_that_differ_run_apart_and_those_that_do_not_together():
    model = cost_model(fixed=1.0)
    small, large = np.full((1, 4, 2), 2), np.minimum(np.full((1, 4, 2), 30), model.sizes)
    lengths = np.concatenate([small, large] * 10)
    chunks = chunks_of(model, lengths, 32)
    assert sorted(map(list, chunks)) == [list(range(0, 20, 2)), list(range(1, 20, 2))]
    assert len(chunks_of(cost_model(fixed=1e9), lengths, 32)) == 1


def test_what_views_cost():
    model = cost_model()
    lengths = lengths_of(20, model, 1)
    assert model.per_view(model.sizes) == pytest.approx(model.whole)
    costs = model.per_view(lengths)
    assert (costs < model.whole).all()
    assert (model.per_view(np.minimum(lengths + 1, model.sizes)) > costs).all()
    assert model.chunks(lengths, np.array([0])) == pytest.approx(
        chunks_cost(model, lengths, [np.arange(20)])
    )
    assert model.chunks(lengths, np.array([0])) > model.fixed + costs.sum()
    rows, columns = lengths.max(0).T
    assert model.elements(lengths) == max(rows * columns * model.channels)
