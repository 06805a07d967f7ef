"""What mkdocs does besides: pages of the repository that lie outside of docs/, and links to files that are no pages.

A page under docs/ links to the repository with relative paths, as it is read there. In the site, a link to another page leads
to that page, and in place of a link to any other file stands the file's path: the site does not know where the repository is.
"""

from __future__ import annotations

import os
import re
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


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make the links of a page fit the site."""
    uri = page.file.src_uri
    source = next((source for source, name in PAGES.items() if name == uri), f"docs/{uri}")
    return CODE_OR_LINK.sub(lambda match: _link(match, source, uri), markdown)


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
