import pytest
import torch

from captum_infomask import ArgumentError, Blur, Constant, InfoMask, sliding_windows
from captum_infomask.engines.pixels import draw
from captum_infomask.views.in_place import Drop, Keep
from captum_infomask.views.plan import Scene

# One row per imputer: to add an imputer is to add a row.
IMPUTERS = {
    "constant: default": Constant(),
    "constant: number": Constant(0.25),
    "constant: picture": Constant(torch.linspace(0, 1, 3 * 12 * 10).reshape(1, 3, 12, 10)),
    "blur: default": Blur(),
    "blur: 2 pixels": Blur(2.0),
}
SCALES = {"unit": (1.0, 0.0), "normalised": (4.0, -2.0), "bytes": (255.0, 0.0)}


@pytest.fixture(params=SCALES)
def pictures(request):
    scale, shift = SCALES[request.param]
    return torch.rand(2, 3, 12, 10) * scale + shift


def scene(imputer, pictures):
    regions = sliding_windows(pictures, (3, 5, 4), (3, 4, 3))
    return Scene((pictures,), regions, imputer.prepare((pictures,)))


@pytest.mark.parametrize("name", IMPUTERS)
def test_outside_the_hidden_region_not_one_bit_changes(name, pictures):
    made = scene(IMPUTERS[name], pictures)
    for view, hidden in ((Drop(), True), (Keep(), False)):
        plan = view.plan(made)
        shown = draw(plan, torch.arange(len(plan)))[0]
        mask = made.regions.masks(plan.images, plan.regions, pictures.device)[0]
        untouched = (~mask if hidden else mask).expand_as(shown)
        originals = pictures[plan.images]
        assert torch.equal(shown[untouched], originals[untouched])
        assert bool((shown != originals)[~untouched].float().mean() > 0.5)


@pytest.mark.parametrize("name", IMPUTERS)
def test_a_batch_is_imputed_as_its_pictures_alone(name, pictures):
    imputer = IMPUTERS[name]
    both = draw(Drop().plan(scene(imputer, pictures)), torch.arange(3, 9))[0]
    plan = Drop().plan(scene(imputer, pictures))
    for row, picture in zip(range(3, 9), both, strict=True):
        image, region = int(plan.images[row]), int(plan.regions[row])
        alone = draw(
            Drop().plan(scene(imputer, pictures[image : image + 1])), torch.tensor([region])
        )
        torch.testing.assert_close(picture, alone[0][0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", IMPUTERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types_are_kept(name, dtype):
    pictures = torch.rand(2, 3, 12, 10).to(dtype)
    plan = Drop().plan(scene(IMPUTERS[name], pictures))
    assert draw(plan, torch.arange(4))[0].dtype == dtype


def test_blur_keeps_constant_pictures_and_means():
    flat = torch.full((1, 3, 12, 10), 0.7)
    torch.testing.assert_close(Blur(2.0).prepare((flat,)).pictures[0], flat)


def test_blur_is_the_gaussian():
    """Far from borders: a point becomes the product of two normal densities."""
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    blurred = Blur(2.0).prepare((point,)).pictures[0][0, 0]
    offsets = torch.arange(-20, 21).float()
    density = (-(offsets**2) / 8).exp()
    want = torch.outer(density, density) / density.sum() ** 2
    torch.testing.assert_close(blurred, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "baselines",
    [0.5, torch.full((1, 3, 12, 10), 0.5), torch.full((2, 3, 12, 10), 0.5), (0.5,), 1],
    ids=["number", "one picture", "per picture", "tuple", "int"],
)
def test_baselines_in_every_form(net, baselines):
    pictures = torch.rand(2, 3, 12, 10, dtype=torch.float64)
    options = {
        "target": 1,
        "view": "drop",
        "sliding_window_shapes": (3, 4, 5),
        "strides": (3, 4, 5),
    }
    got = InfoMask(net).attribute(pictures, baselines, **options)
    value = 1.0 if isinstance(baselines, int) else 0.5
    want = InfoMask(net).attribute(pictures, imputer=Constant(value), **options)
    torch.testing.assert_close(got, want)
    assert bool((want - InfoMask(net).attribute(pictures, **options)).abs().max() > 1e-3)


@pytest.mark.parametrize(
    ("imputer", "inputs", "words"),
    [
        (Constant((0, 0)), (torch.zeros(1, 3),), ["`baselines`", "1 inputs", "2"]),
        (Constant(torch.zeros(1, 2)), (torch.zeros(1, 3),), ["`baselines`", "(1, 3)", "(1, 2)"]),
        (Constant(torch.zeros(3, 3)), (torch.zeros(2, 3),), ["`baselines`", "(3, 3)"]),
        (Constant("grey"), (torch.zeros(1, 3),), ["`baselines`", "'grey'"]),
        (Blur(), (torch.zeros(1, 3),), ["Blur", "(1, 3)"]),
        (Blur(), (torch.zeros(1, 1, 3, 3).long(),), ["Blur", "int64"]),
    ],
)
def test_imputers_that_do_not_fit(imputer, inputs, words):
    with pytest.raises(ArgumentError) as caught:
        imputer.prepare(inputs)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("sigma", [0, -1.0, float("nan"), "2"])
def test_blur_refuses_bad_sigmas(sigma):
    with pytest.raises(ArgumentError, match="`sigma`"):
        Blur(sigma)
