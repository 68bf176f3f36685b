# Vision transformers by their tokens, against whole blocks run view by view and masked attention.
import itertools
import math

import pytest
import torch
from reference import information
from state import unchanged
from tiny_vits import (
    CLASS_TOKEN,
    NETWORKS,
    POOLED,
    literal,
    masked,
    timm_network,
    torchvision_network,
)
from torch import nn

from captum_infomask import (
    Constant,
    InfoMask,
    RemoveTokens,
    Tokens,
    from_feature_mask,
    grid,
    sliding_windows,
)
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.tokens import tokens_engine
from captum_infomask.engines.tokens.transformers import TorchvisionTransformer
from captum_infomask.views.chain import Chain
from captum_infomask.views.region_views import Drop, Keep
from captum_infomask.views.view_plan import Scene, ViewPlan, all_imputed

EXACT = {"rtol": 0, "atol": 1e-10}
VIEWS = {"keep": Keep(), "drop": Drop(), "chain": Chain(4, 0)}
MAKES = [(torchvision_network, "encoder.layers"), (timm_network, "blocks")]


@pytest.fixture
def x():
    return torch.randn(2, 3, 32, 32, dtype=torch.float64)


def removing(x, regions):
    """A scene in which patches are removed."""
    return Scene((x,), regions, RemoveTokens().prepare((x,)))


def patches_of(regions, height, width):
    """The numbers of the patches in each window."""
    return [
        {y // height * (32 // width) + z // width for y in range(*rows) for z in range(*columns)}
        for _, rows, columns in regions.boxes[0].tolist()
    ]


def shown(plan, row, cells):
    """The patches that a view shows, of the patches that each of its regions is made of."""
    everything = set().union(*cells)
    if plan.hidden == "everything":
        return []
    region = int(plan.regions[row])
    if plan.hidden == "rest":
        return sorted(cells[region])
    if plan.hidden == "region":
        return sorted(everything - cells[region])
    ranks = plan.orders.ranks[plan.images[row], plan.orders.of_views[row]].tolist()
    return sorted(set().union(*(cells[r] for r, rank in enumerate(ranks) if rank <= ranks[region])))


def outputs(network, plan, **call):
    """The engine's output for every view of a plan, each of which it gives once."""
    found = {}
    with torch.no_grad():
        for rows, output in Tokens().start(Call(network, **call)).run(plan):
            assert not found.keys() & set(rows.tolist())
            found |= dict(zip(rows.tolist(), output, strict=True))
    return torch.stack([found[row] for row in range(len(plan))])


class Watched(nn.Module):
    """A module that writes down what it is shown, and may raise."""

    def __init__(self, inner, error=None, after=math.inf):
        super().__init__()
        self.inner, self.error, self.after = inner, error, after
        self.lengths = []
        self.eval()

    def forward(self, tokens):
        self.lengths.append(tokens.shape[1])
        if len(self.lengths) > self.after:
            raise self.error
        return self.inner(tokens)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_view_is_the_networks_own_blocks_on_what_is_kept(name, view, x):
    network = NETWORKS[name]()
    regions = sliding_windows(x, (3, 16, 16), (3, 8, 8))
    cells = patches_of(regions, 8, 4 if "oblong" in name else 8)
    scene = removing(x, regions)
    plan = VIEWS[view].plan(scene)
    with torch.no_grad():
        expected = torch.stack(
            [
                literal(network, x[image : image + 1], shown(plan, row, cells))
                for row, image in enumerate(plan.images.tolist())
            ]
        )
        torch.testing.assert_close(outputs(network, plan), expected, **EXACT)
        assert expected.std(0).min() > 1e-3
        assert (expected - network(x)[plan.images]).abs().median() > 1e-3
        if name not in POOLED:
            blank = outputs(network, all_imputed(scene).plan)
            alone = literal(network, x[:1], []).expand(2, -1)
            torch.testing.assert_close(blank, alone, **EXACT)


@pytest.mark.parametrize("name", CLASS_TOKEN)
def test_a_removed_token_is_one_that_none_attends_to(name, x):
    network = CLASS_TOKEN[name]()
    cells = 32 if "oblong" in name else 16
    plan = Keep().plan(removing(x, grid(x, 4, cells // 4)))
    found = outputs(network, plan)
    with torch.no_grad():
        for row in range(0, len(plan), 5):
            picture, patch = x[plan.images[row]][None], int(plan.regions[row])
            expected = masked(network, picture, [patch])
            torch.testing.assert_close(found[row], expected, **EXACT)
            other = masked(network, picture, [k for k in range(cells) if k != patch])
            assert (expected - other).abs().max() > 1e-3


@pytest.mark.parametrize("make", [torchvision_network, timm_network])
def test_information_of_regions(make, x):
    network = make()
    regions = grid(x, 2, 2)
    corners = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]

    def bits(image, kept):
        with torch.no_grad():
            patches = sorted(patch for corner in kept for patch in corners[corner])
            return information(literal(network, x[image : image + 1], patches), 3)

    def call(view, **options):
        return InfoMask(network).score_regions(
            x, target=3, view=view, regions=regions, imputer=RemoveTokens(), **options
        )

    keep, drop, chain = call("keep"), call("drop"), call("chain", n_samples=24)
    assert {keep.engine, drop.engine, chain.engine} == {"tokens"}
    for image, r in itertools.product(range(2), range(4)):
        rest = [s for s in range(4) if s != r]
        assert keep.scores[image, r] == pytest.approx(bits(image, [r]) - bits(image, []), abs=1e-9)
        assert drop.scores[image, r] == pytest.approx(
            bits(image, range(4)) - bits(image, rest), abs=1e-9
        )
        shapley = sum(
            (bits(image, [*before, r]) - bits(image, before)) / (4 * math.comb(3, size))
            for size in range(4)
            for before in itertools.combinations(rest, size)
        )
        assert chain.scores[image, r] == pytest.approx(shapley, abs=1e-9)
    for infomap in (keep, drop, chain):
        assert infomap.scores.std() > 0.01


class Reading(nn.Module):
    """The form of adapters: a step behind a tower."""

    def __init__(self, tower):
        super().__init__()
        self.tower, self.weight = tower, torch.tensor([[1.0, -2.0, 0.5, 3.0, -1.0]] * 3).double()
        self.weight[1] = -self.weight[2].square()
        self.eval()

    def read(self, output):
        return output.tanh() @ self.weight.T

    def forward(self, x):
        return self.read(self.tower(x))


class Twice(Reading):
    """An adapter of an adapter."""

    def read(self, output):
        return -0.2 * output


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("make", [torchvision_network, timm_network])
def test_a_tower_is_seen_in_an_adapter(make, depth, x):
    tower = make()
    network = Reading(tower) if depth == 1 else Twice(Reading(tower))
    found = InfoMask(network).score_regions(
        x, target=1, view="keep", reference="prior", regions=grid(x, 4, 4), imputer=RemoveTokens()
    )
    assert found.engine == "tokens"
    with torch.no_grad():
        for image, patch in ((0, 3), (1, 14)):
            output = literal(tower, x[image : image + 1], [patch]).tanh() @ Reading(tower).weight.T
            expected = information(output * (-0.2 if depth == 2 else 1), 1)
            assert found.scores[image, patch] == pytest.approx(expected, abs=1e-9)
    assert found.scores.std() > 0.01


def test_views_of_one_length_share_chunks_within_the_budget(x, monkeypatch):
    shapes = []
    classify = TorchvisionTransformer.classify

    def watched(self, tokens, places):
        assert places.shape == tokens.shape[:2]
        shapes.append(tuple(tokens.shape[:2]))
        return classify(self, tokens, places)

    monkeypatch.setattr(TorchvisionTransformer, "classify", watched)
    monkeypatch.setattr(tokens_engine, "_TOKENS_ON_CPU", 40)
    scene = removing(x, grid(x, 4, 4))
    plan = Chain(4, 0).plan(scene)
    network = torchvision_network()
    outputs(network, plan)
    lengths = [length for _, length in shapes]
    assert lengths == sorted(lengths)
    assert set(lengths) == set(range(2, 18))
    assert sum(views for views, _ in shapes) == len(plan)
    for views, length in shapes:
        assert views <= max(40 // length, 1)
    # Steps 1 to 15 of 4 orders of 2 images, then one last step of each image.
    assert [views for views, length in shapes if length == 5] == [8]
    assert [views for views, length in shapes if length == 9] == [4, 4]
    assert [views for views, length in shapes if length == 17] == [2]
    shapes.clear()
    outputs(network, plan, perturbations_per_eval=3)
    assert [views for views, length in shapes if length == 5] == [6, 2]


def test_each_image_has_regions_of_its_own(x):
    network = torchvision_network()
    labels = torch.zeros(2, 1, 32, 32, dtype=torch.long)
    labels[0, :, 8:16, 8:] = 1
    labels[0, :, 24:, 16:24] = 1
    labels[1, :, :, :8] = 1
    labels[1, :, :8, :8] = 2
    cells = [[{*range(16)} - {5, 6, 7, 14}, {5, 6, 7, 14}], [None, {4, 8, 12}, {0}]]
    scores = (
        InfoMask(network)
        .score_regions(
            x,
            target=2,
            view="keep",
            reference="prior",
            regions=from_feature_mask(x, labels),
            imputer=RemoveTokens(),
        )
        .scores
    )
    for image, region in ((0, 0), (0, 1), (1, 1), (1, 2)):
        with torch.no_grad():
            output = literal(network, x[image : image + 1], sorted(cells[image][region]))
        assert scores[image, region] == pytest.approx(information(output, 2), abs=1e-9)
    assert scores[0, 2].isnan()
    assert scores[0, :2].std() > 0.1


@pytest.mark.parametrize("name", ["torchvision", "timm", "timm: normed queries, scaled layers"])
@pytest.mark.parametrize("view", ["crop", *VIEWS])
def test_pixel_imputers_run_the_whole_sequence(name, view, x):
    network = NETWORKS[name]()
    options = {"target": 0, "view": view, "regions": sliding_windows(x, (3, 9, 11), (3, 8, 7))}
    tokens = InfoMask(network).score_regions(x, engine="tokens", **options)
    batched = InfoMask(network).score_regions(x, engine="batched", **options)
    assert tokens.engine == "tokens"
    assert batched.scores.std() > 1e-2
    torch.testing.assert_close(tokens.scores, batched.scores, **EXACT)
    torch.testing.assert_close(tokens.total, batched.total, **EXACT)


@pytest.mark.parametrize(("make", "blocks"), MAKES)
def test_the_last_block_is_asked_for_the_class_token_alone(make, blocks, x):
    network = make()
    *_, before, last = network.get_submodule(blocks)
    before.mlp, last.mlp = Watched(before.mlp), Watched(last.mlp)
    plan = Keep().plan(removing(x, grid(x, 2, 2)))
    outputs(network, plan)
    assert (set(before.mlp.lengths), set(last.mlp.lengths)) == ({5}, {1})
    before.mlp.lengths.clear(), last.mlp.lengths.clear()
    outputs(network, Keep().plan(Scene((x,), grid(x, 2, 2), Constant(0).prepare((x,)))))
    assert (set(before.mlp.lengths), set(last.mlp.lengths)) == ({17}, {1})


def test_a_picture_is_embedded_once(x):
    network = torchvision_network()
    seen = []
    patches = network._process_input
    network._process_input = lambda pictures: seen.append(len(pictures)) or patches(pictures)
    plan = Chain(4, 0).plan(removing(x, grid(x, 4, 4)))
    outputs(network, plan)
    assert seen == [2]


def test_missing_is_not_grey(x):
    network = torchvision_network()
    options = {"target": 0, "view": "keep", "regions": grid(x, 4, 4)}
    removed = InfoMask(network).attribute(x, imputer=RemoveTokens(), **options)
    grey = InfoMask(network).attribute(x, imputer=Constant(0), **options)
    assert (removed - grey).abs().mean() > 0.1


def test_half_precision_and_many_classes(x):
    network = torchvision_network()
    options = {"classes": [0, 4], "view": "keep", "regions": grid(x, 4, 4), "engine": Tokens()}
    wide = InfoMask(network).score_classes(x, imputer=RemoveTokens(), **options).scores
    narrow = InfoMask(network.bfloat16())
    half = narrow.score_classes(x.bfloat16(), imputer=RemoveTokens(), **options).scores
    assert wide.std() > 0.1
    torch.testing.assert_close(half.double(), wide, rtol=0, atol=0.03)


@pytest.mark.parametrize("error", [RuntimeError("in the middle"), KeyboardInterrupt()])
@pytest.mark.parametrize(("make", "blocks"), MAKES)
def test_nothing_is_changed(make, blocks, error, x):
    network = make()
    block = network.get_submodule(blocks)[1]
    options = {"target": 0, "view": "keep", "regions": grid(x, 4, 4), "imputer": RemoveTokens()}
    with unchanged(network, x):
        InfoMask(network).attribute(x, **options)
    block.mlp = Watched(block.mlp, error, after=3)
    with unchanged(network, x), pytest.raises(type(error)):
        InfoMask(network).attribute(x, perturbations_per_eval=1, **options)
    assert len(block.mlp.lengths) == 4


def test_pictures_of_another_size_than_in_training():
    network = timm_network(dynamic_img_size=True)
    x = torch.randn(1, 3, 16, 48).double()
    scores = (
        InfoMask(network)
        .score_regions(
            x,
            target=1,
            reference="prior",
            view="keep",
            regions=grid(x, 2, 6),
            imputer=RemoveTokens(),
        )
        .scores
    )
    with torch.no_grad():
        expected = [information(literal(network, x, [patch]), 1) for patch in range(12)]
    torch.testing.assert_close(
        scores[0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9
    )
    assert scores.std() > 0.1


def test_whole_images_are_run_by_the_network_itself(x):
    network = torchvision_network()
    plan = ViewPlan(
        Scene((x,), grid(x, 1, 1), RemoveTokens().prepare((x,))), "nothing", torch.arange(2)
    )
    with torch.no_grad():
        assert torch.equal(outputs(network, plan), network(x))
