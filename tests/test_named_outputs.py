# Networks that return their logits under a name give what the tensor alone gives, everywhere.
import copy
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from captum.attr import DeepLift, GuidedGradCam, LayerGradCam, NoiseTunnel, Occlusion, Saliency
from captum.metrics import infidelity, sensitivity_max
from model_kinds import huggingface_vit
from refused import refused
from state import unchanged
from torch import nn

from captum_infomask import (
    Batched,
    InfoMask,
    compare,
    fit_critic,
    fit_temperature,
    infomask_explain_func,
    measure_bounds,
    randomisation_check,
    run_dataset,
)
from captum_infomask._outputs import logits_of, read_logits
from captum_infomask.critics.estimate_prior import estimate_prior
from captum_infomask.engines.verified_copy import fast_copy
from captum_infomask.models.classifier import Classifier, log_probabilities
from captum_infomask.models.loading import as_classifier

Named = namedtuple("Named", "logits aux")
FORMS = {
    "dict": lambda logits: {"loss": None, "logits": logits},
    "named tuple": lambda logits: Named(logits, logits.flip(1)),
    "object": lambda logits: SimpleNamespace(logits=logits, hidden=logits.flip(1)),
}
WINDOWS = {"sliding_window_shapes": (3, 6, 6), "strides": (3, 3, 3)}


class Network(nn.Module):
    """A network that returns its logits in one of the forms; None returns the tensor."""

    def __init__(self, form=None):
        super().__init__()
        self.form = form
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 6, 3, padding=1), nn.Linear(6, 4)
        self.rectify, self.clip = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        maps = nn.functional.avg_pool2d(self.rectify(self.norm(self.first(x))), 2)
        logits = 3 * self.last(self.clip(self.second(maps)).mean((2, 3)))
        return logits if self.form is None else FORMS[self.form](logits)


@pytest.fixture
def pair(form):
    """The network that returns a tensor, and the same that returns it in a form."""
    torch.manual_seed(1)
    plain = Network().eval()
    nn.init.normal_(plain.last.weight)
    named = copy.deepcopy(plain)
    named.form = form
    return plain, named


@pytest.fixture
def pictures():
    return torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def loader():
    generator = torch.Generator().manual_seed(5)
    for _ in range(2):
        yield (
            torch.rand(6, 3, 12, 12, generator=generator),
            torch.randint(4, (6,), generator=generator),
        )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        *({"view": view} for view in ("features", "evidence", "relay")),
        *({"view": view, **WINDOWS} for view in ("crop", "drop", "keep", "chain")),
        {"view": "drop", "engine": "incremental", **WINDOWS},
        {"view": "keep", "engine": "incremental", **WINDOWS},
        {"view": "drop", "engine": Batched(folded=True), **WINDOWS},
        {"view": "evidence", "layer": "second"},
    ],
    ids=str,
)
def test_every_view_and_engine(pair, pictures, options):
    plain, named = pair
    wanted = InfoMask(plain).score_regions(pictures, target=1, **options)
    with unchanged(named):
        found = InfoMask(named).score_regions(pictures, target=1, **options)
    assert found.engine == wanted.engine
    assert "fx" not in found.engine
    assert torch.equal(found.scores, wanted.scores)
    assert torch.equal(found.total, wanted.total)
    assert float(found.scores.abs().max()) > 0.01


@pytest.mark.parametrize("form", ["dict"])
def test_the_incremental_engine_and_the_copy_run(pair, pictures, monkeypatch):
    _, named = pair
    monkeypatch.setattr("captum_infomask.engines.batched.WORTH_A_COPY", 0)
    made = []
    monkeypatch.setattr(
        "captum_infomask.engines.batched.fast_copy",
        lambda *given: made.append(fast_copy(*given)) or made[-1],
    )
    infomask = InfoMask(named)
    for engine, name in (("incremental", "incremental"), (Batched(folded=True), "batched")):
        few = {"view": "drop", "engine": engine, "perturbations_per_eval": 2, **WINDOWS}
        assert infomask.score_regions(pictures, target=1, **few).engine == name
    assert len(made) == 1


def methods(network):
    """Methods of Captum, over the network itself."""
    return {
        "Saliency": Saliency(network),
        "Grad-CAM": LayerGradCam(network, network.second),
        "guided": GuidedGradCam(network, network.second),
        "DeepLift": DeepLift(network),
        "Occlusion": (Occlusion(network), {"sliding_window_shapes": (3, 4, 4), "strides": 4}),
        "noise": (NoiseTunnel(Saliency(network)), {"nt_samples": 3}),
        "function": lambda model, x, target: Saliency(model).attribute(x, target=target),
        "InfoMask": (InfoMask(network), {"view": "drop", **WINDOWS}),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("own", [True, False], ids=["given methods", "default methods"])
def test_compare(pair, pictures, own):
    plain, named = pair
    found, wanted = (
        compare(
            network,
            pictures[:1],
            methods=methods(network) if own else None,
            layer="first",
            metrics=["deletion", "infidelity"],
        )
        for network in (named, plain)
    )
    assert found.troubles == ()
    assert (found.predictions == wanted.predictions).all()
    for one, other in zip(found.outcomes, wanted.outcomes, strict=True):
        assert one.errors == ("",)
        assert (one.planes == other.planes).all()
        assert abs(one.planes).max() > 0
        for name, values in one.metrics.items():
            assert (values == other.metrics[name]).all()


@pytest.mark.parametrize("form", FORMS)
def test_grad_cams_default_layer(pair, pictures):
    found, wanted = (compare(one, pictures, methods=["Grad-CAM"], metrics=[]) for one in pair[::-1])
    assert found.outcomes[0].errors == ("", "")
    assert (found.outcomes[0].planes == wanted.outcomes[0].planes).all()


@pytest.mark.parametrize("form", FORMS)
def test_critics(pair, pictures):
    plain, named = pair
    assert fit_temperature(named, loader()).temperature == (
        fit_temperature(plain, loader()).temperature
    )
    found, wanted = (measure_bounds(network, loader()) for network in (named, plain))
    assert (found.lower, found.upper) == (wanted.lower, wanted.upper)
    of = {"of": "predictions", "classes": 4}
    priors = [estimate_prior(pictures, forward_func=network, **of) for network in (named, plain)]
    assert torch.equal(*priors)
    fitted = [
        fit_critic(network, [x for x, _ in loader()], window_shapes=[4], steps=3)
        for network in (named, plain)
    ]
    assert torch.equal(fitted[0](pictures), fitted[1](pictures))


@pytest.mark.parametrize("form", FORMS)
def test_runs_classifiers_and_randomisation(pair, pictures, tmp_path):
    plain, named = pair
    tables = []
    for name, network in (("named", named), ("plain", plain)):
        run = run_dataset(
            pictures, network, tmp_path / name, view="drop", workers=0, batch_size=2, **WINDOWS
        )
        tables.append(run.table.select(["scores", "total", "target"]))
    assert tables[0].equals(tables[1])
    assert len(as_classifier(named).categories) == 4
    alone = [
        log_probabilities(Classifier("tiny", network, tuple("abcd")), pictures[:1])
        for network in (named, plain)
    ]
    assert torch.equal(*alone)
    ways = {
        "saliency": lambda model, x, target: Saliency(model).attribute(x, target=target),
        "drop": lambda model, x, target: InfoMask(model).attribute(
            x, target=target, view="drop", **WINDOWS
        ),
    }
    checks = [
        randomisation_check(network, pictures[:1], 1, methods=given, layers=["last"])
        for network in (named, plain)
        for given in (ways, None)
    ]
    assert (checks[0].spearman == checks[2].spearman).all()
    assert (checks[1].spearman == checks[3].spearman).all()


@pytest.mark.parametrize("form", FORMS)
def test_captums_tools(pair, pictures):
    plain, named = pair
    options = {"target": 1, "view": "drop", **WINDOWS}
    found, wanted = [], []
    for results, network in ((found, named), (wanted, plain)):
        attribute = InfoMask(network).attribute
        maps = attribute(pictures, **options)
        torch.manual_seed(0)
        noisy = NoiseTunnel(InfoMask(network)).attribute(pictures, nt_samples=2, **options)
        torch.manual_seed(0)
        moved = sensitivity_max(attribute, pictures, n_perturb_samples=2, **options)
        torch.manual_seed(0)
        wrong = infidelity(
            lambda x, network=network: logits_of(network(x)),
            lambda x: (0.1 * torch.ones_like(x), x - 0.1),
            pictures,
            maps,
            target=1,
        )
        of_arrays = torch.from_numpy(infomask_explain_func(network, pictures.numpy(), [1, 1]))
        results += [maps, noisy, moved, wrong, of_arrays]
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)
        assert float(one.abs().max()) > 0


MAPS, ROW = torch.zeros(1, 4, 3, 3), torch.zeros(1, 4)


class Session:
    """What ONNX Runtime's session is: it runs, but is no function."""

    def get_inputs(self):
        return []

    def run(self, names, feed):
        return []


class Program:
    """What an exported program is: it can be called only to say that it cannot be called."""

    graph_signature = None

    def module(self):
        return Network()

    def __call__(self, x):
        raise RuntimeError


@pytest.mark.parametrize(
    ("given", "words"),
    [(Session(), ("Session", "session.run(None")), (Program(), ("Program", "program.module()"))],
)
def test_other_runtimes_are_told_what_to_pass(given, words):
    refused(("`forward_func`", *words), lambda: InfoMask(given))
    refused(("`model`", *words), lambda: compare(given, torch.zeros(1, 3, 8, 8)))


@pytest.mark.parametrize("shape", [(2, 3, 40), (2, 1, 4, 8, 8)])
def test_compare_says_where_signals_and_volumes_go(shape):
    refused(("`inputs`", "InfoMask(model)"), lambda: compare(Network(), torch.zeros(shape)))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (SimpleNamespace(logits=MAPS), ("(1, 4, 3, 3)", "adapters.area(", "x: model(x).logits")),
        ({"logits": MAPS}, ("adapters.area(", "adapters.detection(", "model(x)['logits']")),
        ({"logits": ROW[None]}, ("(1, 1, 4)", "adapters.detection(model, box, label)")),
        (
            {"logits": ROW[None], "pred_boxes": ROW[None]},
            ("dict with logits (1, 1, 4). captum_infomask.adapters.detection(",),
        ),
        ({"out": MAPS, "aux": MAPS}, ("got dict", "adapters.area(model, where)")),
        ([{"boxes": ROW, "scores": ROW}], ("got list", "adapters.detection(model, box, label)")),
        ({"logits_per_image": ROW}, ("adapters.zero_shot(model, processor, prompts)",)),
        (SimpleNamespace(pooler_output=ROW), ("adapters.gallery(model, embeddings)",)),
        ((ROW, ROW), ("got tuple", "lambda x: model(x)[0]")),
        ({"loss": None, "scores": ROW}, ("got dict", "lambda x: model(x)['scores']")),
        (SimpleNamespace(scores=ROW), ("got SimpleNamespace", "lambda x: model(x).scores")),
        ({"logits": None}, ("got dict.",)),
        (ROW.numpy(), ("torch.from_numpy",)),
        ([ROW.numpy()], ("got list", "torch.from_numpy(model(x)[0])")),
        ((ROW, None, torch.tensor(9.0)), ("got tuple", "adapters.zero_shot(model, processor,")),
        (None, ("NoneType", "return of its logits?")),
        (3.0, ("got float.",)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_anything_else_is_one_error_with_the_wrapper_to_write(output, words):
    x = torch.zeros(1, 3, 8, 8)

    class Odd(nn.Module):
        def forward(self, x):
            return output

    odd = Odd().eval()
    asked = "a tensor, or logits (N, M) under the name `logits`"
    alone = refused(("`forward_func`", asked, *words), lambda: read_logits(output))
    by_class = [
        lambda: InfoMask(odd).attribute(x, target=0),
        lambda: InfoMask(odd).attribute(x, target=0, view="drop"),
        lambda: compare(odd, x),
        lambda: as_classifier(odd),
        lambda: fit_temperature(odd, [(x, torch.tensor([0]))]),
        lambda: measure_bounds(odd, [(x, torch.tensor([0]))]),
    ]
    for call in by_class:
        error = refused((asked, *words), call)
        assert str(error).replace("`model`", "`forward_func`") == str(alone)


def test_tensors_are_what_they_were():
    assert logits_of(MAPS) is MAPS
    assert read_logits(MAPS) is MAPS
    assert logits_of(FORMS["named tuple"](ROW)) is ROW


@pytest.mark.slow
@pytest.mark.parametrize("view", [None, "drop", "evidence"])
def test_networks_of_transformers_need_no_wrapper(view):
    kind = huggingface_vit()
    options = {"target": 1, "view": view}
    if view == "drop":
        options |= {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8)}
    found = InfoMask(kind.model).attribute(kind.inputs, **options)
    wanted = InfoMask(lambda x: kind.model(x).logits).attribute(kind.inputs, **options)
    assert torch.equal(found, wanted)
    assert float(found.abs().max()) > 0


@pytest.mark.slow
def test_compare_takes_networks_of_transformers(tmp_path):
    kind = huggingface_vit()
    with unchanged(kind.model):
        found = compare(kind.model, kind.inputs[:1], metrics=["deletion", "infidelity"])
    failed = {one.name for one in found.outcomes if one.failed}
    assert failed == {"Grad-CAM"}  # a transformer has no last feature map
    names = {one.name for one in found.outcomes}
    assert {"Input x gradient", "Integrated gradients"} <= names
    options = {"view": "drop", "workers": 0, "batch_size": 2}
    run = run_dataset(kind.inputs, kind.model, tmp_path, **options)
    assert run.table["error"].null_count == 2
