"""The view `evidence`, against integrals taken literally, Shapley values, and known truth."""

import itertools

import pytest
import reference
import torch
from captum.attr import IntegratedGradients
from features_networks import NETWORKS, Convolutions, Pooling
from hypothesis import given, settings, strategies as st
from refused import refused
from state import unchanged
from tiny import images, randomise
from tiny_vits import CLASS_TOKEN, POOLED, torchvision_network
from torch import nn
from torch.nn import functional as F
from torchvision.models.video import mvit

from captum_infomask import (
    Blur,
    HalfCrops,
    InfoMap,
    InfoMask,
    NormalNoise,
    from_masks,
    grid,
    keep_dropout,
    sliding_windows,
    superpixels,
)
from captum_infomask.datasets import CategoricalPatches, GaussianPatches, IndependentPatches
from captum_infomask.regions.map_cells import MapCells

PRIOR = [0.1, 0.2, 0.3, 0.15, 0.25]
SCORES = [
    {},
    {"prior": PRIOR, "temperature": 1.7, "unit": "nats"},
    {"prior": PRIOR, "trained_with": "pc_softmax"},
    {"head": "log_probs"},
    {"head": "probs", "prior": PRIOR},
    {"head": "sigmoid"},
    {"head": "raw"},
]


class TwoLayers(nn.Module):
    """A head that is not linear, and a map of 4 × 3 cells before it."""

    def __init__(self, end=None) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=3), nn.Tanh())
        self.mix = nn.Conv2d(6, 7, 3, padding=1)
        self.last = nn.Linear(7, 5)
        self.end = end
        randomise(self, 0.7).double()

    def tail(self, f):
        """What follows the first map."""
        out = self.last(F.softplus(self.mix(f)).mean((2, 3)))
        return out if self.end is None else self.end(out)

    def forward(self, x):
        return self.tail(self.body(x))


ENDS = {"log_probs": nn.LogSoftmax(1), "probs": nn.Softmax(1)}


def pictures(n=2):
    return images(n, 3, 12, 9).double()


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_every_cell_has_its_integral(score):
    """Taken literally, at 4,000 points, in float64."""
    net, x = TwoLayers(ENDS.get(score.get("head"))), pictures()
    found = InfoMask(net, **score).score_regions(x, target=[1, 4], view="evidence", layer="body")
    f = net.body(x).detach()
    for k, y in enumerate([1, 4]):
        wanted = reference.evidence(net.tail, f[k : k + 1], torch.zeros_like(f[:1]), y, **score)
        assert wanted.abs().max() > 0.05
        torch.testing.assert_close(found.scores[k], wanted.flatten(), rtol=0, atol=1e-6)
    gap = found.total - found.explained
    zero = net.tail(torch.zeros_like(f))
    start = [reference.information(zero[0].tolist(), y, **score) for y in (1, 4)]
    torch.testing.assert_close(gap.tolist(), start, rtol=0, atol=1e-6)
    assert found.residual.abs().max() < 1e-3


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(SCORES),
    st.tuples(st.integers(6, 14), st.integers(6, 14)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(0, 4),
)
def test_a_regions_value_is_the_integral_of_the_density(score, size, cut, y):
    """Regions that cut cells, and pixels that cells' borders cut; a partition sums to the total."""
    net = TwoLayers(ENDS.get(score.get("head")))
    x = images(1, 3, *size).double()
    given = {"target": y, "view": "evidence", "layer": "body"}
    infomask, regions = InfoMask(net, **score), grid(x, *cut)
    found = infomask.score_regions(x, **given, regions=regions)
    f = net.body(x).detach()
    cells = reference.evidence(net.tail, f, torch.zeros_like(f), y, **score)[0]
    literal = reference.density(cells, *size)
    wanted = [literal[a:b, c:d].sum() for a, c, b, d in regions.rectangles()[0].tolist()]
    torch.testing.assert_close(found.scores[0], torch.stack(wanted), rtol=0, atol=1e-6)
    painted = infomask.attribute(x, **given)
    torch.testing.assert_close(painted[0, 1], literal, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.scores.sum(1), found.explained - found.residual)


@pytest.mark.parametrize("y", range(4))
def test_shapley_values_are_near_for_few_cells(y):
    """Within the bound that docs/evidence.md states, and far nearer to them than to the others."""
    patches = IndependentPatches(GaussianPatches.random(classes=4, seed=3), rows=2, columns=2)
    x, _ = patches.draw(1, seed=y)
    found = InfoMask(patches.network()).score_regions(x.double(), target=y, view="evidence")
    logits = patches.network().log_likelihoods(x.double())[0]
    exact, bound = reference.shapley(logits, y), reference.shapley_bound(logits)
    assert bool(((found.scores[0] - exact).abs() <= bound).all())
    torch.testing.assert_close(found.scores.sum(), exact.sum(), rtol=0, atol=1e-3)
    assert (found.scores[0] - exact).abs().max() < 0.3 * exact.abs().max()


@pytest.mark.parametrize("family", [GaussianPatches, CategoricalPatches])
def test_known_truth_is_near(family):
    """Bits of evidence against the chain rule's closed form, whose orders are random too."""
    truth = IndependentPatches(family.random(classes=5, seed=1), rows=3, columns=3)
    x, y = truth.draw(20, seed=2, dtype=torch.float64)
    found = InfoMask(truth.network()).score_regions(x, target=y, view="evidence")
    exact = truth.information(x, y, "chain")
    torch.testing.assert_close(found.scores.sum(1), exact.sum(1), rtol=0, atol=1e-3)
    off = (found.scores - exact).abs()
    assert off.mean() < 0.25 * exact.abs().mean()


@pytest.mark.parametrize("make", NETWORKS, ids=lambda one: one.__name__)
def test_the_last_map_is_found_however_a_network_is_written(make):
    net, x = make(), pictures()
    with unchanged(net, x):
        found = InfoMask(net).score_regions(x, target=2, view="evidence")
    torch.testing.assert_close(found.scores.sum(1), found.explained - found.residual)
    f = net.features(x).detach()
    if "LayerNorm" in str(net):
        blank = net.features(torch.zeros_like(x[:1])).detach()
        start = blank.expand_as(f)
    else:
        start = torch.zeros_like(f)
    for k in range(2):
        wanted = reference.evidence(
            lambda at: net.tail(at.mean((2, 3))), f[k : k + 1], start[k : k + 1], 2
        )
        assert wanted.abs().max() > 0.01
        torch.testing.assert_close(found.scores[k], wanted.flatten(), rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore:All outputs lie")  # as an untrained network's may
@pytest.mark.parametrize("name", [*CLASS_TOKEN, *POOLED])
def test_transformers_read_what_their_second_block_reads(name):
    """Every token has a place; the path starts at the blank picture's tokens."""
    net = {**CLASS_TOKEN, **POOLED}[name]()
    x = images(2, 3, 32, 32).double()
    with unchanged(net, x):
        found = InfoMask(net).score_regions(x, target=[1, 3], view="evidence")
    assert isinstance(found.regions, MapCells)
    assert found.regions.grid == ((4, 8) if "oblong" in name else (4, 4))
    assert found.scores.abs().max() > 1e-3
    torch.testing.assert_close(found.scores.sum(1), found.explained - found.residual)
    if name != "timm: largest":  # whose gradient jumps
        assert found.residual.abs().max() < 1e-3


@pytest.mark.parametrize(("blocks", "read"), [(3, 1), (2, 1), (1, 0)])
def test_a_tokens_value_is_its_integral(blocks, read):
    """The second block's input of a network of torchvision's; the class token stays as it is.

    After the only block, the class token alone is read: the map is the input of this block.
    """
    net, x = torchvision_network(num_layers=blocks), images(1, 3, 32, 32).double()
    found = InfoMask(net).score_regions(x, target=2, view="evidence")
    tokens, blank = (before_block(net, one, read) for one in (x, torch.zeros_like(x)))
    start = torch.cat([tokens[:, :1], blank[:, 1:]], 1)

    def tail(at):
        out = net.encoder.layers[read:](at[:, 0].transpose(1, 2))
        return net.heads(net.encoder.ln(out)[:, 0])

    as_maps = [one.transpose(1, 2)[:, None].permute(0, 2, 1, 3) for one in (tokens, start)]
    wanted = reference.evidence(lambda at: tail(at.permute(0, 2, 1, 3)), *as_maps, 2)
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(found.scores[0], wanted.flatten()[1:], rtol=0, atol=1e-6)


def before_block(net, x, number):
    tokens = net._process_input(x)
    tokens = torch.cat([net.class_token.expand(len(x), -1, -1), tokens], 1)
    return net.encoder.layers[:number](tokens + net.encoder.pos_embedding).detach()


def test_one_block_of_fewer_tokens_is_not_the_last_word():
    """Pooling in the last block leaves 9 places, and then only the class token is read."""
    net = randomise(pooling_network().double(), 0.2)
    x = torch.rand(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    found = InfoMask(net).score_regions(x, target=2, view="evidence")
    assert found.regions.grid == (2, 8, 8)
    assert found.scores.abs().max() > 1e-4
    torch.testing.assert_close(found.scores.sum(1), found.explained, rtol=0, atol=1e-4)


def pooling_network():
    """A network of torchvision's for video whose last stage is a single block."""
    return mvit.MViT(
        spatial_size=(32, 32),
        temporal_size=4,
        block_setting=[
            mvit.MSBlockConfig(1, 8, 16, [3, 3, 3], [1, 2, 2], [1, 1, 1], [1, 1, 1]),
            mvit.MSBlockConfig(2, 16, 16, [3, 3, 3], [1, 2, 2], [3, 3, 3], [1, 2, 2]),
        ],
        residual_pool=True,
        residual_with_cls_embed=False,
        rel_pos_embed=True,
        proj_after_attn=True,
        num_classes=5,
    )


class TokenBlock(nn.Module):
    """A transformer's block."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x):
        normed = self.first(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.second(x))


class TokensOfPlaces(nn.Module):
    """A transformer on patches of signals, pictures or volumes."""

    def __init__(self, places):
        super().__init__()
        self.patches = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[places - 1](2, 8, 4, 4)
        self.blocks = nn.Sequential(TokenBlock(), TokenBlock(), TokenBlock())
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize("places", [1, 2, 3])
def test_transformers_of_signals_and_volumes_read_their_first_tokens(places):
    """The last tokens know of all others, so they would say too little of their own places."""
    net = randomise(TokensOfPlaces(places)).double()
    x = torch.rand(1, 2, *(16, 8, 12)[:places]).double()
    infomask = InfoMask(net)
    for view, layer in (("evidence", net.blocks[0]), ("relay", net.patches)):
        found = infomask.score_regions(x, target=1, view=view, sharpen=None)
        wanted, late = (
            infomask.score_regions(x, target=1, view=view, layer=one, sharpen=None)
            for one in (layer, net.blocks[2])
        )
        assert found.regions.grid == (4, 2, 3)[:places]
        torch.testing.assert_close(found.attributions(), wanted.attributions())
        assert not torch.allclose(found.attributions(), late.attributions(), rtol=0.05)


@pytest.mark.parametrize("places", [1, 3])
def test_signals_and_volumes(places):
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[places]
    pool = {1: nn.AdaptiveAvgPool1d, 3: nn.AdaptiveAvgPool3d}[places]
    layers = [conv(2, 4, 3, stride=2), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 3)]
    net = randomise(nn.Sequential(*layers)).double()
    x = torch.rand(2, 2, *(9, 7, 5)[:places]).double()
    found = InfoMask(net).score_regions(x, target=1, view="evidence")
    painted = found.attributions()
    assert found.regions.grid == (4, 3, 2)[:places]
    assert painted.shape == x.shape
    torch.testing.assert_close(painted[:, 0].flatten(1).sum(1), found.explained)
    assert found.scores.abs().max() > 0.01


def test_channels_last_maps_are_read_as_such():
    class Last(Pooling):
        def forward(self, x):
            return self.last(self.body(x).permute(0, 2, 3, 1).mean((1, 2)))

    first, last = Pooling(), Last()
    last.load_state_dict(first.state_dict())
    x = pictures()
    one, other = (
        InfoMask(net).score_regions(x, target=1, view="evidence") for net in (first, last)
    )
    assert one.regions.grid == other.regions.grid == (6, 5)
    torch.testing.assert_close(one.scores, other.scores)


def test_layers_by_module_by_name_and_several():
    net, x = TwoLayers(), pictures()
    infomask = InfoMask(net)

    def ask(layer):
        return infomask.score_regions(x, target=3, view="evidence", layer=layer)

    with unchanged(net, x):
        named, given, mixed = ask("body"), ask(net.body), ask(["body", net.mix])
    assert torch.equal(named.scores, given.scores)
    later = ask("mix")
    assert not torch.allclose(later.scores, named.scores, atol=1e-2)
    torch.testing.assert_close(mixed.scores, torch.cat([named.scores, later.scores], 1))
    mean = (named.attributions() + later.attributions()) / 2
    torch.testing.assert_close(mixed.attributions(), mean)
    torch.testing.assert_close(mixed.explained, (named.explained + later.explained) / 2)
    by_function = InfoMask(lambda x: 1 * net(x)).score_regions(
        x, target=3, view="evidence", layer=net.body
    )
    torch.testing.assert_close(by_function.scores, named.scores)


def test_a_layer_whose_output_is_written_to():
    """The features are those that the layer returned, before the activation in place."""
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = randomise(nn.Sequential(*layers, nn.Linear(4, 5))).double()
    x = pictures(1)
    found = InfoMask(net).score_regions(x, target=2, view="evidence", layer="0")
    f = net[0](x).detach()
    assert f.min() < -0.1
    wanted = reference.evidence(lambda at: net[4](at.relu().mean((2, 3))), f, 0 * f, 2)
    torch.testing.assert_close(found.scores[0], wanted.flatten(), rtol=0, atol=1e-6)


def test_a_layer_that_returns_no_tensor_is_refused():
    class Two(Pooling):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            return self.last(self.pair(self.body(x))[0].mean((2, 3)))

    refused(
        ("returns", "layer="),
        lambda: InfoMask(Two()).attribute(pictures(1), target=1, view="evidence", layer="pair"),
    )


class Pair(nn.Module):
    """Returns its input twice."""

    def forward(self, x):
        return x, x


def test_where_the_path_starts():
    """At zero; at the features of `baselines`; at those of zeros where a norm hides the scale."""
    net, x = TwoLayers(), pictures()
    f, grey = net.body(x).detach(), net.body(torch.full_like(x, 0.5)).detach()
    told = InfoMask(net).score_regions(x, 0.5, 2, view="evidence", layer="body")
    blurred = InfoMask(net).score_regions(
        x, target=2, view="evidence", layer="body", imputer=Blur()
    )
    wanted = reference.evidence(net.tail, f[:1], grey[:1], 2)
    torch.testing.assert_close(told.scores[0], wanted.flatten(), rtol=0, atol=1e-6)
    assert not torch.allclose(told.scores, blurred.scores, atol=1e-3)
    per_picture = torch.stack([torch.zeros_like(x[0]), torch.ones_like(x[0])])
    found = InfoMask(net).score_regions(x, per_picture, 2, view="evidence", layer="body")
    ones = net.body(torch.ones_like(x)).detach()
    wanted = reference.evidence(net.tail, f[1:], ones[1:], 2)
    torch.testing.assert_close(found.scores[1], wanted.flatten(), rtol=0, atol=1e-6)


def test_sizes_are_averaged_as_densities():
    net, x = Pooling(), images(2, 3, 16, 12).double()
    infomask = InfoMask(net)

    def ask(sizes):
        return infomask.score_regions(x, target=1, view="evidence", input_sizes=sizes)

    alone = [ask([size]) for size in (None, 24, (32, 24))]
    together = ask([None, 24, (32, 24)])
    mean = sum(one.attributions() for one in alone) / 3
    assert mean.abs().max() > 1e-3
    torch.testing.assert_close(together.attributions(), mean)
    torch.testing.assert_close(together.explained, sum(one.explained for one in alone) / 3)
    assert [len(one.regions) for one in together.scales()] == [48, 144, 192]
    assert together.views == 6
    resized = F.interpolate(x, (24, 24), mode="bilinear", antialias=True)
    own = infomask.score_regions(resized, target=1, view="evidence")
    torch.testing.assert_close(alone[1].scores, own.scores)
    for one in (*alone, together):
        summed = one.attributions()[:, 0].flatten(1).sum(1)
        torch.testing.assert_close(summed, one.explained - one.residual)


def test_half_crops_are_strictly_local():
    """Nine crops, each read alone; the mean of their densities, for equal shares of the picture."""
    net, x = Pooling(), images(1, 3, 16, 12).double()
    given = {"target": 1, "view": "evidence"}
    found = InfoMask(net).score_regions(x, **given, input_sizes=[HalfCrops()])
    canvas, cover = torch.zeros(16, 12).double(), torch.zeros(16, 12)
    for top, left in itertools.product((0, 4, 8), (0, 3, 6)):
        crop = x[:, :, top : top + 8, left : left + 6]
        density = InfoMask(net).attribute(crop, **given)[0, 0]
        canvas[top : top + 8, left : left + 6] += density / 4
        cover[top : top + 8, left : left + 6] += 1
    assert canvas.abs().max() > 1e-3
    torch.testing.assert_close(found.attributions()[0, 0], canvas / cover)
    moved = x.clone()
    moved[:, :, 8:, 6:] = 0
    again = InfoMask(net).score_regions(moved, **given, input_sizes=[HalfCrops()])
    torch.testing.assert_close(
        again.attributions()[..., :4, :3], found.attributions()[..., :4, :3], rtol=0, atol=0
    )


def test_classes_share_the_pass():
    net, x = TwoLayers(), pictures()
    infomask = InfoMask(net, prior=PRIOR)
    with Convolutions() as passes:
        maps = infomask.score_classes(x, view="evidence", layer="body")
    assert passes.pictures.count(2) == 1
    for y in range(5):
        alone = infomask.score_regions(x, target=y, view="evidence", layer="body")
        for name in ("scores", "total", "explained", "residual"):
            own = getattr(maps.of_class(y), name)
            torch.testing.assert_close(own, getattr(alone, name), rtol=0, atol=1e-6)
    assert maps.class_map().shape == x.shape


def test_one_pass_of_the_network_and_no_more():
    net, x = Pooling(), pictures()
    with Convolutions() as passes:
        found = InfoMask(net).score_regions(x, target=1, view="evidence")
    assert passes.pictures == [2]
    assert found.views == 2


def test_pictures_in_chunks_and_alone():
    net, x = TwoLayers(), pictures(5)
    given = {"view": "evidence", "layer": "body", "target": [0, 1, 2, 3, 4]}
    together = InfoMask(net).score_regions(x, **given)
    chunks = InfoMask(net).score_regions(x, **given, perturbations_per_eval=1)
    for k in range(5):
        alone = InfoMask(net).score_regions(x[k : k + 1], **{**given, "target": k})
        for one in (together, chunks):
            torch.testing.assert_close(one.scores[k], alone.scores[0], rtol=0, atol=1e-6)


def test_masks_boxes_files_and_regions_of_every_kind(tmp_path):
    net, x = Pooling(), images(2, 3, 16, 12).double()
    given = {"target": 1, "view": "evidence"}
    found = InfoMask(net).score_regions(x, **given, input_sizes=[None, HalfCrops(12)])
    found.save(tmp_path / "map")
    again = InfoMap.load(tmp_path / "map")
    assert torch.equal(again.attributions(), found.attributions())
    assert torch.equal(again.explained, found.explained)
    assert torch.equal(again.residual, found.residual)
    assert again.mask().shape == x.shape
    assert len(again.boxes()) == 2
    density = InfoMask(net).attribute(x, **given)[:, 0]
    masks = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(1)) < 0.4
    kinds = {
        "windows": sliding_windows(x, (3, 5, 4), (3, 3, 2)),
        "superpixels": superpixels(x, 5),
        "masks": from_masks(x, masks),
    }
    for regions in kinds.values():
        own = InfoMask(net).score_regions(x, **given, regions=regions)
        for image, region in itertools.product(range(2), range(len(regions))):
            if regions.present(2)[image, region]:
                (mask,) = regions.masks(
                    torch.tensor([image]), torch.tensor([region]), torch.device("cpu")
                )
                wanted = density[image][mask[0, 0].expand(16, 12)].sum()
                torch.testing.assert_close(own.scores[image, region], wanted)
            else:
                assert own.scores[image, region].isnan()


def test_dropout_that_is_on_and_inference_mode():
    net, x = Pooling(), pictures()
    wanted = InfoMask(net).attribute(x, target=1, view="evidence")
    with torch.inference_mode():
        found = InfoMask(net).attribute(x, target=1, view="evidence")
    assert torch.equal(found, wanted)
    with keep_dropout(net), unchanged(net, x), pytest.warns(UserWarning, match="dropout"):
        refused(
            ("draws random numbers", "eval()"),
            lambda: InfoMask(net).attribute(x, target=1, view="evidence"),
        )


REFUSED = {
    "an engine": ({"engine": "batched"}, ("`engine`", "'auto'", "evidence")),
    "samples": ({"n_samples": 4}, ("`n_samples`", "evidence")),
    "a reference": ({"reference": "blank"}, ("`reference`", "evidence")),
    "a mixture": ({"overlap": "mixture"}, ("`overlap`", "'mean'", "'mixture'")),
    "a layer of another network": ({"layer": nn.Linear(2, 2)}, ("`layer`", "Linear")),
    "a name that is none": ({"layer": "bodi"}, ("`layer`", "'bodi'", "body")),
    "a layer's number": ({"layer": 3}, ("`layer`", "3")),
    "no layers": ({"layer": []}, ("`layer`",)),
    "a layer that is no map": ({"layer": "last"}, ("(1, 5)", "no feature map")),
    "sizes that are none": ({"input_sizes": 224}, ("`input_sizes`", "list", "224")),
    "a side of 0": ({"input_sizes": [0]}, ("`input_sizes`", "0")),
    "a size of three": ({"input_sizes": [(3, 8, 8)]}, ("`input_sizes`", "(3, 8, 8)")),
    "a random imputer": ({"imputer": "draws"}, ("`imputer`", "fixed")),
    "a crop size": ({"crop_size": (4, 4)}, ("`crop_size`", "crop")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_evidence_does_not_take_is_refused_by_name(name):
    options, words = REFUSED[name]
    if options.get("imputer") == "draws":
        options = {"imputer": NormalNoise()}
    infomask = InfoMask(TwoLayers())
    refused(words, lambda: infomask.attribute(pictures(1), target=1, view="evidence", **options))


def test_layers_and_sizes_are_for_evidence_alone():
    infomask = InfoMask(TwoLayers())
    for options in ({"layer": "body"}, {"input_sizes": [24]}):
        refused(
            ("evidence", "'drop'", next(iter(options))),
            lambda options=options: infomask.attribute(
                pictures(1), target=1, view="drop", **options
            ),
        )


@pytest.mark.parametrize("view", ["evidence", "relay"])
def test_a_network_that_cuts_its_pictures_has_their_pixels(view):
    """Cells of a part would be painted over the whole."""

    class Cutting(Pooling):
        def forward(self, x):
            return super().forward((x - 0.5)[..., 2:8, 1:7])

    x = pictures()
    found = InfoMask(Cutting()).score_regions(x, target=[1, 4], view=view)
    assert found.regions.grid == x.shape[2:]
    of_pixels = found.scores.unflatten(1, x.shape[2:])
    assert of_pixels[:, 2:8, 1:7].abs().max() > 1e-3
    of_pixels[:, 2:8, 1:7] = 0
    assert of_pixels.abs().max() == 0
    assert found.residual.abs().max() < (1e-5 if view == "relay" else 1e-2)  # along kinks of ReLU
    refused(
        ("`forward_func`", "a part of its pictures", "view='drop'"),
        lambda: InfoMask(Cutting()).attribute(x, target=1, view=view, layer="body"),
    )


class Parting(Pooling):
    """Pools a part of its features."""

    def __init__(self, part, axes=(2, 3)):
        super().__init__()
        self.part, self.axes, self.named = part, axes, nn.Identity()

    def forward(self, x):
        return self.last(self.named(self.part(self.features(x))).mean(self.axes))


PARTS = {
    "slices": Parting(lambda f: f[..., :3, 1:4]),
    "narrow": Parting(lambda f: f.narrow(2, 0, 3).narrow(3, 1, 3)),
    "by name": Parting(lambda f: torch.narrow(input=f, dim=2, start=0, length=3)[..., 1:4]),
    "channels last": Parting(lambda f: f.permute(0, 2, 3, 1)[:, :3, 1:4], axes=(1, 2)),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_network_that_cuts_its_features_has_the_map_before_the_cut(name):
    """Cells of a part would be painted over the whole."""
    net, x = PARTS[name], pictures()
    found = InfoMask(net).score_regions(x, target=[1, 4], view="evidence")
    assert found.regions.grid == (6, 5)
    cells = found.scores.unflatten(1, (6, 5))
    assert cells[:, :3, 1:4].abs().min() > 1e-4
    assert cells[:, 3:].abs().max() == cells[..., 0].abs().max() == cells[..., 4].abs().max() == 0
    named = InfoMask(net).score_regions(x, target=[1, 4], view="evidence", layer="body")
    torch.testing.assert_close(found.scores, named.scores)
    for view in ("evidence", "relay"):
        refused(
            ("a part of its pictures or features", "layer"),
            lambda view=view: InfoMask(net).attribute(x, target=1, view=view, layer="named"),
        )
    relayed = InfoMask(net).score_regions(x, target=[1, 4], view="relay")
    assert relayed.residual.abs().max() < 1e-5
    density = relayed.attributions()
    assert density[..., :9, :].abs().max() > 1e-3
    assert density[..., 9:, :].abs().max() == 0


def test_strides_borders_and_channels_cut_no_features():
    x = pictures()
    for part, grid_ in (
        (lambda f: f[..., ::2, ::2], (3, 3)),
        (lambda f: f[..., 1:, :], (5, 5)),
        (lambda f: torch.cat([f[:, :3], f[:, 3:]], dim=1), (6, 5)),
    ):
        found = InfoMask(Parting(part)).score_regions(x, target=1, view="evidence")
        assert found.regions.grid == grid_


@pytest.mark.parametrize("view", ["evidence", "relay"])
def test_networks_without_maps_have_their_pixels(view):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(108 * 3, 5))
    deep = nn.Sequential(nn.Flatten(), nn.Linear(108 * 3, 9), nn.Softplus(), nn.Linear(9, 5))
    x = pictures(2)
    blank = 0.2 * torch.rand_like(x)
    for net in (*(randomise(one, 0.2).double() for one in (linear, deep)), averages):
        found = InfoMask(net).score_regions(x, blank, [1, 4], view=view)
        assert found.regions.grid == x.shape[2:]
        wanted = InfoMask(net).score_regions(x, target=[1, 4], view="drop").total
        wanted = wanted - InfoMask(net).score_regions(blank, target=[1, 4], view="drop").total
        torch.testing.assert_close(found.explained, wanted, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.scores.sum(1), wanted, rtol=0, atol=1e-5)
        assert wanted.abs().min() > 1e-3
        raw = InfoMask(net, head="raw", unit="nats").score_regions(x, blank, [1, 4], view=view)
        own = IntegratedGradients(net).attribute(x, blank, target=[1, 4], n_steps=200)
        if net is not deep:  # of which all steps are affine
            torch.testing.assert_close(raw.scores, own.sum(1).flatten(1), rtol=0, atol=1e-6)


def averages(x):
    return 9 * x.mean((2, 3)).repeat(1, 2)[:, :5] - 4


def test_networks_whose_steps_are_unseen_are_told_what_to_pass():
    flat = randomise(nn.Sequential(nn.Flatten(), nn.Linear(108 * 3, 5))).double()
    unseen = lambda x: torch.from_numpy(averages(x).detach().numpy().copy())  # noqa: E731
    refused(
        ("feature map", "layer=", "view='drop'"),
        lambda: InfoMask(unseen).attribute(pictures(1), target=1, view="evidence"),
    )
    refused(
        ("(N, C, ...)", "view='drop'"),
        lambda: InfoMask(flat).attribute(torch.rand(1, 9).double(), target=1, view="evidence"),
    )
    refused(("`size`",), lambda: HalfCrops("large"))
    refused(
        ("layer", "module"),
        lambda: InfoMask(flat.forward).attribute(pictures(1), target=1, view="evidence", layer="0"),
    )
