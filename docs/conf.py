"""Settings of the documentation site: make docs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "site")]
# Kernels of notebooks import this checkout too.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

import flowcharts  # noqa: E402
import hooks  # noqa: E402
import reference  # noqa: E402

import biril_nm  # noqa: E402

project = "biril-nm"
copyright = "the biril-nm authors"  # noqa: A001
version = release = biril_nm.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["site", "build"]
# Functions, methods and modules of this package that docstrings name must be there.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*"), ("py:.*", r"(?!biril_nm\.).*")]
smartquotes_action = "De"  # dashes and dots; quotation marks stay as they are

html_theme = "furo"
html_title = f"biril-nm {release}"
html_static_path = ["site/static"]
html_css_files = ["biril.css"]
html_copy_source = False

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_merge_streams = True

# These stay short in signatures.
autodoc_type_aliases = {name: name for name in ("ArrayLike", "Count", "Seed")}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
napoleon_use_ivar = True
napoleon_attr_annotations = False  # signatures have them
napoleon_custom_sections = ["Shape", "Units", "Source"]


def setup(app) -> None:
    """Called by Sphinx."""
    reference.write_pages(HERE / "reference")
    hooks.setup(app)
    flowcharts.setup(app)
