# Bad arguments: one clear error before any forward pass, and nothing touched.
from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from refused import refused
from state import unchanged
from tiny import WINDOWS, Counting, Net, images

from captum_infomask import (
    AtLeast,
    Blur,
    Constant,
    InfoMask,
    MaxFraction,
    Otsu,
    TopFraction,
    from_feature_mask,
    grid,
    sliding_windows,
)

X = images()
QUARTERS = torch.zeros(1, 1, 8, 8, dtype=torch.long)


def case(name: str, *words: str, **arguments: Any) -> Any:
    return pytest.param(arguments, words, id=name)


def refused_early(arguments: dict[str, Any], words: tuple[str, ...], method: str) -> None:
    net = Net().train()  # where one forward pass would already move the running statistics
    forward = Counting(net)
    tensors = [v for v in arguments.values() if isinstance(v, torch.Tensor) and not v.is_sparse]
    call = getattr(InfoMask(forward), method)
    with unchanged(net, *tensors):
        refused(words, lambda: call(**{"inputs": X, "target": 1, **arguments}))
    assert forward.calls == 0


BAD_INPUTS = [
    case("list", "`inputs`", "tuple of tensors", "got a list of 2", "torch.stack", inputs=list(X)),
    case("empty tuple", "`inputs`", "got a tuple of 0", inputs=()),
    case("nested", "`inputs`", "got a tuple of 1", inputs=((X,),)),
    case("array", "`inputs`", "numpy array of shape (2, 3, 8, 8)", inputs=X.numpy()),
    case("path", "`inputs`", "'cat.jpg'", inputs="cat.jpg"),
    case("None", "`inputs`", "None", inputs=None),
    case("number", "`inputs`", "at least one example", "shape ()", inputs=torch.tensor(1.0)),
    case("empty batch", "`inputs`", "at least one example", "(0, 3, 8, 8)", inputs=X[:0]),
    case("no pixels", "`inputs`", "one element", "(2, 3, 0, 8)", inputs=X[:, :, :0]),
    case("bytes", "`inputs`", "floating-point", "uint8", ".float() / 255", inputs=X.byte()),
    case("integers", "`inputs`", "floating-point", "torch.int64", inputs=X.long()),
    case("booleans", "`inputs`", "floating-point", "torch.bool", inputs=X > 0.5),
    case("complex", "`inputs`", "floating-point", "complex64", inputs=X + 0j),
    case("sparse", "`inputs`", "dense", "sparse_coo", "to_dense", inputs=X.to_sparse()),
    case("batch sizes", "`inputs`", "one batch size", "[2, 1]", inputs=(X, X[:1])),
    case(
        "no batch dimension, windows",
        *("`sliding_window_shapes`", "2 entries", "(3, 4, 4)", "unsqueeze(0)"),
        inputs=X[0],
        **WINDOWS,
    ),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_INPUTS)
def test_inputs(arguments: dict[str, Any], words: tuple[str, ...]) -> None:
    refused_early({**arguments, "view": "drop"}, words, "attribute")


CROP = {"view": "crop"}
FORMS = "an int, a tuple of ints, a one-element tensor"
OTHER_SIZE = sliding_windows(torch.zeros(1, 3, 16, 16), (3, 4, 4))
THREE_MASKS = from_feature_mask(images(3), torch.arange(3).reshape(3, 1, 1, 1))
BAD_ARGUMENTS = [
    case("target too short", "`target`", "2 in all", "got 1", target=[1]),
    case("target of no examples", "`target`", "empty list", target=[]),
    case("target negative for one", "`target`", "at least 0", "got -2", target=[0, -2]),
    case("target far too large", "`target`", "at least 0", "got 1000000", target=10**30),
    case("target float", "`target`", FORMS, "1.0", target=1.0),
    case("target bool", "`target`", FORMS, "True", target=True),
    case("target name", "`target`", "categories=names", "'cat'", target="cat"),
    case("target list of lists", "`target`", FORMS, "list of 2", target=[[1], [2]]),
    case("target empty tuple", "`target`", FORMS, "tuple of 0", target=()),
    case("target ragged", "`target`", "one length", "list of 2", target=[(1,), (1, 2)]),
    case("target float tensor", "`target`", "integers", "float32", target=torch.ones(2)),
    case("target bool tensor", "`target`", "integers", "bool", target=torch.ones(2) > 0),
    case("target matrix", "`target`", FORMS, "(2, 1)", target=torch.tensor([[1], [2]])),
    case("view unknown", "`view`", "'keep'", "got 'Keap'", "mean 'keep'?", view="Keap"),
    case("view unheard of", "`view`", "'crop', 'keep', 'drop'", "got 'zzz'", view="zzz"),
    case("reference", "`reference`", "'blanc'", "mean 'blank'?", reference="blanc"),
    case("reference of drop", "`reference`", "view='keep'", view="drop", reference="prior"),
    case("overlap", "`overlap`", "'means'", "mean 'mean'?", overlap="means"),
    case("crop_size name", "`crop_size`", "'native'", "'nativ'", crop_size="nativ"),
    case("crop_size number", "`crop_size`", "(height, width)", "got 8", crop_size=8),
    case("crop_size of three", "`crop_size`", "(height, width)", crop_size=(3, 8, 8)),
    case("crop_size zero", "`crop_size`", "at least 1", "got 0", crop_size=(0, 8)),
    case("crop_size float", "`crop_size`", "integer", "got 8.5", crop_size=(8.5, 8)),
    case("crop_size of keep", "`crop_size`", "'crop'", "'keep'", view="keep", crop_size=(8, 8)),
    *(
        case(
            f"perturbations_per_eval {given!r}",
            *("`perturbations_per_eval`", "integer of at least 1", f"got {given!r}"),
            perturbations_per_eval=given,
        )
        for given in (0, 1.5, True, "4")
    ),
    case(
        "window larger than the image",
        *("`sliding_window_shapes`", "no larger than", "(3, 8, 8)", "got (3, 9, 4)"),
        sliding_window_shapes=(3, 9, 4),
    ),
    case("window zero", "`sliding_window_shapes`", "at least 1", sliding_window_shapes=(3, 0, 4)),
    case("window float", "`sliding_window_shapes`", "got 4.0", sliding_window_shapes=(3, 4.0, 4)),
    case("window number", "`sliding_window_shapes`", "a tuple", sliding_window_shapes=4),
    case("window list", "`sliding_window_shapes`", "list of 3", sliding_window_shapes=[3, 4, 4]),
    case("window short", "`sliding_window_shapes`", "3 entries", sliding_window_shapes=(4, 4)),
    case(
        "window with a batch dimension",
        *("`sliding_window_shapes`", "3 entries", "no batch dimension", "(1, 3, 4, 4)"),
        sliding_window_shapes=(1, 3, 4, 4),
    ),
    case(
        "windows for two inputs",
        *("`sliding_window_shapes`", "1 inputs", "tuple of 2"),
        sliding_window_shapes=((3, 4, 4), (3, 4, 4)),
    ),
    *(
        case(f"strides {given!r}", *words, sliding_window_shapes=(3, 4, 4), strides=given)
        for given, words in [
            ((3, 0, 4), ("`strides`", "at least 1", "got 0")),
            (1.5, ("`strides`", "integer", "got 1.5")),
            ((3, 5, 4), ("`strides`", "no larger than the window (3, 4, 4)", "got (3, 5, 4)")),
            ((3, 4), ("`strides`", "3 entries", "got (3, 4)")),
            ((1, 3, 4, 4), ("`strides`", "3 entries", "got (1, 3, 4, 4)")),
        ]
    ),
    case("strides alone", "`sliding_window_shapes`", "`strides` alone", strides=2),
    *(
        case(f"feature_mask {name}", "`feature_mask`", *words, view="drop", feature_mask=given)
        for name, given, words in [
            ("shape", QUARTERS[0, 0, :4, :4], ("(1 or 2, 1 or 3, 1 or 8, 1 or 8)", "got (4, 4)")),
            ("batch", QUARTERS.expand(3, 1, 8, 8), ("(1 or 2, ", "got (3, 1, 8, 8)")),
            ("dimensions", QUARTERS[None], ("(2, 3, 8, 8)", "got (1, 1, 1, 8, 8)")),
            ("empty", QUARTERS[:0], ("(2, 3, 8, 8)", "got (0, 1, 8, 8)")),
            ("float", QUARTERS.float(), ("integers", "got torch.float32", ".long()")),
            ("bool", QUARTERS.bool(), ("integers", "got torch.bool")),
            ("array", QUARTERS.numpy(), ("a tensor", "numpy array of shape (1, 1, 8, 8)")),
            ("two", (QUARTERS, QUARTERS), ("each of the 1 inputs", "got 2")),
        ]
    ),
    case(
        "feature_mask and windows",
        *("at most one of `feature_mask`", "got feature_mask and sliding_window_shapes"),
        feature_mask=QUARTERS,
        **WINDOWS,
    ),
    case("regions and windows", "`regions`", "at most one", regions=grid(X, 2, 2), **WINDOWS),
    case("regions name", "`regions`", "grid()", "'grid' (str)", regions="grid"),
    case("regions list", "`regions`", "grid()", "a list of them", "got 1 (int)", regions=[1]),
    case("regions of another size", "`regions`", "(3, 8, 8)", "(3, 16, 16)", regions=OTHER_SIZE),
    case(
        "regions of another batch",
        "`regions`",
        "2 images",
        "got regions for 3",
        regions=THREE_MASKS,
    ),
    *(
        case(f"baselines {name}", "`baselines`", *words, view="drop", baselines=given)
        for name, given, words in [
            ("channels", X[:, :2], ("(2, 3, 8, 8), (1, 3, 8, 8) or (3, 8, 8)", "(2, 2, 8, 8)")),
            ("no channels", X[0, 0], ("(1, 3, 8, 8)", "got (8, 8)")),
            ("batch", images(3), ("(2, 3, 8, 8)", "got (3, 3, 8, 8)")),
            ("name", "grey", ("tensors or numbers", "'grey' (str)")),
            ("array", X.numpy(), ("tensors or numbers", "numpy array")),
            ("complex number", 1j, ("real tensors or numbers", "1j")),
            ("complex", X + 0j, ("real tensors or numbers", "complex64")),
            ("two", (0, 0), ("each of the 1 inputs", "got 2")),
        ]
    ),
    case(
        "baselines and imputer", "`baselines`", "got both", view="drop", baselines=0, imputer=Blur()
    ),
    case(
        "imputer name", "`imputer`", "'blur'", "Did you mean 'blur'?", view="drop", imputer="blurr"
    ),
    case("imputer class", "`imputer`", "Blur()", "(type)", view="drop", imputer=Blur),
    case("imputer number", "`imputer`", "Constant(0)", "0 (int)", view="keep", imputer=0),
    case(
        "imputer of wrong shape",
        "`baselines`",
        "(2, 3, 8, 8)",
        view="keep",
        imputer=Constant(X[0, 0]),
    ),
    case("crop with baselines", "`baselines`", "view='drop' or view='keep'", **CROP, baselines=0),
    case("crop with an imputer", "`imputer`", "view='drop' or view='keep'", **CROP, imputer=Blur()),
    case(
        "crop of a diagonal",
        *("rectangles", "view='crop'", "Pass view='drop' or view='keep'"),
        feature_mask=torch.eye(8, dtype=torch.long),
        **CROP,
    ),
    case(
        "crop of one channel",
        "rectangles",
        "channels",
        "view='drop'",
        sliding_window_shapes=(1, 4, 4),
        **CROP,
    ),
    case(
        "crop of rows",
        *("`inputs`", "(N, C, H, W)", "(2, 192)", "view='drop'"),
        inputs=X.flatten(1),
        **CROP,
    ),
    case(
        "crop of two", "`inputs`", "one tensor", "view='drop' or view='keep'", inputs=(X, X), **CROP
    ),
    case("blur of rows", "Blur", "(2, 192)", view="drop", inputs=X.flatten(1), imputer=Blur()),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_ARGUMENTS)
def test_arguments(arguments: dict[str, Any], words: tuple[str, ...]) -> None:
    refused_early(arguments, words, "attribute")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("otsu", ("'otsu'", "Otsu(")),
        ("max", ("'max'", "MaxFraction(")),
        (1.5, ("1.5 (float)", "AtLeast(1.5)")),
        (1, ("1 (int)", "MaxFraction(1)")),
        (Otsu, ("(type)", "Otsu()")),
        ([0.2], ("list", "MaxFraction(0.2)")),
    ],
    ids=repr,
)
def test_rules_of_masks(rule: Any, words: tuple[str, ...]) -> None:
    refused_early({"rule": rule}, ("`rule`", *words), "mask")
    infomap = InfoMask(Net()).score_regions(X, target=1)
    refused(("`rule`", *words), lambda: infomap.mask(rule))
    refused(("`rule`", *words), lambda: infomap.boxes(rule))


@pytest.mark.parametrize(
    ("rule", "fraction"),
    [*((MaxFraction, f) for f in (0, 1.1, math.nan, "a")), (TopFraction, 0), (TopFraction, 1.1)],
)
def test_fractions(rule: Any, fraction: Any) -> None:
    refused(("`fraction`", "above 0 and at most 1", f"{fraction!r}"), lambda: rule(fraction))


@pytest.mark.parametrize("given", [0, math.nan, math.inf, "a", True])
def test_positive_numbers(given: Any) -> None:
    refused(("`bits`", "above 0", f"{given!r}"), lambda: AtLeast(given))
    refused(("`sigma`", "above 0", f"{given!r}"), lambda: Blur(given))
    refused(("`temperature`", "above 0", f"{given!r}"), lambda: InfoMask(Net(), temperature=given))


def test_a_target_out_of_range_is_refused_wherever_in_the_batch_it_stands() -> None:
    forward = Counting(Net().eval())
    targets = [0] * 129 + [99]  # more images than a chunk holds, the last one wrong
    refused(
        ("`target`", "between 0 and 4", "99"),
        lambda: InfoMask(forward).attribute(images(130), target=targets, view="drop"),
    )
    assert forward.calls == 1
