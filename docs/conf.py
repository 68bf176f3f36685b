# The documentation's settings: `make docs`, or sphinx-build -W -b html docs docs/_build/html
from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from captum_infomask import __version__  # noqa: E402  (found by the line above)

project = "captum_infomask"
author = "The captum_infomask authors"
copyright = author
release = version = __version__

extensions = ["mathml", "searched_words", "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = False
language = "en"

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed with their outputs; pytest runs them again
nb_code_prompt_show = "Show the code of the figure"
nb_code_prompt_hide = "Hide the code"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "captum_infomask"
html_math_renderer = "mathml"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

# What people search for, and the page that the search must find first.
searched_words = {
    "huggingface": "hugging_face",
    "hugging face": "hugging_face",
    "segmentation": "segmentation_and_detection",
    "multi-label": "your_model",
    "cuda": "runtimes",
    "medical": "your_model",
    "CLIP": "clip_and_embeddings",
    "regression": "regression",
    "volumes": "signals_and_volumes",
    "onnx": "runtimes",
    "dataframe": "infomap",
    "cite": "cite",
}
