"""Makes a page of docs/TROUBLESHOOTING.md, which the alerts link to: `python help_page.py IN.md OUT.html`."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from markdown_it.token import Token

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title} - clinicpacs</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
code, pre {{ background: #eef2f6; padding: .1em .3em; border-radius: 3px; overflow-x: auto; }}
table {{ border-collapse: collapse; }}
td, th {{ border: 1px solid #bcc7d3; padding: .3em .6em; text-align: left; }}
:target {{ background: #fff3c4; }}
</style></head>
<body><main>
{body}</main></body></html>
"""


def page(markdown: str) -> str:
    """The page; each heading has its text as `id`, as GitHub forms it, for links such as `#orthancdown`."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    _name_headings(tokens)
    title = next((tokens[i + 1].content for i, token in enumerate(tokens) if token.tag == "h1"), "Help")
    return _PAGE.format(title=title, body=parser.renderer.render(tokens, parser.options, {}))


def _name_headings(tokens: list[Token]) -> None:
    for token, text in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", re.sub(r"[^\w-]", "", text.content.lower().replace(" ", "-")))


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(page(source.read_text(encoding="utf-8")), encoding="utf-8")
