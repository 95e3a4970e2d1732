"""How the documents become a site: by ``tox -e docs``, or by ``sphinx-build`` where the extra ``docs`` is installed."""

import sys
from pathlib import Path

import raftkv

sys.path.insert(0, str(Path(__file__).parent))  # our own extension lies beside this file

project = "raftkv"
author = "the authors of raftkv"
copyright = "MIT licence"  # noqa: A001  Sphinx's name for it
version = release = raftkv.__version__

extensions = ["sphinx.ext.autodoc", "sphinx_click", "sphinx_copybutton", "raftkv_site"]
exclude_patterns = ["recipes", "raftkv_site"]
html_theme = "furo"
html_title = "raftkv"
html_static_path = ["raftkv_site/static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False

# Shell blocks show prompts and answers: what is copied are the lines that one types.
copybutton_prompt_text = "$ "

highlight_language = "text"
smartquotes = False  # -- is an option's beginning here
default_role = "literal"
pygments_style = "friendly"
pygments_dark_style = "github-dark"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
python_maximum_signature_line_length = 80
