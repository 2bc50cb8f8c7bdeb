"""Hooks of mkdocs: the repository's own pages (README, CONTRIBUTING, ...) become pages of the site.

A link that leaves docs/ would be dead on the site. Every file that such a link names is added under
repo/, and the link is turned to it; README.md is the front page. Pages are still written for
readers of the repository.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
START = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
LINK = re.compile(r"(\]\(|<img src=\")([^)#\s\"]+)")


def site_path(path: str) -> str:
    """Where a file of the repository lies on the site."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repo/{path}"


def in_repository(uri: str) -> str:
    """The reverse of `site_path`."""
    if uri == "index.md":
        return "README.md"
    return uri.removeprefix("repo/") if uri.startswith("repo/") else f"docs/{uri}"


def target(page: str, link: str) -> str | None:
    """The file of the repository that a link of a page names.

    Returns:
        None for an address, or if the file does not exist.
    """
    if "://" in link or link.startswith(("mailto:", "/")):
        return None
    path = os.path.normpath(PurePosixPath(page).parent / link).replace(os.sep, "/")
    if (ROOT / path).is_dir():
        path += "/README.md"
    return path if not path.startswith("..") and (ROOT / path).is_file() else None


def on_files(files, config):
    """Add what the pages link to, and what that links to."""
    waiting = list(START) + [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    done: set[str] = set()
    while waiting:
        page = waiting.pop()
        if page in done:
            continue
        done.add(page)
        if files.get_file_from_path(site_path(page)) is None:
            files.append(File.generated(config, site_path(page), abs_src_path=str(ROOT / page)))
        if page.endswith(".md"):
            text = (ROOT / page).read_text("utf-8")
            waiting += [found for _, link in LINK.findall(text) if (found := target(page, link))]
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links to where their files lie on the site; leave code blocks alone."""
    here = in_repository(page.file.src_uri)

    def turned(match: re.Match) -> str:
        found = target(here, match[2])
        if found is None:
            return match[0]
        start = PurePosixPath(page.file.src_uri).parent
        return match[1] + os.path.relpath(site_path(found), start).replace(os.sep, "/")

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else LINK.sub(turned, part) for part in parts)
