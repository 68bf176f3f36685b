"""compare() with classes that count as one: every method is asked about the same group."""

import math

import pytest
import reference
import torch
from captum.attr import LayerAttribution, LayerGradCam, Occlusion, Saliency
from refused import refused
from tiny import Net, images

from captum_infomask import InfoMask, Score, compare, default_methods, grid
from captum_infomask.evaluation.metric_adapters import _as_logits

GROUPS = [[4, 0], [2]]
WINDOWS = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4)}


def plane(attributions):
    return attributions.detach().mean(1)[0].float().numpy()


def merged(net):
    return lambda x: torch.logsumexp(net(x)[:, [4, 0]], 1, keepdim=True)


def test_methods_metrics_and_numbers_count_groups():
    net, x = Net(), images(1)

    def input_times_gradient(model, inputs, target):
        with torch.enable_grad():
            inputs.requires_grad_()
            (gradient,) = torch.autograd.grad(model(inputs)[:, target].sum(), inputs)
        return (inputs * gradient).detach()

    found = compare(
        net, x, 0, groups=GROUPS, categories=["both", "two"], metrics=["deletion"],
        methods={
            **default_methods(net, x, groups=GROUPS, **WINDOWS),
            "theirs": Saliency(net),
            "function": input_times_gradient,
            "told": (
                InfoMask(net, groups=GROUPS), {"view": "drop", "contrast": "runner_up", **WINDOWS}
            ),
        },
    )  # fmt: skip
    assert [outcome.error for outcome in found.outcomes] == [""] * 9
    of_group = reference.group_information(net(x)[0].tolist(), [4, 0])
    assert float(found.information[0]) == pytest.approx(of_group, abs=1e-5)
    assert float(found.bounds[0]) == pytest.approx(-math.log2(2 / 5))
    assert (found.labels, found.classes) == (("both",), 2)

    own = InfoMask(net, groups=GROUPS)
    one = merged(net)
    log_p = lambda x: net(x).log_softmax(1)[:, [4, 0]].logsumexp(1, keepdim=True)  # noqa: E731
    grad_cam = LayerGradCam(one, net.norm).attribute(x, 0, relu_attributions=True)
    want = {
        "InfoMask": own.attribute(x, target=0),
        "InfoMask drop": own.attribute(x, target=0, view="drop", **WINDOWS),
        "Grad-CAM": LayerAttribution.interpolate(grad_cam, (8, 8), "bilinear"),
        "Occlusion": Occlusion(log_p).attribute(x, (3, 4, 4), strides=(3, 4, 4), target=0),
        "theirs": Saliency(one).attribute(x.clone().requires_grad_(), 0),
        "function": input_times_gradient(one, x.clone(), 0),
        "told": own.attribute(x, target=0, contrast=1, view="drop", **WINDOWS),
    }
    for name, attributions in want.items():
        torch.testing.assert_close(
            torch.from_numpy(found[name].planes[0]),
            torch.from_numpy(plane(attributions)),
            rtol=1e-4,
            atol=1e-5,
            msg=lambda words, name=name: f"{name}: {words}",
        )
        assert float(attributions.detach().abs().max()) > 1e-3, name
    assert found["told"].meaning == "what only a region says, against another class"
    assert found["told"].infomaps[0].contrast.tolist() == [[0, 1]]
    p = float(log_p(x).detach().exp())
    assert float(found["InfoMask"].curves["deletion"][0][0]) == pytest.approx(p, abs=1e-5)


def test_the_networks_answer_is_the_likeliest_group():
    net, x = Net(), images(3)
    found = compare(net, x, groups=GROUPS, methods=["InfoMask"], metrics=[])
    p = net(x).softmax(1)
    likely = torch.stack([p[:, 4] + p[:, 0], p[:, 2]], 1).argmax(1).tolist()
    assert found.targets.tolist() == likely
    assert "groups=[[4, 0], [2]]" in found.call


def test_other_packages_metrics_see_what_is_in_no_group():
    score = Score(groups=GROUPS)
    output = torch.randn(2, 5, dtype=torch.float64)
    p = output.softmax(1)
    want = torch.stack([p[:, 4] + p[:, 0], p[:, 2], p[:, 1] + p[:, 3]], 1)
    torch.testing.assert_close(_as_logits(score, output).softmax(1), want)


def test_what_does_not_fit_is_refused():
    net, x = Net(), images(1)
    mine = {"mine": (InfoMask(net), {"regions": grid(x, 2, 2)})}
    refused(
        ("`methods`['mine']", "`groups`"), lambda: compare(net, x, 0, groups=GROUPS, methods=mine)
    )
    refused(("`target`", "2 `groups`", "got 2"), lambda: compare(net, x, 2, groups=GROUPS))
    refused(("`groups`", "0 to 4", "got 5"), lambda: compare(net, x, 0, groups=[[5]]))
    refused(
        ("`categories`", "2 names"),
        lambda: compare(net, x, 0, groups=GROUPS, categories=["a"] * 5, methods=["InfoMask"]),
    )
