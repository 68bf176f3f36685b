# InfoMask as Quantus asks for it: arrays in, arrays out.
import numpy as np
import pytest
import torch
from refused import refused
from state import unchanged

from captum_infomask import InfoMask, infomask_explain_func


@pytest.fixture
def pictures():
    return np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)


def as_quantus_does(explain_func, model, x_batch, y_batch, explain_func_kwargs, device=None):
    """The call of Quantus's metrics, with the device among the function's own arguments."""
    options = dict(explain_func_kwargs)
    if device is not None and "device" not in options:
        options["device"] = device
    return explain_func(model=model, inputs=x_batch, targets=y_batch, **options)


@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
def test_it_is_infomask(net, pictures, device):
    net = net.float()
    options = {"unit": "nats", "temperature": 2.0, "view": "drop", "baselines": 0.5}
    with unchanged(net):
        found = as_quantus_does(
            infomask_explain_func, net, pictures, np.array([1, 3]), options, device
        )
    want = InfoMask(net, unit="nats", temperature=2.0).attribute(
        torch.from_numpy(pictures), target=[1, 3], view="drop", baselines=0.5
    )
    assert isinstance(found, np.ndarray)
    assert found.shape == (2, 3, 12, 12)
    np.testing.assert_array_equal(found, want.numpy())
    assert np.ptp(found) > 0.01
    in_bits = infomask_explain_func(net, pictures, np.array([1, 3]))
    assert not np.allclose(in_bits, found)


def test_numbers_become_what_the_network_takes(net, pictures):
    want = InfoMask(net).attribute(torch.from_numpy(pictures).double(), target=2)
    for given in (pictures, pictures.astype(np.float64)):
        for targets in (2, np.int64(2), np.array([2, 2]), [2, 2]):
            found = infomask_explain_func(net, given, targets)
            assert found.dtype == np.float64
            np.testing.assert_array_equal(found, want.numpy())


def test_models_without_parameters(pictures):
    found = infomask_explain_func(torch.nn.Flatten(), pictures, 0)
    assert found.shape == pictures.shape


def test_bad_arguments(net, pictures):
    targets = np.array([0, 1])

    def explain(**options):
        return infomask_explain_func(net, pictures, targets, **options)

    refused(("'veiw'", "Did you mean 'view'", "explain_func_kwargs"), lambda: explain(veiw="drop"))
    refused(("'a'", "'b'"), lambda: explain(a=1, view="drop", b=2))
    refused(("'forward_func'",), lambda: explain(forward_func=net))
    refused(("'target'",), lambda: explain(target=1))
    refused(("`view`",), lambda: explain(view="drip"))
    refused(("`unit`",), lambda: explain(unit="byte"))
    refused(("`device`", "'moon'"), lambda: explain(device="moon"))
    refused(("`model`", "torch.nn.Module"), lambda: infomask_explain_func(abs, pictures, targets))
    refused(("`inputs`",), lambda: infomask_explain_func(net, "picture", targets))
    refused(("`targets`",), lambda: infomask_explain_func(net, pictures, "tripod"))


def test_quantus_itself_asks(net, pictures):
    quantus = pytest.importorskip("quantus")
    metric = quantus.MaxSensitivity(nr_samples=2, disable_warnings=True, return_aggregate=False)
    values = metric(
        model=net.float().eval(),
        x_batch=pictures,
        y_batch=np.array([1, 3]),
        a_batch=None,
        explain_func=infomask_explain_func,
        explain_func_kwargs={"view": "drop"},
        device="cpu",
        channel_first=True,
    )
    assert len(values) == 2
    assert all(0 < value < 10 for value in values)
    # Its own randomisation check, which asks about networks that it has re-drawn.
    check = quantus.MPRT(
        layer_order="top_down", return_last_correlation=True, disable_warnings=True
    )
    scores = check(
        model=net,
        x_batch=pictures,
        y_batch=np.array([1, 3]),
        explain_func=infomask_explain_func,
        explain_func_kwargs={"view": "drop"},
        device="cpu",
        channel_first=True,
    )
    assert np.isfinite(np.asarray(scores, dtype=float)).all()
