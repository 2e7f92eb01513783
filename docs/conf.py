"""The site: `make docs` builds it into build/docs, with no network and warnings as errors."""

import os
import sys
from pathlib import Path

import proxconnect

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
# Tutorials call the command of the environment that builds the site, print plainly and draw their pictures in the page.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ |= {
    "COLUMNS": "80",
    "NO_COLOR": "1",
    "TTY_COMPATIBLE": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
}

project = "proxconnect"
author = "the proxconnect developers"
release = proxconnect.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_design",
    "sphinx_copybutton",
    "extensions.docstrings",
    "extensions.gallery",
    "extensions.mathml",
    "extensions.notebooks",
    "extensions.outside",
]
# The development pages are for readers of the repository.
exclude_patterns = ["checks", "extensions", "development/**", "gallery/pairs/cards.md", "**/.ipynb_checkpoints"]

html_theme = "furo"
html_title = "proxconnect"
html_static_path = ["static"]
html_css_files = ["proxconnect.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 4

# Tutorials run anew at each build, whose outputs are thus real; a cell that fails, or takes longer, fails the build.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "imported-members": True, "show-inheritance": True, "no-value": True}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
# What docstrings put between backticks is code, and a link where it names something that is documented.
default_role = "py:obj"
