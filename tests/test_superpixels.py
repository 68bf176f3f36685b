import math

import numpy as np
import pytest
import torch
from refused import refused
from skimage.transform import resize

from captum_infomask import InfoMask, from_label_map, superpixels
from captum_infomask.datasets import sample_photo
from captum_infomask.regions.label_regions import connected, in_order, merged_labels

METHODS = ("slic", "felzenszwalb", "quickshift", "watershed")


@pytest.fixture(scope="module")
def photos():
    """Two photos of 96 × 80 pixels, (2, 3, 96, 80)."""
    small = [
        resize(sample_photo(name) / 255, (96, 80), anti_aliasing=True)
        for name in ("coffee", "chelsea")
    ]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float()


def map_of(regions, image=0):
    labels = regions.labels[0]
    return labels[image if len(labels) > 1 else 0, 0].numpy()


def flooded(labels):
    """How many parts, joined by edges of pixels, a label map has: a flood fill, pixel by pixel."""
    height, width = labels.shape
    seen = np.zeros(labels.shape, bool)
    parts = 0
    for start in np.ndindex(labels.shape):
        if seen[start]:
            continue
        parts += 1
        seen[start] = True
        stack = [start]
        while stack:
            y, x = stack.pop()
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if (
                    0 <= v < height
                    and 0 <= u < width
                    and not seen[v, u]
                    and labels[v, u] == labels[y, x]
                ):
                    seen[v, u] = True
                    stack.append((v, u))
    return parts


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 12, 60])
def test_as_many_connected_regions_as_wanted(photos, method, count):
    regions = superpixels(photos, count, method=method)
    assert len(regions) == count
    assert regions.shapes == ((3, 96, 80),)
    for image in range(2):
        labels = map_of(regions, image)
        assert np.unique(labels).tolist() == list(range(count))
        assert flooded(labels) == count
        _, first = np.unique(labels, return_index=True)
        assert (np.diff(first) > 0).all()  # numbered from the top left
    assert regions.present(2).all()
    masks = regions.masks(torch.zeros(count).long(), torch.arange(count), torch.device("cpu"))[0]
    assert (masks.sum(0) == 1).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_regions_follow_the_picture(method, channels):
    height, width = 45, 61
    truth = (np.arange(height)[:, None] >= 17) * 2 + (np.arange(width) >= 38)
    colours = torch.linspace(-3, 8, 4)[:, None].expand(4, channels).clone()
    colours[:, 1::2] = colours[:, 1::2].flip(0)
    picture = colours[torch.from_numpy(truth)].permute(2, 0, 1)[None]
    picture = picture + 0.01 * torch.randn(picture.shape)
    labels = map_of(superpixels(picture, 16, method=method))
    pure = sum(np.bincount(truth[labels == r]).max() for r in range(labels.max() + 1)) / truth.size
    rows, columns = np.arange(height)[:, None] * 4 // height, np.arange(width) * 4 // width
    squares = rows * 4 + columns
    blind = sum(np.bincount(truth[squares == r]).max() for r in range(16)) / truth.size
    assert blind < 0.8
    assert pure > 0.94


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_gives_what_its_images_give_alone(photos, method):
    both = superpixels(photos, 20, method=method)
    for image in range(2):
        alone = superpixels(photos[image : image + 1], 20, method=method)
        assert (map_of(alone) == map_of(both, image)).all()
    assert (map_of(both, 0) != map_of(both, 1)).mean() > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_the_same_every_time_and_nothing_is_drawn(photos, method):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), photos.clone()
    first = map_of(superpixels(photos[:1], 20, method=method))
    np.random.seed(5)
    second = map_of(superpixels(photos[:1], 20, method=method))
    np.random.set_state(("MT19937", before[1], *np.random.get_state()[2:]))
    assert (first == second).all()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(photos, before[2])


@pytest.mark.parametrize("method", METHODS)
def test_normalisation_is_undone(photos, method):
    eighths = (photos[:1] * 255).round() / 256
    mean, std = torch.tensor([0.5, 0.25, 0.75]), torch.tensor([0.25, 2.0, 0.5])
    normalised = (eighths - mean[:, None, None]) / std[:, None, None]
    want = map_of(superpixels(eighths, 20, method=method))
    found = superpixels(normalised, 20, method=method, mean=mean.tolist(), std=std)
    assert (map_of(found) == want).all()
    assert (map_of(superpixels(normalised, 20, method=method)) != want).mean() > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_any_range_and_dtype(photos, method, dtype):
    picture = (photos[:1] * 63).round().to(dtype)
    want = map_of(superpixels(picture, 20, method=method))
    assert (map_of(superpixels(picture * 1024, 20, method=method)) == want).all()
    assert (map_of(superpixels(picture - 64, 20, method=method)) == want).all()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("slic", {"compactness": 100.0}),
        ("slic", {"sigma": 4, "max_num_iter": 2}),
        ("felzenszwalb", {"sigma": 3.0}),
        ("felzenszwalb", {"min_size": 200}),
        ("quickshift", {"ratio": 0.1}),
        ("quickshift", {"kernel_size": 5, "sigma": 2}),
        ("watershed", {"compactness": 5}),
        ("watershed", {"sigma": 0}),
    ],
)
def test_options_reach_the_method(photos, method, options):
    plain = map_of(superpixels(photos[:1], 20, method=method))
    other = map_of(superpixels(photos[:1], 20, method=method, **options))
    assert (plain != other).mean() > 0.1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (3, 4, 5), (5, 3, 3)])
def test_small_and_constant_images(method, shape):
    pixels = shape[1] * shape[2]
    for picture in (torch.full((1, *shape), -7.5), torch.rand(1, *shape)):
        for count in {1, pixels // 2 + 1, pixels}:
            labels = map_of(superpixels(picture, count, method=method))
            assert flooded(labels) == labels.max() + 1 <= count


@pytest.mark.parametrize("shape", [(1, 8), (3, 6, 6), (1, 3, 3, 3), (1, 4, 4, 4), (2, 80)])
def test_without_a_count_small_inputs_have_a_region_for_each_pixel(shape):
    pixels = math.prod(shape[1:])
    assert len(superpixels(torch.rand(1, *shape))) == min(64, pixels)
    refused(
        (f"`count` of at most {pixels}", " × ".join(map(str, shape[1:])), str(pixels + 1)),
        lambda: superpixels(torch.rand(1, *shape), pixels + 1),
    )


def merged_slowly(labels, colours, count):
    """The same from the definition, everything counted anew after each join."""
    labels = labels.copy()
    while len(np.unique(labels)) > count:
        names, sizes = np.unique(labels, return_counts=True)
        smallest = names[sizes.argmin()]
        touching = set()
        for (y, x), label in np.ndenumerate(labels):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < labels.shape[0] and u < labels.shape[1]:
                    pair = {int(label), int(labels[v, u])}
                    touching |= pair - {int(smallest)} if smallest in pair else set()
        means = {name: colours[labels == name].mean(0) for name in names}
        distances = {n: ((means[n] - means[smallest]) ** 2).sum() for n in touching}
        labels[labels == smallest] = min(touching, key=distances.get)
    return labels


@pytest.mark.parametrize("seed", range(6))
def test_merging_from_its_definition(seed):
    generator = np.random.default_rng(seed)
    labels = connected(generator.integers(0, 3, (9, 8)))
    assert labels.max() + 1 == flooded(labels) > 12
    colours = generator.normal(size=(9, 8, 2))
    for count in (12, 5, 1):
        want = in_order(merged_slowly(labels, colours, count))
        assert (merged_labels(labels, colours, count) == want).all()
    assert (merged_labels(labels, colours, 1000) == in_order(labels)).all()


def test_information_of_superpixels_is_that_of_their_label_map(photos, net):
    regions = superpixels(photos, 6)
    x = photos.double()
    infomask = InfoMask(net)
    labels = torch.from_numpy(np.stack([map_of(regions, 0), map_of(regions, 1)]))
    for view in ("keep", "drop", "chain"):
        ours = infomask.attribute(x, target=1, view=view, regions=regions)
        again = infomask.attribute(x, target=1, view=view, feature_mask=labels[:, None])
        assert torch.equal(ours, again)
        assert ours.abs().max() > 1e-3
    refused(
        ("rectangles", "view='crop'"),
        lambda: infomask.attribute(x, target=1, view="crop", regions=regions),
    )


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (("`inputs`", "(N, C, H, W)"), lambda x: superpixels(x[0, 0])),
        (("`inputs`", "floating-point"), lambda x: superpixels(x.long())),
        (("`inputs`", "list"), lambda x: superpixels([x])),
        (("`inputs`", "finite"), lambda x: superpixels(x / 0)),
        (("`count`", "at least 1", "0"), lambda x: superpixels(x, 0)),
        (("`count`", "at least 1", "2.5"), lambda x: superpixels(x, 2.5)),
        (("`count`", "at most 48", "49"), lambda x: superpixels(x, 49)),
        (("`method`", "'slik'", "Did you mean 'slic'"), lambda x: superpixels(x, 4, method="slik")),
        (("`method`", "None"), lambda x: superpixels(x, 4, method=None)),
        (
            ("options of method='slic'", "'compactnes'", "Did you mean 'compactness'"),
            lambda x: superpixels(x, 4, compactnes=1),
        ),
        (("options of method='slic'", "'n_segments'"), lambda x: superpixels(x, 4, n_segments=9)),
        (("`compactness`", "above 0", "0"), lambda x: superpixels(x, 4, compactness=0)),
        (("`sigma`", "at least 0", "-1"), lambda x: superpixels(x, 4, sigma=-1)),
        (("`sigma`", "finite", "nan"), lambda x: superpixels(x, 4, sigma=float("nan"))),
        (
            ("`kernel_size`", "at least 1", "0"),
            lambda x: superpixels(x, 4, method="quickshift", kernel_size=0),
        ),
        (("`std`", "above 0", "0"), lambda x: superpixels(x, 4, std=0)),
        (("`std`", "3 channels", "(0.1, 0.2)"), lambda x: superpixels(x, 4, std=(0.1, 0.2))),
        (("`mean`", "3 channels", "nan"), lambda x: superpixels(x, 4, mean=float("nan"))),
        (("`mean`", "'imagenet'"), lambda x: superpixels(x, 4, mean="imagenet")),
    ],
)
def test_bad_superpixels(words, call):
    refused(words, lambda: call(torch.rand(2, 3, 6, 8)))


@pytest.mark.parametrize("dtype", [np.int64, np.int16, np.uint8, np.uint16, np.uint32])
def test_label_maps_of_any_integers(dtype):
    labels = np.array([[0, 0, 1], [2, 2, 1]], dtype)
    x = torch.zeros(2, 3, 2, 3)
    for given in (labels, labels[:, ::-1][:, ::-1], torch.from_numpy(labels.astype(np.int64))):
        regions = from_label_map(x, given)
        assert len(regions) == 3
        assert (map_of(regions) == labels).all()
        assert regions.present(2).all()
        assert regions.describe(2) == "with label 2"


def test_images_may_lack_a_label():
    labels = torch.tensor([[[0, 0, 1]], [[2, 2, 1]]])
    regions = from_label_map(torch.zeros(2, 1, 1, 3), labels)
    assert regions.present(2).tolist() == [[True, True, False], [False, True, True]]


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        (
            ("`labels`", "0 to the highest, 3", "2 is missing", "from_feature_mask"),
            [[0, 1, 1], [3, 3, 0]],
        ),
        (("`labels`", "0 is missing"), [[1, 1, 1], [1, 2, 2]]),
        (("`labels`", "at least 0", "-1", "from_feature_mask"), [[0, 1, 1], [-1, 0, 0]]),
        (("`labels`", "(2, 3)", "(4, 2, 3)", "(1, 3)"), [[0, 1, 2]]),
        (("`labels`", "integers", "float32"), [[0.0, 1, 1], [1, 1, 1]]),
        (("`labels`", "integers", "bool"), [[False, True, True], [True, True, True]]),
    ],
)
def test_bad_label_maps(words, labels):
    x = torch.zeros(4, 3, 2, 3)
    refused(words, lambda: from_label_map(x, torch.tensor(labels)))


def test_label_maps_are_arrays():
    refused(("`labels`", "list"), lambda: from_label_map(torch.zeros(1, 1, 1, 2), [[0, 1]]))
