# Captum's own test configurations, as its targets, hook-removal and JIT tests use them.
#
# A configuration is left out by rule (`left_out`): it attributes to a layer or a neuron, its
# baselines are a distribution, or it has arguments that only the algorithm it was written for
# knows (`internal_batch_size`). Everything else runs.
from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from captum.attr import FeatureAblation, NoiseTunnel, Occlusion
from tiny import randomise
from torch import Tensor

from captum_infomask import ArgumentError, InfoMask

test_config = pytest.importorskip(
    "captum.testing.attr.helpers.test_config",
    reason="captum ships its test configurations from 0.9 on",
)

# Captum's small networks have no meaning: the outputs of one lie in [0, 1].
pytestmark = pytest.mark.filterwarnings("ignore:All outputs lie in")

_NOISE = set(inspect.signature(NoiseTunnel.attribute).parameters)
_OWN = set(inspect.signature(InfoMask.attribute).parameters)


def left_out(config: dict[str, Any]) -> str | None:
    if "layer" in config:
        return "attributes to a layer or a neuron"
    if config.get("baseline_distr", False):
        return "the baselines are a distribution"
    unknown = set(config["attribute_args"]) - _OWN - (_NOISE if has_noise(config) else set())
    return f"takes {', '.join(sorted(unknown))}" if unknown else None


def has_noise(config: dict[str, Any]) -> bool:
    return bool(config.get("noise_tunnel", False))


def is_images(config: dict[str, Any]) -> bool:
    inputs = config["attribute_args"]["inputs"]
    return isinstance(inputs, Tensor) and inputs.dim() == 4


VIEWS = {False: ("drop", "keep"), True: ("drop", "keep", "crop")}
EFFECT = 0.02  # what attributions must exceed: two hundred times the tolerance of 1e-4
FITTING = {c["name"]: c for c in test_config.config if left_out(c) is None}
PLAIN = {name: config for name, config in FITTING.items() if not has_noise(config)}
HEAD_AND_VIEW = [
    pytest.param(name, head, view, id=f"{name}-{head}-{view}")
    for name, config in FITTING.items()
    for head in ("raw", "own")
    for view in VIEWS[is_images(config)]
]


def load(name: str) -> tuple[torch.nn.Module, dict[str, Any], str]:
    """The configuration's model and arguments, and the head that its output calls for.

    Captum's models have equal weights for every class, so that softmax would not depend on the
    input at all: the weights are replaced by random ones.
    """
    config = copy.deepcopy(FITTING[name])
    args = config["attribute_args"]
    if is_images(config):
        args["inputs"] = args["inputs"] / args["inputs"].max()  # or softmax saturates
    if has_noise(config):
        args["nt_samples"] = 4  # without noise, as here, twenty say no more
    model = randomise(config["model"], scale=0.5 if is_images(config) else 1.0, seed=2)
    output = model(*as_tuple(args["inputs"]), *as_tuple(args.get("additional_forward_args")))
    if output.shape[1:].numel() == 1:
        return model, args, "sigmoid"
    is_probability = torch.allclose(output.sum(1), torch.ones_like(output.sum(1)))
    return model, args, "probs" if is_probability else "logits"


def as_tuple(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def attribute(method: Any, name: str, args: dict[str, Any], **more: Any) -> tuple[Tensor, ...]:
    method = NoiseTunnel(method) if has_noise(FITTING[name]) else method
    return as_tuple(method.attribute(**args, **more))


def largest(attributions: tuple[Tensor, ...]) -> float:
    return max(float(tensor.abs().max()) for tensor in attributions)


def options(view: str) -> dict[str, Any]:
    """Crops take the default windows: two columns alone are too few for the convolutions."""
    return {"view": view, "sliding_window_shapes": None} if view == "crop" else {"view": view}


def one_example(args: dict[str, Any], i: int, n: int) -> dict[str, Any]:
    def only(value: Any) -> Any:
        if isinstance(value, Tensor | list) and len(value) == n:
            return value[i : i + 1]
        return tuple(map(only, value)) if isinstance(value, tuple) else value

    per_example = ("inputs", "baselines", "additional_forward_args", "target")
    return {key: only(value) if key in per_example else value for key, value in args.items()}


def test_every_configuration_for_perturbation_methods_is_run() -> None:
    by_name = {config["name"]: config for config in test_config.config}
    for_us = {
        name
        for name, config in by_name.items()
        if {FeatureAblation, Occlusion} & set(config["algorithms"])
    }
    assert for_us <= FITTING.keys()
    assert len(FITTING) >= 20
    assert any(is_images(config) for config in FITTING.values())
    reasons = {name: left_out(config) for name, config in by_name.items()}
    assert all(reasons[name] for name in by_name.keys() - FITTING.keys())


@pytest.mark.parametrize(("name", "head", "view"), HEAD_AND_VIEW)
def test_targets_batch_and_single_examples_agree(name: str, head: str, view: str) -> None:
    model, args, own = load(name)
    args = {**args, **options(view)}
    infomask = InfoMask(model, head=own if head == "own" else "raw")
    batch = attribute(infomask, name, args)
    n = len(as_tuple(args["inputs"])[0])
    assert largest(batch) > EFFECT
    for i in range(n):
        single = one_example(args, i, n)
        expected = tuple(tensor[i : i + 1] for tensor in batch)
        torch.testing.assert_close(
            attribute(infomask, name, single), expected, atol=1e-4, rtol=1e-5
        )
        if isinstance(args.get("target"), Tensor | list):
            bare = single["target"][0]
            torch.testing.assert_close(
                attribute(infomask, name, {**single, "target": bare}),
                expected,
                atol=1e-4,
                rtol=1e-5,
            )


@pytest.mark.parametrize("name", FITTING)
def test_raw_nats_of_drop_are_captums_own_ablation(name: str) -> None:
    model, args, _ = load(name)
    algorithms = {FeatureAblation, Occlusion} & set(FITTING[name]["algorithms"])
    more: dict[str, Any] = {}
    if "sliding_window_shapes" not in args and is_images(FITTING[name]):
        shape = args["inputs"].shape[1:]
        more = {"feature_mask": torch.arange(shape.numel()).reshape(1, *shape)}
    infomask = InfoMask(model, head="raw", unit="nats")
    ours = attribute(infomask, name, args, view="drop", **more)
    for algorithm in algorithms:
        theirs = attribute(algorithm(model), name, args, **more)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert len(algorithms) == 1
    assert largest(ours) > EFFECT


def leftover_hooks(model: torch.nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks)
        for m in model.modules()
    )


class Broken(torch.nn.Module):
    """A layer that fails when it is reached."""

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("the layer is broken")


@pytest.mark.parametrize("name", FITTING)
def test_no_hooks_are_left(name: str) -> None:
    model, args, _ = load(name)
    infomask = InfoMask(model, head="raw")
    attribute(infomask, name, args, view="drop")
    assert leftover_hooks(model) == 0
    with pytest.raises(AssertionError, match="target"):
        attribute(infomask, name, {**args, "target": (9999,) * 20}, view="drop")
    assert leftover_hooks(model) == 0
    holder, last = next(
        (module, child)
        for module in reversed(list(model.modules()))
        for child, layer in module.named_children()
        if isinstance(layer, torch.nn.Linear) and "alt" not in child
    )
    setattr(holder, last, Broken())
    with pytest.raises(AssertionError, match="the layer is broken"):
        attribute(infomask, name, args, view="keep")
    assert leftover_hooks(model) == 0


class TensorsOnly(torch.nn.Module):
    """A model as a trace needs it: all its arguments are tensors, any others are fixed."""

    def __init__(self, model: torch.nn.Module, values: tuple[Any, ...]) -> None:
        super().__init__()
        self.model, self.values = model, values

    def forward(self, *given: Tensor) -> Tensor:
        left = iter(given)
        return self.model(*(next(left) if isinstance(v, Tensor) else v for v in self.values))


def traced(model: torch.nn.Module, args: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A trace of the model, and its arguments without those that the trace fixes."""
    count = len(as_tuple(args["inputs"]))
    values = (*as_tuple(args["inputs"]), *as_tuple(args.get("additional_forward_args")))
    tensors = tuple(value for value in values if isinstance(value, Tensor))
    trace = torch.jit.trace(TensorsOnly(model, values), tensors)
    return trace, {**args, "additional_forward_args": tensors[count:] or None}


@pytest.mark.filterwarnings(
    "ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning"
)
@pytest.mark.parametrize("wrap", ["script", "trace", "data_parallel"])
@pytest.mark.parametrize("name", PLAIN)
def test_compiled_and_parallel_models(name: str, wrap: str) -> None:
    model, args, head = load(name)
    other, other_args = model, args
    if wrap == "script":
        other = torch.jit.script(model)
    elif wrap == "trace":
        other, other_args = traced(model, args)
    else:
        other = torch.nn.DataParallel(model)
    for view in VIEWS[is_images(FITTING[name])]:
        more = options(view)
        expected = attribute(InfoMask(model, head=head), name, {**args, **more})
        got = attribute(InfoMask(other, head=head), name, {**other_args, **more})
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
        assert largest(got) > EFFECT


def test_missing_target_and_too_many_indices_are_assertion_errors() -> None:
    model = test_config.BasicModel_MultiLayer()
    with pytest.raises(AssertionError, match="`target`"):
        InfoMask(model).attribute(torch.zeros(1, 3), view="drop")
    with pytest.raises(ArgumentError, match="3 indices"):
        InfoMask(model).attribute(
            torch.zeros(1, 3), additional_forward_args=(None, True), target=(1, 0), view="drop"
        )
