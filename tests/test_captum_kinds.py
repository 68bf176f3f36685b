# NoiseTunnel, captum.metrics and Quantus's form take every kind of model of the table in the docs.
import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from captum.metrics import infidelity, sensitivity_max
from model_kinds import KINDS, Kind
from refused import refused
from torch import Tensor, nn

from captum_infomask import InfoMask, infomask_explain_func
from captum_infomask._outputs import read_logits

HALF = (torch.bfloat16, torch.float16)

pytestmark = pytest.mark.slow


def as_tuple(values: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return values if isinstance(values, tuple) else (values,)


def options_of(kind: Kind) -> dict[str, object]:
    options = {"target": kind.target, "view": "drop", "sliding_window_shapes": kind.windows}
    options["strides"] = kind.windows
    return {**options, "perturbations_per_eval": 1} if kind.few else options


@pytest.mark.parametrize("name", KINDS)
def test_captums_tools_take_every_kind(name):
    kind = KINDS[name]()
    options = options_of(kind)
    infomask = InfoMask(kind.model, **kind.score)
    alone = as_tuple(infomask.attribute(kind.inputs, **options))
    assert sum(float(part.abs().sum()) for part in alone) > 0

    tunnel = NoiseTunnel(infomask)

    def noisy():
        return as_tuple(tunnel.attribute(kind.inputs, nt_samples=1, stdevs=0.0, **options))

    if as_tuple(kind.inputs)[0].dtype in HALF:  # Captum makes them float32
        refused(("`inputs` of dtype", "converts them"), noisy)
    else:
        for one, other in zip(noisy(), alone, strict=True):
            torch.testing.assert_close(one.to(other), other, rtol=1e-3, atol=1e-3)

    def still(inputs):
        return inputs

    same = sensitivity_max(infomask.attribute, kind.inputs, still, n_perturb_samples=1, **options)
    assert same.shape == (2,)
    torch.testing.assert_close(same, torch.zeros_like(same), rtol=0, atol=1e-3)
    if kind.few:
        return  # infidelity shows batches of other sizes
    wrong = infidelity(
        lambda *inputs: read_logits(kind.model(*inputs)).float(),
        lambda *inputs: (inputs[0], tuple(part * 0 for part in as_tuple(inputs[0]))),
        kind.inputs,
        alone if isinstance(kind.inputs, tuple) else alone[0],
        target=kind.target,
        n_perturb_samples=1,
    )
    assert bool(wrong.isfinite().all())


@pytest.mark.parametrize("name", KINDS)
def test_quantus_form_takes_every_module(name):
    kind = KINDS[name]()
    if not isinstance(kind.model, nn.Module) or isinstance(kind.inputs, tuple):
        pytest.skip("Quantus takes modules and one array")
    options = options_of(kind)
    alone = InfoMask(kind.model, **kind.score).attribute(kind.inputs, **options)
    del options["target"]
    found = infomask_explain_func(
        kind.model,
        kind.inputs.float().numpy(),
        np.array([kind.target] * 2),
        **kind.score,
        **options,
    )
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, alone.numpy())
