"""How Sphinx builds the documentation: `make docs`."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
import atoll  # noqa: E402
from sphinx.pycode.parser import VariableCommentPicker  # noqa: E402

# A function is shown with the one signature that it has when it runs; the overloads, which
# say the same of each number of arguments, are for type checkers.
VariableCommentPicker.is_overload = lambda self, decorators: False

project = "atoll"
author = "atoll contributors"
project_copyright = author
version = release = atoll.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["requirements.txt"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# The text of a signature is enough: links to the types of others lead nowhere here.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!atoll\.[^_]).*")]
suppress_warnings = ["ref.python"]  # an attribute called `name` is one of many

# `name` in a docstring is code.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"atoll {release}"
html_static_path = []
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b7a75",
        "color-brand-content": "#0b7a75",
    },
    "dark_css_variables": {
        "color-brand-primary": "#4cc3bc",
        "color-brand-content": "#4cc3bc",
    },
}

# Where files outside of this folder have a page. What has none is named, not linked.
PAGES = {
    "README.md": "/index.md",
    "SUPPORTED.md": "/supported.md",
    "CHANGELOG.md": "/changelog.md",
    "ARCHITECTURE.md": "/design/index.md",
    "bench/README.md": "/benchmarks.md",
}


def page_links(text, folder):
    """`text` of a file in `folder`, with its links to files as links to pages."""

    def target(match):
        label, where = match["label"], match["where"]
        if re.match(r"[a-z]+:|#|/", where):
            return match[0]
        path, hash_, anchor = where.partition("#")
        file = (folder / path).resolve()
        if file.is_relative_to(DOCS):
            return f"{label}(/{file.relative_to(DOCS)}{hash_}{anchor})"
        page = PAGES.get(str(file.relative_to(ROOT)))
        if page is None:
            return label.lstrip("!").strip("[]")
        return f"{label}({page}{hash_}{anchor})"

    return re.sub(r"(?P<label>!?\[[^][]*\])\((?P<where>[^)\s]+)\)", target, text)


def section(text, heading):
    """What is under the line `heading`, to the next heading of its level."""
    level = heading.split()[0]
    parts = re.split(rf"^{re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)
    if len(parts) != 2:
        raise ValueError(f"there is no {heading!r}")
    return re.split(rf"^{level} ", parts[1], maxsplit=1, flags=re.MULTILINE)[0]


def taken_from(match):
    """A line `% from FILE: HEADING` (or `% from FILE`, for all) of a page."""
    file, _, heading = match[1].partition(": ")
    path = ROOT / file
    text = path.read_text()
    return page_links(section(text, heading) if heading else text, path.parent)


def read_page(app, docname, source):
    """One text has one place: pages take what README and others say already."""
    folder = Path(app.env.doc2path(docname)).parent
    text = page_links(source[0], folder)
    text = re.sub(r"^% from (.+)$", taken_from, text, flags=re.MULTILINE)
    source[0] = text


def plain(app, what, name, obj, options, lines):
    """What is indented below an argument's text, or a result's, is a part of that text:
    docstrings are written to be read in a terminal. And a star is a star."""
    section = ""
    for i, line in enumerate(lines):
        if line and not line.startswith(" "):
            section = line
        indent = 2 if section == "Returns:" else 4
        if section in ("Args:", "Returns:") and line.startswith(" " * (indent + 1)):
            line = " " * indent + line.lstrip()
        if section == "Args:" and re.match(r"  \S", line):  # fn, *args: …
            line = re.sub(r"(?<=, )(\*{1,2})(?=\w)", r"\\\1", line)
        lines[i] = line


def setup(app):
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", plain, priority=100)  # before napoleon
    return {"parallel_read_safe": True}
