"""How Sphinx makes the site: from docstrings, README.md and the pages under experiments/."""

from importlib.metadata import version as installed

from sphinx.application import Sphinx

project = "avalanche-ext"
author = "The avalanche-ext developers"
release = version = installed("avalanche-ext")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]

root_doc = "README"
include_patterns = [
    "README.md",
    "experiments/*.md",
    "experiments/**/*.md",
    "experiments/tutorials/*.ipynb",
    ".docs/**/*.md",
    ".github/CHANGELOG.md",
    ".github/CONTRIBUTING.md",
]
exclude_patterns = [".venv"]

# Notebooks are shown as they are; a test executes them.
nb_execution_mode = "off"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

napoleon_use_ivar = True
# Docstrings write code and names between single backticks, as Markdown does.
default_role = "py:obj"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = "avalanche-ext"
html_extra_path = ["static"]

_CONTENTS = """
```{toctree}
:hidden:
:caption: Tutorials
experiments/tutorials/five_minutes
experiments/tutorials/your_own_method
experiments/tutorials/papers_table
experiments/tutorials/results
experiments/tutorials/plugins
experiments/tutorials/cluster
```

```{toctree}
:hidden:
:caption: Reference
experiments/README
.docs/api/index
experiments/compatibility/README
experiments/compatibility/matrix
.github/CHANGELOG
.github/CONTRIBUTING
```

```{toctree}
:hidden:
:glob:
:caption: Results
experiments/tables
experiments/*/README
```
"""


def setup(app: Sphinx) -> None:
    """Add the table of contents to README.md, which GitHub would show as text."""

    def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
        if page == root_doc:
            source[0] += _CONTENTS

    app.connect("source-read", add_contents)
