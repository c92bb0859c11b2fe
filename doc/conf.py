# SPDX-License-Identifier: Apache-2.0
"""Sphinx: ``python -m sphinx -n -W --keep-going -b html doc doc/_build/html``."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import deepspin  # noqa: E402
from deepspin.env import start_tensorflow  # noqa: E402

start_tensorflow()  # quietly, and once: autodoc would import it twice

project = "deepspin"
author = "the deepspin developers"
copyright = author
release = version = deepspin.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "dargs.sphinx",
    "pages",  # pages.py beside this file: formulas, command line, tables
]
exclude_patterns = ["_build"]
needs_sphinx = "9.0"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# docstrings: single backticks are code, types are prose ("tf.Tensor, shape (nf, 3)")
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = False
napoleon_custom_sections = [("Attributes", "params_style")]  # of arrays

html_theme = "furo"
html_title = "deepspin"
html_static_path = ["_static"]
html_css_files = ["deepspin.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_use_index = False
html_domain_indices = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
