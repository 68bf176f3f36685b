# Networks in every kind of wrapper: afterwards nothing of them has changed, and the numbers are
# those of the network inside.
from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from captum.attr import Saliency
from PIL import Image
from state import differences, take_down
from tiny import images, randomise
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from captum_infomask import (
    DatasetRun,
    InfoMask,
    compare,
    fit_critic,
    grid,
    randomisation_check,
    run_dataset,
)
from captum_infomask.engines.isolation import Isolation, alias, own_weight, same_weight
from captum_infomask.engines.traced import plain_module
from captum_infomask.engines.traced_network import StandsAside
from captum_infomask.models.classifier import Classifier, log_probabilities
from captum_infomask.models.preprocessing import Preprocess


def plain() -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    )  # fmt: skip
    return randomise(net)


class Forwarding(nn.Module):
    """Sets what is set on the network that it wraps."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.training = False
        self.__dict__["ready"] = True

    def __setattr__(self, name: str, value: object) -> None:
        if self.__dict__.get("ready"):
            setattr(self.inner, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Holding(nn.Sequential):
    """Has attributes that no copy can be made of, and some that refer to its own parts."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.lock = threading.Lock()
        self.numbers = (number for number in range(3))
        self.last, self.again = [self[5]], self[5].forward
        self.kept = torch.ones(1, requires_grad=True) * 2

    def __deepcopy__(self, memo: object) -> Any:
        raise TypeError("no copies")

    def forward(self, x: Tensor) -> Tensor:
        for layer in list(self)[:5]:
            x = layer(x)
        return self.again(x) + 0 * self.last[0](x)


class Functional(nn.Module):
    """Runs a network with parameters that it makes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        made = {name: value * 1 for name, value in self.inner.named_parameters()}
        return torch.func.functional_call(self.inner, made, (x,))


def quietly(make: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these are on their way out of PyTorch
        return make()


def pruned() -> nn.Module:
    net = plain()
    prune.l1_unstructured(net[0], "weight", 0.2)
    return net


def weight_norm() -> nn.Module:
    net = plain()
    net[5] = parametrizations.weight_norm(net[5])
    return net.eval()


def old_weight_norm() -> nn.Module:
    net = plain()
    net[5] = quietly(lambda: nn.utils.weight_norm(net[5]))
    return net


def partly_compiled() -> nn.Module:
    net = plain()
    head = torch.compile(nn.Sequential(net[4], net[5]), backend="eager")
    return nn.Sequential(*net[:4], head).eval()


def compiled_in_place() -> nn.Module:
    net = plain()
    net.compile(backend="eager")
    return net


def lazy() -> nn.Module:
    net = plain()
    weight, bias = net[5].weight.detach(), net[5].bias.detach()
    net[5] = nn.LazyLinear(4)
    net.eval()(images(1))
    with torch.no_grad():
        net[5].weight.copy_(weight)
        net[5].bias.copy_(bias)
    return net


def made_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return plain()


pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore:.torch.jit")

KINDS: dict[str, Callable[[], nn.Module]] = {
    "compiled": lambda: torch.compile(plain(), backend="eager"),
    "a part compiled": partly_compiled,
    "compiled in place": compiled_in_place,
    "forwarding what is set": lambda: Forwarding(plain()),
    "not to be copied": lambda: Holding(*plain()).eval(),
    "parametrised": weight_norm,
    "weight norm": old_weight_norm,
    "pruned": pruned,
    "DataParallel": lambda: nn.DataParallel(plain()).eval(),
    "functional_call": lambda: Functional(plain()).eval(),
    "lazy, initialised": lazy,
    "inference parameters": made_in_inference_mode,
    "scripted": lambda: quietly(lambda: torch.jit.script(plain())),
    "frozen": lambda: quietly(lambda: torch.jit.freeze(torch.jit.script(plain()))),
    "traced": lambda: quietly(lambda: torch.jit.trace(plain(), images(1))),
}

# A mask on the weight, or a sum of products in another order: other numbers, or other roundings.
OTHER = {"pruned"}

# Programs, hooks, and parameters made by themselves: no operations can be taken from them.
NO_FEATURES = {"scripted", "frozen", "traced", "weight norm", "pruned", "functional_call"}


# Programs, whose steps cannot be seen.
NO_EVIDENCE = {"scripted", "frozen", "traced"}


def everything(net: nn.Module) -> dict[str, Any]:
    """All of a network: entries, hooks, flags, modules, and every attribute by identity."""
    state = {k: v for k, v in quietly(lambda: take_down(net)).items() if "rng" not in k}
    for name, module in net.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            for key, value in vars(module).items():
                state[f"{name}.{key}"] = _told(value)
    return state


def _told(value: object) -> object:
    if isinstance(value, Tensor):
        return value.detach().clone()  # a hook may make it anew in every pass
    if isinstance(value, dict):
        return {key: id(part) for key, part in value.items()}
    return id(value) if isinstance(value, nn.Module | list) else repr(value)


def answered(net: nn.Module) -> Tensor:
    with torch.no_grad():
        return net(images(2))


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def net(kind: str) -> nn.Module:
    made = KINDS[kind]()
    answered(made)
    return made


CALLS: dict[str, dict[str, Any]] = {
    "crop": {"view": "crop"},
    "drop": {"view": "drop", "engine": "incremental"},
    "keep": {"view": "keep", "engine": "batched"},
    "chain": {"view": "chain", "n_samples": 2},
    "features": {"view": "features"},
    "evidence": {"view": "evidence"},
    "relay": {"view": "relay"},
}


@pytest.mark.parametrize(
    ("kind", "call"),
    # Engines and traces meet every kind; crop and chain are batches of pictures, as keep is.
    [
        *((kind, call) for kind in KINDS for call in CALLS if call not in ("crop", "chain")),
        *(
            (kind, call)
            for kind in ("compiled", "scripted", "pruned")
            for call in ("crop", "chain")
        ),
    ],
    indirect=["kind"],
)
def test_a_network_keeps_its_weights_hooks_and_flags(net: nn.Module, kind: str, call: str) -> None:
    x = images(2)
    before, answers = everything(net), answered(net)
    given = {"target": 1, "regions": grid(x, 3, 3), **CALLS[call]}
    infomask = InfoMask(net)
    cannot = {"features": NO_FEATURES, "evidence": NO_EVIDENCE, "relay": NO_EVIDENCE}
    if kind in cannot.get(call, ()):
        with pytest.raises(ValueError, match=r"is TorchScript|has hooks|cannot trace it"):
            infomask.score_regions(x, **given)
    else:
        found = infomask.score_regions(x, **given)
        wanted = InfoMask(plain()).score_regions(x, **{**given, "engine": "auto"})
        assert wanted.scores.abs().max() > (0.01 if call in ("evidence", "relay") else 0.1)
        if kind not in OTHER:
            torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-4, atol=1e-5)
        options = {name: value for name, value in given.items() if name != "target"}
        assert torch.equal(
            infomask.score_classes(x, classes=[1], **options).scores[..., 0], found.scores
        )
    assert differences(before, everything(net)) == []
    assert torch.equal(answered(net), answers)


@pytest.mark.filterwarnings("ignore:The default, view=")
def test_a_comparison_keeps_a_networks_weights_hooks_and_flags(net: nn.Module, kind: str) -> None:
    x = images(2)
    before, answers = everything(net), answered(net)
    methods = {"bits": (InfoMask(net), {"view": "drop"}), "Saliency": Saliency(net)}
    mine = compare(net, x, 1, methods=methods, metrics=["deletion"])
    own = compare(net, x, 1, metrics=[])
    assert [one.name for one in (*mine.outcomes, *own.outcomes) if one.error] in (
        [], ["Grad-CAM"] if isinstance(net, torch.jit.ScriptModule) else [],
    )  # fmt: skip
    wanted = compare(plain(), x, 1, methods=["InfoMask drop"], metrics=[])
    if kind not in OTHER:
        torch.testing.assert_close(
            torch.tensor(own["InfoMask drop"].planes),
            torch.tensor(wanted["InfoMask drop"].planes),
            rtol=1e-4, atol=1e-5,
        )  # fmt: skip
    assert differences(before, everything(net)) == []
    assert torch.equal(answered(net), answers)


def run_over(net: nn.Module, data: Path, out: Path) -> DatasetRun:
    shown = Preprocess(resize=8, crop=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    classifier = Classifier("net", net, ("a", "b", "c", "d"), shown)
    return run_dataset(data, classifier, out, view="drop", workers=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for k in range(2):
        Image.new("RGB", (8, 8), (90 * k, 60, 200)).save(folder / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def own(data: Path, tmp_path_factory: pytest.TempPathFactory) -> DatasetRun:
    """The run over the network inside."""
    return run_over(plain(), data, tmp_path_factory.mktemp("own"))


@pytest.mark.slow
def test_a_run_keeps_a_networks_weights_hooks_and_flags(
    net: nn.Module, kind: str, data: Path, own: DatasetRun, tmp_path: Path
) -> None:
    before = everything(net)
    run = run_over(net, data, tmp_path / "out")
    assert run.errors == {}
    if kind not in OTHER:
        for key in ("0.png", "1.png"):
            torch.testing.assert_close(run[key].scores, own[key].scores, rtol=1e-4, atol=1e-5)
    assert differences(before, everything(net)) == []


def test_a_fitted_copy_leaves_a_networks_weights_alone(net: nn.Module, kind: str) -> None:
    before = everything(net)
    loader = [images(8, seed=k) for k in range(3)]
    if isinstance(net, torch.jit.ScriptModule):
        with pytest.raises(ValueError, match="Pass the module that it was made of"):
            fit_critic(net, loader, steps=2)
        return
    critic = fit_critic(net, loader, steps=2, learning_rate=0.01)
    with torch.no_grad():
        assert (critic(images(1)) - net(images(1))).abs().max() > 1e-3
    assert differences(before, everything(net)) == []


def test_redrawn_copies_leave_a_networks_weights_alone(net: nn.Module, kind: str) -> None:
    before = everything(net)
    if isinstance(net, torch.jit.ScriptModule):
        with pytest.raises(ValueError, match="Pass the module that it was made of"):
            randomisation_check(net, images(1), 1, {"x": lambda model, x, y: model(x)[0, 1] * x})
        return
    check = randomisation_check(net, images(1), 1, {"x": lambda model, x, y: model(x)[0, 1] * x})
    assert abs(check.spearman[0, -1]) < 1
    assert differences(before, everything(net)) == []


def test_probabilities_leave_a_networks_modes_alone(net: nn.Module, kind: str) -> None:
    before = everything(net)
    with torch.no_grad():
        log_probabilities(Classifier("net", net, ("a", "b", "c", "d")), images(2))
    assert differences(before, everything(net)) == []


@pytest.mark.parametrize(
    "kind", ["compiled", "a part compiled", "compiled in place"], indirect=True
)
def test_compiled_networks_have_the_modes_that_they_were_set_to(net: nn.Module, kind: str) -> None:
    inside = net._orig_mod if kind == "compiled" else net
    assert plain_module(net) is inside
    with pytest.raises(StandsAside, match="in training mode"):
        plain_module(net.train())
    log_probabilities(Classifier("net", net, ("a", "b", "c", "d")), images(2))
    with pytest.raises(StandsAside, match="in training mode"):
        plain_module(net)
    assert plain_module(net.eval()) is inside


@pytest.mark.parametrize("weights", [same_weight, alias, own_weight])
def test_what_a_copy_shares(weights: Callable[[nn.Parameter], Tensor]) -> None:
    net = plain()
    net.register_forward_hook(lambda module, args, output: output * 2)
    net.seen = [net[0]]
    isolation = Isolation(weights)
    made = isolation.copy(net)
    assert torch.equal(made(images(1)), net(images(1)))
    assert isolation.copy(net[3]) is made[3]
    assert made.seen[0] is made[0] is not net[0]
    pairs = list(zip(net.parameters(), made.parameters(), strict=True))
    same = [one is other for one, other in pairs]
    memory = [one.data_ptr() == other.data_ptr() for one, other in pairs]
    assert set(same) == {weights is same_weight}
    assert set(memory) == {weights is not own_weight}
    assert all(
        a.data_ptr() != b.data_ptr() for a, b in zip(net.buffers(), made.buffers(), strict=True)
    )
    handle = made.register_forward_hook(lambda module, args, output: None)
    assert len(net._forward_hooks) == 1
    handle.remove()
    made[0].weight.grad = torch.ones_like(made[0].weight)
    assert (net[0].weight.grad is None) == (weights is not same_weight)
