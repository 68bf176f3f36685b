"""The view `features`, against pictures of regions alone and against literal means of the map."""

import math

import pytest
import reference
import torch
from features_networks import (
    NETWORKS,
    Convolutions,
    Deep,
    Pointwise,
    Pooling,
    Restless,
    region_features,
)
from refused import refused
from state import unchanged
from tiny import randomise
from torch import nn
from torch.nn import functional as F

from captum_infomask import (
    InfoMask,
    from_masks,
    grid,
    keep_dropout,
    sliding_windows,
    superpixels,
)
from captum_infomask.engines.pixels import unions
from captum_infomask.engines.pooled_features import after_pooling
from captum_infomask.models.two_digits import load_two_digit_network
from captum_infomask.regions.scales import Scales

PRIOR = [0.1, 0.2, 0.3, 0.15, 0.25]


def some_regions(images):
    """Boxes, superpixels, masks, two scales: 11 × 9 pixels, so that a map's cells cut them."""
    labels = superpixels(images, 5)
    masks = torch.rand(2, 3, 11, 9, generator=torch.Generator().manual_seed(1)) < 0.4
    return {
        "windows": sliding_windows(images, (3, 5, 4), (3, 3, 2)),
        "superpixels": labels,
        "masks": from_masks(images, masks),
        "scales": [grid(images, 2, 3), labels],
    }


def masks_of(regions, image):
    """Each region's pixels, (R, H, W)."""
    regions = Scales(tuple(regions)) if isinstance(regions, list) else regions
    (masks,) = unions(
        regions, image, torch.eye(len(regions), dtype=torch.bool), torch.device("cpu")
    )
    return masks[:, 0].expand(-1, *regions.shapes[0][1:])


def literal(net, image, y, regions, index, **score):
    """i(y; f_R) of every region of one image, by the map and the end that the network names."""
    f = net.features(image[None])[0].detach()
    return [
        reference.information(net.tail(region_features(f, mask)[None])[0].tolist(), y, **score)
        for mask in masks_of(regions, index)
    ]


@pytest.mark.parametrize("kind", ["windows", "superpixels", "masks", "scales"])
@pytest.mark.parametrize(
    "score",
    [
        {},
        {"prior": PRIOR, "temperature": 1.7, "unit": "nats"},
        {"prior": PRIOR, "trained_with": "pc_softmax"},
        {"head": "sigmoid"},
        {"head": "raw"},
    ],
    ids=str,
)
def test_every_kind_of_region_and_head_against_the_literal_mean(images, kind, score):
    net, regions = Pooling(), some_regions(images)[kind]
    infomap = InfoMask(net, **score).score_regions(
        images, target=[2, 0], view="features", regions=regions
    )
    assert (infomap.view, infomap.engine, infomap.blank) == ("features", "features", None)
    for image, y in enumerate((2, 0)):
        want = literal(net, images[image], y, regions, image, **score)
        assert infomap.scores[image].tolist() == pytest.approx(want, abs=1e-10)
        assert max(want) - min(want) > 0.05


@pytest.mark.parametrize("kind", ["windows", "superpixels", "masks"])
def test_a_region_alone_is_the_whole_picture_of_a_network_that_mixes_no_places(images, kind):
    net, regions = Pointwise(), some_regions(images)[kind]
    infomap = InfoMask(net).score_regions(images, target=3, view="features", regions=regions)
    for image in range(2):
        for score, mask in zip(infomap.scores[image], masks_of(regions, image), strict=True):
            alone = images[image][:, mask][None, :, None]
            assert alone.shape == (1, 3, 1, int(mask.sum()))
            want = reference.information(net(alone)[0].tolist(), 3)
            assert float(score) == pytest.approx(want, abs=1e-10)
    assert float(infomap.scores.std(1).min()) > 0.01


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_every_way_to_write_a_pooling(images, network):
    net, regions = network(), grid(images, 2, 3)
    with unchanged(net, images):
        infomap = InfoMask(net).score_regions(images, target=1, view="features", regions=regions)
    for image in range(2):
        want = literal(net, images[image], 1, regions, image)
        assert infomap.scores[image].tolist() == pytest.approx(want, abs=1e-10)
        total = reference.information(net(images)[image].tolist(), 1)
        assert float(infomap.total[image]) == pytest.approx(total, abs=1e-10)
        assert max(want) - min(want) > 1e-3


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_the_whole_picture_as_one_region_is_the_picture(images, network):
    infomap = InfoMask(network()).score_regions(
        images, target=[1, 4], view="features", regions=grid(images, 1, 1)
    )
    torch.testing.assert_close(infomap.scores[:, 0], infomap.total, rtol=0, atol=1e-12)
    assert float(infomap.total.diff().abs()) > 0.01


def test_of_a_linear_layer_the_logits_are_means_of_the_class_activation_map(images):
    net, regions = Pooling(), sliding_windows(images, (3, 5, 4), (3, 3, 2))
    maps = torch.einsum("kc,nchw->nkhw", net.last.weight, net.features(images)).detach()
    bias = net.last.bias.detach()
    critic = InfoMask(net, head="raw", unit="nats")
    scores = critic.score_regions(images, target=2, view="features", regions=regions).scores
    for image in range(2):
        for score, mask in zip(scores[image], masks_of(regions, image), strict=True):
            want = region_features(maps[image], mask)[2] + bias[2]
            assert float(score) == pytest.approx(float(want), abs=1e-10)


def test_the_parts_of_a_partition_make_the_whole_by_their_areas(images):
    labels = torch.randint(0, 4, (1, 1, 11, 9), generator=torch.Generator().manual_seed(2))
    infomap = InfoMask(Pooling(), head="raw", unit="nats").score_regions(
        images, target=2, view="features", feature_mask=labels
    )
    shares = torch.bincount(labels.flatten()).double() / labels.numel()
    torch.testing.assert_close(infomap.scores @ shares, infomap.total, rtol=0, atol=1e-12)
    assert float(infomap.scores.std(1).min()) > 0.01


@pytest.mark.parametrize("network", [Pooling, Deep])
def test_one_forward_pass_whatever_the_regions(images, network):
    infomask = InfoMask(network())
    for regions in (grid(images, 1, 1), grid(images, 11, 9)):
        with Convolutions() as run:
            infomask.attribute(images, target=1, view="features", regions=regions)
        assert run.pictures == [2]
    with Convolutions() as run:
        infomask.attribute(images, target=1, view="crop", regions=grid(images, 3, 3))
    assert sum(run.pictures) == 2 * 10


def test_images_of_a_batch_score_as_they_do_alone(images):
    first, second = torch.zeros(2, 1, 1, 11, 9, dtype=torch.long)
    first[..., :5, :] = 1
    second[..., 4:] = 7
    infomask = InfoMask(Pooling())
    call = {"target": 1, "view": "features"}
    both = infomask.score_regions(images, feature_mask=torch.cat([first, second]), **call)
    assert both.scores.isnan().tolist() == [[False, False, True], [False, True, False]]
    for image, labels in enumerate((first, second)):
        alone = infomask.attribute(images[image : image + 1], feature_mask=labels, **call)
        torch.testing.assert_close(both.attributions()[image : image + 1], alone)
    assert float(both.attributions().std()) > 0.01


@pytest.mark.parametrize("overlap", ["mean", "mixture", "max"])
def test_overlaps_chunks_and_classes(images, overlap):
    regions = sliding_windows(images, (3, 5, 4), (3, 3, 2))
    infomask, call = InfoMask(Pooling()), {"view": "features", "regions": regions}
    infomap = infomask.score_regions(images, target=[1, 3], overlap=overlap, **call)
    spots = reference.windows((3, 11, 9), (3, 5, 4), (3, 3, 2))
    want = reference.spread(infomap.scores[1].tolist(), spots, (3, 11, 9), overlap)
    torch.testing.assert_close(infomap.attributions()[1], torch.from_numpy(want))
    chunked = infomask.score_regions(images, target=[1, 3], perturbations_per_eval=1, **call)
    torch.testing.assert_close(chunked.scores, infomap.scores, rtol=0, atol=1e-12)
    classes = infomask.score_classes(images, classes=[0, 3], overlap=overlap, **call)
    torch.testing.assert_close(classes.scores[1, :, 1], infomap.scores[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_other_precisions(images, dtype):
    infomask = InfoMask(Pooling().to(dtype))
    regions = grid(images, 3, 3)
    got = infomask.score_regions(images.to(dtype), target=1, view="features", regions=regions)
    wide = InfoMask(Pooling()).score_regions(images, target=1, view="features", regions=regions)
    assert got.scores.dtype == torch.float32
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(got.scores.double(), wide.scores, rtol=0, atol=tolerance)
    assert float(wide.scores.std()) > 5 * tolerance


def test_the_two_digit_network_and_its_cells():
    """Of 28 × 56 pixels the map has 3 × 7 cells, whose borders cut pixels."""
    net = load_two_digit_network()
    x = torch.rand(1, 1, 28, 56, generator=torch.Generator().manual_seed(0))
    critic = InfoMask(net, head="raw", unit="nats")
    infomap = critic.score_regions(x, target=1, view="features", regions=grid(x, 4, 8))
    f = net.features(x)[0].detach()
    assert f.shape == (96, 3, 7)
    for score, mask in zip(infomap.scores[0], masks_of(infomap.regions, 0), strict=True):
        want = net.classify(region_features(f, mask)).tolist()[1]
        assert float(score) == pytest.approx(want, abs=1e-4)
    assert float(infomap.scores.std()) > 0.1


class Flat(Pooling):
    def forward(self, x):
        return F.adaptive_avg_pool2d(self.body(x), 2).flatten(1)[:, :5]


class Highest(Pooling):
    def forward(self, x):
        return self.last(self.body(x).amax((2, 3)))


class Beside(Pooling):
    def forward(self, x):
        return super().forward(x) + x.mean((1, 2, 3))[:, None]


class Branching(Pooling):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


class Otherwise(Pooling):
    """As a graph it gives what it does not give when it runs."""

    def forward(self, x):
        out = super().forward(x)
        return out.flip(1) if isinstance(out, torch.Tensor) else out


class Sized(Pooling):
    """Reads a size that pooled features do not have."""

    def forward(self, x):
        return self.last(self.body(x).mean((2, 3))) * x.shape[3]


class Parting(Pooling):
    def features(self, x):
        return torch.narrow(input=self.body(x), dim=2, start=0, length=3)


class Striding(Pooling):
    def features(self, x):
        return self.body(x)[..., ::2, ::2]


class Random(Pooling):
    def forward(self, x):
        return self.last(F.dropout(self.body(x).mean((2, 3)), 0.5, training=True))


def with_hook():
    net = Pooling()
    net.register_forward_hook(lambda module, inputs, output: output * 2)
    return net


def in_training():
    net = Pooling()
    net.body[1].train()
    return net


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Flat, "no global average pooling"),
        (Highest, "no global average pooling"),
        (Beside, "not made of its pooled features alone"),
        (Branching, "cannot trace it"),
        (with_hook, "hooks"),
        (in_training, "BatchNorm2d 'body.1' is in training mode"),
        (lambda: Pooling().forward, "no torch.nn.Module"),
    ],
)
def test_networks_that_have_no_such_features(images, make, words):
    model = make()
    with Convolutions() as run:
        refused(
            ("`forward_func`", "view='features'", words, "view='crop'"),
            lambda: InfoMask(model).attribute(images, target=1, view="features"),
        )
    assert run.pictures == []


def test_a_network_that_skips_places_has_such_features(images):
    ask = InfoMask(Striding()).score_regions
    whole = ask(images, target=1, view="features", regions=grid(images, 1, 1))
    torch.testing.assert_close(whole.scores[:, 0], whole.total, rtol=0, atol=1e-12)
    parts = ask(images, target=1, view="features", regions=grid(images, 2, 2))
    assert float(parts.scores.diff(dim=1).abs().min()) > 1e-4


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Otherwise, "not what its graph makes"),
        (Random, "not what its graph makes"),
        (Sized, "cannot run by itself"),
        (Parting, "pools a part of its features"),
    ],
)
def test_a_graph_that_does_not_give_the_networks_own_output(images, network, words):
    net = network()
    with unchanged(net, images):
        refused(
            ("`forward_func`", words),
            lambda: InfoMask(net).attribute(images, target=1, view="features"),
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"baselines": 0}, ("`baselines`", "view='features'")),
        ({"n_samples": 4}, ("`n_samples`", "got 4")),
        ({"reference": "blank"}, ("`reference` 'prior'", "'blank'")),
        ({"crop_size": (4, 4)}, ("`crop_size`", "view='features'")),
        ({"engine": "batched"}, ("`engine` 'auto'", "'batched'")),
        ({"additional_forward_args": (1,)}, ("`additional_forward_args`",)),
        (
            {"sliding_window_shapes": (1, 4, 4), "strides": (1, 4, 4)},
            ("regions over all channels",),
        ),
        (
            {"feature_mask": torch.arange(3).reshape(1, 3, 1, 1)},
            ("regions over all channels", "view='drop'"),
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_that_have_no_meaning_here(images, options, words):
    with Convolutions() as run:
        refused(
            words,
            lambda: InfoMask(Pooling()).attribute(images, target=1, view="features", **options),
        )
    assert run.pictures == []


def test_inputs_that_are_no_images(images):
    net = Pooling()
    for inputs in ((images, images), torch.rand(2, 5)):
        refused(
            ("`inputs`", "(N, C, H, W)", "view='features'"),
            lambda inputs=inputs: InfoMask(net).attribute(inputs, target=1, view="features"),
        )


def test_a_network_whose_dropout_is_kept_on(images):
    net = Pooling()
    with keep_dropout(net):
        refused(
            ("Dropout 'drop' is in training mode",),
            lambda: InfoMask(net).attribute(images, target=1, view="features"),
        )


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_network_is_left_as_it_was(images, error):
    class Failing(Restless):
        def forward(self, x):
            out = super().forward(x)
            if isinstance(x, torch.Tensor):
                raise error("interrupted")
            return out

    net = Failing()
    with unchanged(net, images), pytest.raises(error, match="interrupted"):
        InfoMask(net).attribute(images, target=1, view="features")


def test_the_random_state_outlasts_a_network_that_draws(images):
    class Drawing(Pooling):
        def forward(self, x):
            return super().forward(x + 1e-30 * torch.rand(1))

    net = Drawing()
    with unchanged(net, images):
        infomap = InfoMask(net).score_regions(
            images, target=1, view="features", regions=grid(images, 1, 1)
        )
    torch.testing.assert_close(infomap.scores[:, 0], infomap.total)


def test_tracing_leaves_nothing_in_the_network(images):
    """A pass keeps its input in `seen`; that of the tracer must not be found there."""
    net = Restless()
    after_pooling(net, images)
    assert net.seen is None
    assert float(net.count) == 0
    InfoMask(net).attribute(images, target=1, view="features")
    assert type(net.seen) is torch.Tensor


def test_rectangles_and_their_masks_have_the_same_weights(images, monkeypatch):
    regions = sliding_windows(images, (3, 5, 4), (3, 3, 2))
    call = {"target": 1, "view": "features", "regions": regions}
    by_corners = InfoMask(Pooling()).score_regions(images, **call).scores
    monkeypatch.setattr(type(regions), "rectangles", lambda self: None)
    by_pixels = InfoMask(Pooling()).score_regions(images, **call).scores
    torch.testing.assert_close(by_corners, by_pixels, rtol=0, atol=1e-12)
    assert float(by_corners.std()) > 0.01


def test_a_network_of_torchvision(images):
    from torchvision.models import resnet18

    net = randomise(resnet18(num_classes=4), 0.05).double()
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    infomap = InfoMask(net).score_regions(x, target=1, view="features", regions=grid(x, 2, 2))
    f = nn.Sequential(*list(net.children())[:-2])(x)
    want = (net.fc(f[0].flatten(1).T).log_softmax(1) / math.log(2) + 2)[:, 1]
    torch.testing.assert_close(infomap.scores[0], want.detach(), rtol=0, atol=1e-9)
    assert float(infomap.scores.std()) > 1e-6
