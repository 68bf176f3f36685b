# The table of kinds of models in docs/your_model.md is what is so, and runtimes change no number.

import model_kinds
import pytest
import torch
from model_kinds import Kind, Network, pictures, seeded
from model_table import table, written
from refused import refused

from captum_infomask import InfoMask

WINDOWS = {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8)}
HALF = {torch.bfloat16: 2**-8, torch.float16: 2**-11}


@pytest.mark.slow
def test_the_page_has_the_table():
    assert written() == table(), "python tests/model_table.py --write"


RUNTIMES = {
    "compiled": "relay",
    "bfloat16": "relay",
    "float16": "relay",
    "channels_last": "relay",
    "data_parallel": "relay",
    "exported": "relay",
    "exported_of_one_size": "relay",
    "torchscript": "drop",
    "onnx_session": "drop",
    "onnx_of_one_size": "drop",
}
QUICK = ("bfloat16", "float16", "channels_last", "data_parallel")
SLOW = [name for name in RUNTIMES if name not in QUICK]


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_runtimes_give_the_numbers_of_the_network(name):
    kind: Kind = getattr(model_kinds, name)()
    plain = seeded(Network)
    eval_one = {"perturbations_per_eval": 1} if kind.few else {}
    for view in (RUNTIMES[name], "crop", "drop", "keep", "chain"):
        options = {"view": view, **(WINDOWS if view != "relay" else {}), **eval_one}
        found = InfoMask(kind.model).score_regions(kind.inputs, target=1, **options)
        wanted = InfoMask(plain).score_regions(pictures(), target=1, **options)
        # A score is a difference of logarithms, which has the rounding of the outputs.
        largest = float(plain(pictures()).detach().abs().max())
        rounding = HALF.get(kind.inputs.dtype, 2**-20) * 4 * largest
        assert found.scores.dtype == torch.float32
        torch.testing.assert_close(found.scores, wanted.scores, rtol=0.02, atol=rounding)
        is_rounded = kind.inputs.dtype in HALF and view != "relay"
        assert float(wanted.scores.abs().max()) > (4 * rounding if is_rounded else 0.01)


@pytest.mark.parametrize("engine", ["auto", "incremental", "batched"])
def test_data_parallel_reaches_the_network_inside(engine):
    plain = seeded(Network)
    parallel = torch.nn.DataParallel(plain)
    options = {"target": 1, "view": "drop", "engine": engine, **WINDOWS}
    found = InfoMask(parallel).score_regions(pictures(), **options)
    wanted = InfoMask(plain).score_regions(pictures(), **options)
    assert found.engine == wanted.engine
    assert torch.equal(found.scores, wanted.scores)
    by_name = {"target": 1, "view": "evidence"}
    inside = InfoMask(parallel).attribute(pictures(), layer="module.layers.3", **by_name)
    assert torch.equal(inside, InfoMask(plain).attribute(pictures(), layer="layers.3", **by_name))


class OfOneSize(torch.nn.Module):
    """A network that takes batches of one size alone, as some exported ones."""

    def __init__(self, size):
        super().__init__()
        self.inside, self.size = seeded(Network), size

    def forward(self, x):
        if len(x) != self.size:
            raise RuntimeError(f"Got: {len(x)} Expected: {self.size}")
        return self.inside(x)


def test_batches_of_one_size_are_explained_and_possible():
    x, options = pictures(), {"target": 1, "view": "drop", **WINDOWS}
    infomask = InfoMask(OfOneSize(2).eval())
    refused(
        (
            "batches of any size; it takes 2 views",
            "Got: 32 Expected: 2",
            "perturbations_per_eval=1",
        ),
        lambda: infomask.attribute(x, **options),
    )
    found = infomask.attribute(x, perturbations_per_eval=1, **options)
    wanted = InfoMask(seeded(Network)).attribute(x, perturbations_per_eval=1, **options)
    assert torch.equal(found, wanted)
    alone = InfoMask(OfOneSize(1).eval())
    refused(
        ("it takes 1 views, and for 2", "Pass one input and perturbations_per_eval=1"),
        lambda: alone.attribute(x, perturbations_per_eval=1, **options),
    )
    found = alone.attribute(x[:1], perturbations_per_eval=1, **options)
    torch.testing.assert_close(found, wanted[:1], rtol=0, atol=1e-5)


def test_other_errors_are_not_explained_as_sizes():
    class Fails(torch.nn.Module):
        def forward(self, x):
            raise RuntimeError("odd")

    with pytest.raises(RuntimeError, match=r"^odd$"):
        InfoMask(Fails().eval()).attribute(pictures(), target=1, view="drop", **WINDOWS)
