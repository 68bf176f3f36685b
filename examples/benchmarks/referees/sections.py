# What the page says of each referee: what is asked, where it comes from, what the columns are.
from __future__ import annotations

from .faithfulness import FAITHFULNESS, IDSDS
from .ink import INK
from .randomised import RANDOMISED
from .report import Section
from .tetrominoes import TETROMINOES

_WHERE = (
    "*mass* is the share of the positive attribution on the right pixels. *pointing* says "
    "whether the largest value lies there. *best IoU* is the IoU of the mask at its best "
    "threshold."
)
GRIDS = {
    "GridPG": "The network sees the whole grid.",
    "DiPart": "The network computes features of the whole grid, but its pooling sees those of "
    "one cell only.",
    "DiFull": "The network sees one cell only, so the pixels outside have no information: `drop` "
    "with windows inside cells has a mass of exactly 1. Methods that read a layer are left out. "
    "They would see only the cell's features, and would be right by construction.",
}

SECTIONS = (
    Section(
        "pasted",
        "Pasted photographs",
        "Each picture shows three of scikit-image's five photographs whose class the network "
        "knows, 70 to 125 pixels wide, at random places on a texture. The target is one of them "
        f"with p > 0.02. {_WHERE}\n\n**Methods over superpixels differ only by hundredths "
        "here.** Superpixels find the straight outline of a pasted photograph. So every map "
        "over them that ranks the right photograph first is nearly perfect.",
    ),
    Section(
        "clutter",
        "Objects in clutter",
        "A tinted handwritten digit lies among other shapes over a photograph of 64 pixels. The "
        "digit's ink is right. The command above trains the networks; the transformer uses the "
        "first blocks of the residual network. Cases are pictures that the networks classify "
        f"correctly. {_WHERE}",
    ),
    *(
        Section(
            kind,
            f"Grids: {kind}",
            "Rao et al., CVPR 2022, arXiv 2205.10435. Pictures of different classes lie in a "
            f"grid. Each is the target once, and its cell is right. {about} {_WHERE}",
            plotted=False,
        )
        for kind, about in GRIDS.items()
    ),
    Section(
        "idsds",
        "Single deletion (IDSDS)",
        "The measure is Spearman's correlation of the map's sums over 4 × 4 cells with the loss "
        "of the logit when a cell becomes grey (Hesse et al., NeurIPS 2024, arXiv 2407.11910). "
        "As they ask, the training of the digits' network was continued with cells missing. That "
        "of the photographs' network was not.",
        IDSDS,
        plotted=False,
    ),
    Section(
        "faithfulness",
        "Faithfulness",
        "*SRG* is the area between two curves of p(target) while 25 superpixels are removed: the "
        "least important first, and the most important first. It is the mean over four imputers: "
        "grey, blur, local mean, inpainting (Blücher et al., TMLR 2024, arXiv 2401.06654). "
        "*insertion*, *deletion* with a blurred fill, *infidelity* and *sensitivity* are the "
        "package's metrics of those names; for the last three, less is better.",
        FAITHFULNESS,
        lower=("deletion", "infidelity", "sensitivity"),
        plotted=False,
    ),
    Section(
        "randomised",
        "Randomisation",
        "The measure is |Spearman's ρ| between the maps before and after layers are re-drawn "
        "(Adebayo et al., NeurIPS 2018). A map that shows what the network learned must change, "
        "so less is better.",
        RANDOMISED,
        lower=("forgotten", "last"),
        plotted=False,
    ),
    Section(
        "tetrominoes",
        "XAI-TRIS: a T or an L in noise",
        "Clark et al. 2024, arXiv 2306.12816. Patterns, places, shares and network are as "
        "published, with 64 × 64 pixels, for pictures that the network classifies correctly. "
        "Smooth (correlated) backgrounds make suppressors: pixels that help the network but have "
        "no information about the class. As published, we use the magnitude of maps. *precision* "
        "is the share of right pixels among the K largest, if K pixels are right.",
        TETROMINOES,
        plotted=False,
    ),
    Section(
        "ink",
        "The paper's two digits",
        "Does the picture hold the target digit? Qin & Kim, arXiv 1910.02629, Sec. 5.3. *ink "
        "IoU* is the IoU of the target's ink and the ink that the mask at 20% of the maximum "
        "keeps.",
        INK,
        together="All targets",
    ),
)
