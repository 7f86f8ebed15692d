"""Sphinx's configuration of the site; `sources.py` lays out what it reads."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "rnnkit"
author = "The rnnkit authors"
copyright = "2026, the rnnkit authors"

extensions = ["myst_nb", "mathematics"]
include_patterns = ["index.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**", "solutions/**"]
nb_execution_mode = "off"  # the site shows what is stored
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # as GitHub makes them, so that links to headings work in both places
html_math_renderer = "mathml"

# Furo fetches nothing, neither fonts nor icons nor scripts; it follows the reader's dark mode and has a switch for it.
html_theme = "furo"
html_title = "rnnkit: vanishing gradients, measured"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "default"
pygments_dark_style = "github-dark-high-contrast"
