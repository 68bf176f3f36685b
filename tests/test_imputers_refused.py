# What imputers refuse: settings when made, inputs when used.
import pytest
import torch

from captum_infomask import (
    ArgumentError,
    Blur,
    ConditionalPatches,
    Constant,
    Inpaint,
    LocalMean,
    MarginalPatches,
    NoisyLinear,
    NormalNoise,
    UniformNoise,
)

OTHERS = torch.rand(9, 3, 12, 10, generator=torch.Generator().manual_seed(11))
DRAWING = [
    NoisyLinear(),
    MarginalPatches(OTHERS),
    ConditionalPatches(OTHERS),
    UniformNoise(),
    NormalNoise(),
]
IMAGES_ONLY = [Blur(), LocalMean(), Inpaint(), NoisyLinear(), MarginalPatches(OTHERS)]


@pytest.mark.parametrize(
    ("imputer", "inputs", "words"),
    [
        (Constant((0, 0)), (torch.zeros(1, 3),), ["`baselines`", "1 inputs", "2"]),
        (Constant(torch.zeros(1, 2)), (torch.zeros(1, 3),), ["`baselines`", "(1, 3)", "(1, 2)"]),
        (Constant(torch.zeros(3, 3)), (torch.zeros(2, 3),), ["`baselines`", "(3, 3)"]),
        (Constant("grey"), (torch.zeros(1, 3),), ["`baselines`", "'grey'"]),
        (UniformNoise(), (torch.zeros(1, 3).long(),), ["UniformNoise", "int64"]),
        (NormalNoise(), (torch.zeros(1, 3).bool(),), ["NormalNoise", "bool"]),
        (MarginalPatches(OTHERS), (torch.zeros(1, 3, 9, 9),), ["12, 10)", "(1, 3, 9, 9)"]),
        (MarginalPatches(OTHERS), (OTHERS, OTHERS), ["one input", "(9, 3, 12, 10), (9"]),
        (ConditionalPatches(OTHERS), (torch.zeros(1, 1, 12, 10),), ["ConditionalPatches", "(1, 1"]),
        (ConditionalPatches(OTHERS, 9), (OTHERS[3:5],), ["`neighbours`=9", "got 8"]),
        *(
            (imputer, (torch.zeros(1, 3),), [type(imputer).__name__, "(1, 3)"])
            for imputer in IMAGES_ONLY
        ),
        *((imputer, (torch.zeros(1, 3, 12, 10).long(),), ["int64"]) for imputer in IMAGES_ONLY),
    ],
)
def test_imputers_that_do_not_fit(imputer, inputs, words):
    with pytest.raises(ArgumentError) as caught:
        imputer.prepare(inputs)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("make", "options", "word"),
    [
        *((Blur, {"sigma": sigma}, "`sigma`") for sigma in (0, float("nan"))),
        *((LocalMean, {"sigma": sigma}, "`sigma`") for sigma in (-1.0, "2")),
        (Inpaint, {"method": "thelea"}, "Did you mean 'telea'"),
        *((Inpaint, {"radius": radius}, "`radius`") for radius in (0, 101)),
        *((NoisyLinear, {"noise": noise}, "`noise`") for noise in (-0.1, float("inf"))),
        (UniformNoise, {"low": 1, "high": 1}, "`low` below `high`"),
        (UniformNoise, {"low": float("nan")}, "`low`"),
        (UniformNoise, {"high": float("inf")}, "`high`"),
        (NormalNoise, {"mean": "0"}, "`mean`"),
        *((NormalNoise, {"std": std}, "`std`") for std in (0,)),
        (MarginalPatches, {"images": OTHERS[0, 0]}, "`images`.*(12, 10)"),
        (MarginalPatches, {"images": OTHERS[:0]}, "`images`.*(0, 3, 12, 10)"),
        (MarginalPatches, {"images": OTHERS.long()}, "`images`.*int64"),
        (MarginalPatches, {"images": OTHERS / 0}, "`images`.*finite"),
        (MarginalPatches, {"images": []}, "`images`.*at least one batch"),
        (MarginalPatches, {"images": 3}, "`images`.*3"),
        (MarginalPatches, {"images": [OTHERS, "b"]}, "`images`.*'b'"),
        (MarginalPatches, {"images": [OTHERS, OTHERS[..., :9]]}, "one shape"),
        (MarginalPatches, {"images": [OTHERS], "limit": 0}, "`limit`"),
        (
            ConditionalPatches,
            {"images": OTHERS, "neighbours": 10},
            "`neighbours`=10 pictures; got 9",
        ),
        (ConditionalPatches, {"images": OTHERS, "neighbours": 0}, "`neighbours`"),
        (ConditionalPatches, {"images": OTHERS, "border": 0}, "`border`"),
    ],
)
def test_bad_settings_are_refused_when_made(make, options, word):
    with pytest.raises(ArgumentError, match=word.replace("(", r"\(").replace(")", r"\)")):
        make(**options)


@pytest.mark.parametrize("imputer", DRAWING, ids=lambda imputer: type(imputer).__name__)
def test_draws_refuse_bad_numbers(imputer):
    for seed, index, word in ((-1, 0, "`seed`"), (0.5, 0, "`seed`"), (0, -1, "`index`")):
        with pytest.raises(ArgumentError, match=word):
            imputer.draw(seed, index)
