"""Makes the pages, which are written to be read in the repository, fit the site that mkdocs builds.

Pages from outside of docs/ are added. A link to a page leads to that page of the site. A link to any other file is replaced by
the file's path, for the site does not know where the repository is. Blocks in lists are indented as mkdocs wants them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "docker/README.md": "docker.md",
}
"""File of the repository -> page of the site."""

CODE_OR_LINK = re.compile(
    r"^```.*?^```|^(?: {4}[^\n]*\n)+|(?<!\[)`[^`\n]+`"  # code, which stays as it is
    r"|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)"
    r"|(?P<attribute>\b(?:src|href)=\")(?P<file>[^\"]+)\"",
    re.M | re.S,
)

ITEM = re.compile(r"([*+-]|\d+\.) +")
"""The mark of an item of a list."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make the links of a page fit the site."""
    uri = page.file.src_uri
    source = next((source for source, name in PAGES.items() if name == uri), f"docs/{uri}")
    return "\n".join(indented(CODE_OR_LINK.sub(lambda match: _link(match, source, uri), markdown).splitlines()))


def indented(lines: Iterable[str]) -> Iterator[str]:
    """Lines in which all that belongs to an item of a list is indented by 4, in place of the width of the item's mark."""
    columns: list[int] = []  # where the text of each open item begins
    fenced = parted = False
    for line in lines:
        text = line.lstrip()
        column = len(line) - len(text)
        while text and columns and column < columns[-1] and not fenced:
            columns.pop()
        start = columns[-1] if columns else 0
        item = None if fenced or column >= start + 4 else ITEM.match(text)
        if item and parted:  # the item before has several blocks
            yield ""
        parted = not item and (parted or not text)
        yield " " * 4 * len(columns) + line[start:] if text else ""
        fenced ^= text.startswith("```")
        if item:
            columns.append(column + item.end())


def _link(match: re.Match[str], source: str, uri: str) -> str:
    target = match["target"] or match["file"]
    if target is None or re.match(r"[a-z]+:|#", target):
        return match[0]
    path, _, anchor = target.partition("#")
    file = os.path.normpath(os.path.join(os.path.dirname(source), path))
    if (ROOT / file).is_dir() and (first := min((ROOT / file).glob("*.md"), default=None)):
        file = str(first.relative_to(ROOT))
    if file in PAGES or file.startswith("docs/"):
        goal = os.path.relpath(PAGES.get(file, file.removeprefix("docs/")), os.path.dirname(uri) or ".")
        goal += f"#{anchor}" * bool(anchor)
        return f'{match["attribute"]}{goal}"' if match["attribute"] else f"{match['image']}[{match['text']}]({goal})"
    if match["attribute"]:
        return match[0]
    return match["text"] if file.endswith(match["text"].strip("`")) else f"{match['text']} (`{file}`)"
