"""How Sphinx builds these pages."""

from importlib.metadata import version as installed_version

project = "Runtable"
version = release = installed_version("runtable")
extensions = ["myst_parser", "sphinx.ext.autodoc"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Fills an experiment's run table by itself"}
