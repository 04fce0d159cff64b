"""How Sphinx makes a site of these pages: `make docs`."""

project = "Affectory"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "Affectory"
myst_heading_anchors = 4
exclude_patterns = ["README.md"]
html_show_copyright = False
