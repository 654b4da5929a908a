"""
Executed notebooks as pages that open anywhere: one file each, no external load, no script.
"""

from __future__ import annotations

import functools
import html
import logging
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import bleach
import nbformat
from bleach.css_sanitizer import CSSSanitizer
from jinja2 import TemplateError
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pygments.formatters import HtmlFormatter

from truthful_papermill.plain_text import shown

_CSP = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    'font-src data:">'
)

# What our own tables, nbconvert's code listing and Markdown are made of; nothing that loads, submits or runs.
_TAGS = frozenset(
    [
        "a",
        "abbr",
        "b",
        "blockquote",
        "br",
        "caption",
        "code",
        "dd",
        "del",
        "div",
        "dl",
        "dt",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "li",
        "ol",
        "p",
        "pre",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "u",
        "ul",
    ]
)
_ATTRIBUTES = {"*": ["class", "id", "style"], "a": ["href", "title"], "img": ["alt", "src", "width", "height"]}
_STYLES = CSSSanitizer(
    allowed_css_properties=[
        "background-color", "border", "border-bottom", "border-collapse", "border-left", "border-radius", "caption-side", "color", "font-family", "font-size",
        "font-style", "font-variant-numeric", "font-weight", "margin", "max-width", "overflow-wrap", "padding",
        "text-align", "text-decoration", "vertical-align", "white-space",
    ]
)  # fmt: skip

# What a file that is named like a notebook, and is none, makes of reading and of rendering it.
_DAMAGE = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OSError, nbformat.ValidationError,
    TemplateError,
)  # fmt: skip

_WIDE = re.compile(r'<div class="[^"]*\boutput_subarea\b[^"]*"')
_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL | re.IGNORECASE)

# nbconvert's own pages bring some 280 kB of JupyterLab's styles with them, each of them again. Of a folder that is kept for
# seven years, searched for secrets and attached to a ticket, that would be nine tenths.
_PAGE = """<!doctype html>
<html lang="en"><head>{csp}<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>
<main>
{body}
</main>
</body></html>
"""


def compile_pages() -> None:
    """Render one notebook of nothing, so that every later page, also of a process forked from here, has its templates."""
    cells = [new_markdown_cell("0"), new_code_cell("0", outputs=[new_output("stream", text="0")])]  # type: ignore[no-untyped-call]
    _style()
    _exporter().from_notebook_node(new_notebook(cells=cells))  # type: ignore[no-untyped-call]  # nbformat is untyped


def notebook_page(notebook: Path) -> str:
    """
    Render an executed notebook as one offline page: sources and outputs, hostile HTML made harmless.

    A file that is no readable notebook becomes a page that says so: damaged evidence is shown, not left out.
    """
    try:
        return _rendered(notebook)
    except _DAMAGE as error:
        name = html.escape(shown(notebook.name))
        body = f"<h1>{name} is damaged ({type(error).__name__}).</h1>"
        return _PAGE.format(csp=_CSP, title=name, style=_style(), body=body)


def _rendered(notebook: Path) -> str:
    node = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]  # nbformat is untyped
    # A scrap is data for programs; the page shows what people see.
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_scrap(output)]
    body, _ = _exporter().from_notebook_node(node, resources={"metadata": {"name": notebook.stem}})
    # The template may bring scripts for MathJax and widgets, none of which an executed runbook has.
    body = _SCRIPT.sub("", str(body))
    # What is wider than the screen scrolls by itself, and the keyboard has to reach it.
    body = _WIDE.sub(r'\g<0> tabindex="0" role="group" aria-label="Output"', body)
    return _PAGE.format(csp=_CSP, title=html.escape(shown(notebook.stem)), style=_style(), body=body)


def page_of_file(notebook: str) -> str:
    """Render the notebook at the path *notebook*, as `page_of` does."""
    return notebook_page(Path(notebook))


def clean(element: object) -> str:
    """Keep only what cannot load, submit or run."""
    text = element.decode() if isinstance(element, bytes) else str(element)
    return str(
        bleach.clean(text, tags=_TAGS, attributes=_ATTRIBUTES, protocols=["data", "https"], css_sanitizer=_STYLES)
    )


@functools.cache
def _style() -> str:
    own = (files("manual_payout") / "evidence" / "templates" / "notebook.css").read_text("utf-8")
    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    # The formatter also styles what it would lay out itself.
    light, dark = (re.sub(r"^(?!\.highlight \.\w).*\n?", "", style, flags=re.MULTILINE) for style in (light, dark))
    # The formatter's comments are a little too pale on the ground of a cell.
    comments = ".highlight .c1 { color: var(--quiet); }"
    return f"{own}{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n{comments}"


@functools.cache
def _exporter() -> Any:
    # Inside a notebook its remarks would go to the kernel's own log, and so to the terminal of whoever started it.
    quiet = logging.getLogger("manual_payout.pages")
    quiet.addHandler(logging.NullHandler())
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]  # nbconvert is untyped
        log=quiet,
        template_name="basic",
        sanitize_html=True,
        embed_images=True,
        require_js_url="",
        mathjax_url="",
        jquery_url="",
        mermaid_js_url="",
        widget_renderer_url="",
    )
    # nbconvert's own list escapes headings, table heads and styles; its filter takes no options.
    exporter.register_filter("clean_html", clean)  # type: ignore[no-untyped-call]  # nbconvert is untyped
    return exporter


def _is_scrap(output: Any) -> bool:
    return any(mime.startswith("application/scrapbook") for mime in output.get("data", {}))
