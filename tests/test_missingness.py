"""fill_disagreement: against scores by hand, and what it says of all-imputed pictures."""

import math

import pytest
import torch
from tiny import Net, images

from captum_infomask import ArgumentError, Blur, Constant, InfoMask, fill_disagreement, grid

FILLS = {"0": Constant(0), "0.7": Constant(0.7), "blur": Blur(1.0)}


@pytest.mark.parametrize("view", ["drop", "keep", "chain"])
def test_movement_is_the_range_over_imputers(view):
    x, infomask = images(), InfoMask(Net())
    options = {"regions": grid(x, 2, 3)}
    found = fill_disagreement(infomask, x, 1, view=view, imputers=FILLS, **options)
    alone = torch.stack(
        [
            infomask.score_regions(x, target=1, view=view, imputer=imputer, **options).scores
            for imputer in FILLS.values()
        ]
    )
    torch.testing.assert_close(found.scores, alone)
    torch.testing.assert_close(found.movement, alone.max(0).values - alone.min(0).values)
    largest = alone.abs().amax((0, 2))
    torch.testing.assert_close(found.share, found.movement.mean(1) / largest)
    assert float(found.movement.min()) > 1e-4


@pytest.mark.parametrize("settings", [{}, {"prior": [0.1, 0.1, 0.2, 0.3, 0.3]}, {"temperature": 2}])
def test_what_the_network_says_of_nothing(settings):
    x, net = images(), Net()
    found = fill_disagreement(
        InfoMask(net, **settings), x, 1, imputers=FILLS, regions=grid(x, 1, 1)
    )
    for number, level in enumerate((0.0, 0.7)):
        logits = net(torch.full_like(x, level)).detach() / settings.get("temperature", 1)
        p = logits.softmax(1).double()
        entropy = [-math.fsum(v * math.log2(v) for v in row if v > 0) for row in p.tolist()]
        assert found.entropy[number].tolist() == pytest.approx(entropy, abs=1e-5)
        assert torch.equal(found.top_class[number], p.argmax(1))
        torch.testing.assert_close(
            found.top_probability[number].double(), p.max(1).values, atol=1e-6, rtol=1e-5
        )


def test_classes_that_never_occur_do_not_count():
    x = images()
    infomask = InfoMask(Net(), prior=[0.0, 0.5, 0.0, 0.0, 0.5], trained_with="pc_softmax")
    found = fill_disagreement(infomask, x, 1, imputers=FILLS, regions=grid(x, 1, 1))
    assert set(found.top_class.flatten().tolist()) <= {1, 4}
    assert float(found.entropy.max()) <= 1 + 1e-6


def test_defaults_table_and_figure():
    x = images(height=16, width=16)
    found = fill_disagreement(InfoMask(Net()), x, 1)
    assert found.imputers == ("0", "blur", "local mean", "inpaint")
    text = str(found)
    assert all(name in text for name in found.imputers)
    assert f"{float(found.movement[0].max()):.2f} at most" in text
    _, axes = found.figure((x[0].permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy())
    assert [one.get_title() for one in axes] == ["picture", *found.imputers, "how far it moves"]
    _, axes = found.figure()
    assert len(axes) == 5


def test_a_network_that_sees_no_fill_does_not_move():
    x = images()
    found = fill_disagreement(
        InfoMask(lambda x: x.new_tensor([[1.0, 2.0]]).expand(len(x), 2)),
        x, 1, imputers=FILLS, regions=grid(x, 2, 2),
    )  # fmt: skip
    assert found.movement.eq(0).all()
    assert found.share.eq(0).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"view": "crop"}, "`view` to be one of 'drop', 'keep', 'chain'"),
        ({"imputers": {"0": Constant(0)}}, "`imputers` to hold at least two"),
        ({"imputers": [Constant(0), Blur()]}, "`imputers` to hold at least two"),
        ({"imputers": {"0": Constant(0), "1": 1}}, "`imputer` to be an imputer"),
        ({"infomask": Net()}, "`infomask` to be an InfoMask"),
        ({"infomask": InfoMask(Net(), head="raw")}, "`head` to be one of"),
        ({"target": 9}, "`target` between 0 and 4"),
    ],
)
def test_bad_arguments(arguments, words):
    given = {"infomask": InfoMask(Net()), "inputs": images(), "target": 1, **arguments}
    with pytest.raises(ArgumentError, match=words):
        fill_disagreement(**given)
