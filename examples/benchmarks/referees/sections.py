# What the page says of each referee: what is asked, where it comes from, what the columns are.
from __future__ import annotations

from .faithfulness import FAITHFULNESS, IDSDS
from .ink import INK
from .randomised import RANDOMISED
from .report import Section
from .tetrominoes import TETROMINOES

_WHERE = (
    "*mass*: share of the positive attribution on what is right; *pointing*: whether the largest "
    "value lies there; *best IoU*: of the mask at its best threshold."
)
GRIDS = {
    "GridPG": "The network sees the whole grid.",
    "DiPart": "The network's features are the whole grid's, its pooling sees one cell's only.",
    "DiFull": "The network sees one cell only, so whatever lies outside says nothing: `drop` with "
    "windows that no boundary cuts has a mass of exactly 1. Methods that read a layer are left "
    "out: there they have the cell's features and nothing else, and are right by construction.",
}

SECTIONS = (
    Section(
        "pasted",
        "Pasted photographs",
        "Three of scikit-image's five photographs whose class the network knows, 70 to 125 pixels "
        f"wide, at random places on a texture; the target is one of them with p > 0.02. "
        f"{_WHERE}\n\n**This referee hardly tells methods over superpixels apart**, by "
        "hundredths. A pasted photograph's straight outline is an artefact that superpixels find "
        "by themselves: a map over them that ranks the right photograph first is nearly perfect, "
        "whatever made it.",
    ),
    Section(
        "clutter",
        "Objects in clutter",
        "A handwritten digit, tinted, among other shapes over a photograph, 64 pixels; its ink is "
        "what is right. This command trains the networks, the transformer upon the first blocks of "
        f"the residual one; cases are pictures that they get right. {_WHERE}",
    ),
    *(
        Section(
            kind,
            f"Grids: {kind}",
            f"Rao et al., CVPR 2022, arXiv 2205.10435. Pictures of different classes in a grid; "
            f"each is the target once; its cell is what is right. {about} {_WHERE}",
            plotted=False,
        )
        for kind, about in GRIDS.items()
    ),
    Section(
        "idsds",
        "Single deletion (IDSDS)",
        "Spearman's correlation of the map's sums over 4 × 4 cells with what the logit loses when "
        "a cell becomes grey (Hesse et al., NeurIPS 2024, arXiv 2407.11910). The digits' network "
        "was trained on with cells missing, as they ask; the photographs' was not.",
        IDSDS,
        plotted=False,
    ),
    Section(
        "faithfulness",
        "Faithfulness",
        "*SRG*: area between p(target) while 25 superpixels go, the least important first or the "
        "most, mean over four imputers: grey, blur, local mean, inpainting (Blücher et al., TMLR "
        "2024, arXiv 2401.06654). *insertion*, *deletion* with a blurred fill, *infidelity* and "
        "*sensitivity* are the package's metrics of those names; of the last three less is better.",
        FAITHFULNESS,
        lower=("deletion", "infidelity", "sensitivity"),
        plotted=False,
    ),
    Section(
        "randomised",
        "Randomisation",
        "|Spearman's ρ| of the map before and after layers are re-drawn (Adebayo et al., NeurIPS "
        "2018): a map of what the network learned must change, so less is better.",
        RANDOMISED,
        lower=("forgotten", "last"),
        plotted=False,
    ),
    Section(
        "tetrominoes",
        "XAI-TRIS: a T or an L in noise",
        "Clark et al. 2024, arXiv 2306.12816: patterns, places, shares and network as published, "
        "64 × 64 pixels, for pictures that the network gets right. Smooth (correlated) backgrounds "
        "make suppressors: pixels that help the network and say nothing. Maps count by magnitude, "
        "as published; *precision*: share of the K largest pixels that are right, of K right ones.",
        TETROMINOES,
        plotted=False,
    ),
    Section(
        "ink",
        "The paper's two digits",
        "Does the picture hold the target digit? Qin & Kim, arXiv 1910.02629, Sec. 5.3. *ink IoU*: "
        "of the ink that the mask at 20% of the maximum keeps.",
        INK,
        together="All targets",
    ),
)
