"""Evidence and relay where attention has the places before the pictures, or a learned query."""

import pytest
import torch
from tiny import randomise
from torch import nn

from captum_infomask import InfoMask


class PooledByAttention(nn.Module):
    """Patches as tokens that one learned query reads, as in SigLIP."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.query = nn.Parameter(torch.zeros(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2).relu()
        query = self.query.repeat(len(x), 1, 1)
        return self.head(self.attention(query, tokens, tokens, need_weights=False)[0][:, 0])


class PlacesFirst(nn.Module):
    """Tokens in the first dimension, (L, N, C), in all blocks, as in OpenAI's CLIP."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).permute(2, 0, 1)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        tokens = tokens + self.norm(tokens).relu()
        return self.head(tokens.permute(1, 0, 2).mean(1))


@pytest.mark.parametrize("view", ["relay", "evidence"])
@pytest.mark.parametrize("network", [PooledByAttention, PlacesFirst])
def test_a_batch_has_the_cells_of_each_picture_alone(network, view):
    model = randomise(network(), 0.7).double().eval()
    pictures = torch.randn(4, 3, 8, 8).double()  # as many pictures as cells of the map
    together = InfoMask(model).score_regions(pictures, target=1, view=view)
    assert together.scores.shape == (4, 4)
    assert "2 × 2 cells" in together.engine
    alone = [InfoMask(model).score_regions(one[None], target=1, view=view) for one in pictures]
    torch.testing.assert_close(
        together.scores, torch.cat([one.scores for one in alone]), rtol=0, atol=1e-9
    )
    assert float(together.residual.abs().max()) < 1e-6
    assert together.scores.abs().amax() > 0.05


def test_relay_shares_a_learned_query_out_at_many_points():
    # So far from linear that one point is not enough, and many are taken.
    model = randomise(PooledByAttention(), 1.0).eval()
    pictures = torch.randn(2, 3, 8, 8)
    found = InfoMask(model).score_regions(pictures, target=0, view="relay")
    assert float(found.residual.abs().max()) < 0.02
