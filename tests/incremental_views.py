# What the incremental engine gives for the views of a plan, and what the network itself gives.
import torch

from captum_infomask import Incremental
from captum_infomask.attribution.call import prepare
from captum_infomask.attribution.options import Options
from captum_infomask.engines.pixels import draw

EXACT = Incremental(winograd=False)


def passes_of(net, x, engine=EXACT, **arguments):
    """The passes of one call; ``engine.run(plan)`` has not been called."""
    given = {name: arguments.pop(name, None) for name in ("baselines", "feature_mask")}
    further = arguments.pop("additional_forward_args", None)
    options = Options(engine=engine, **arguments)
    return prepare(net, (x,), additional_forward_args=further, options=options, **given)


def literal(net, plan):
    """Each view's picture, drawn alone, through the network itself."""
    with torch.no_grad():
        return torch.cat([net(*draw(plan, torch.tensor([row]))) for row in range(len(plan))])


def through(engine, plan):
    """What an engine at work gives for every view of a plan, each once."""
    found = {}
    with torch.no_grad():
        for rows, output in engine.run(plan):
            assert len(rows) == len(output)
            for row, each in zip(rows.tolist(), output, strict=True):
                assert row not in found
                found[row] = each
    assert sorted(found) == list(range(len(plan)))
    return torch.stack([found[row] for row in range(len(plan))])
