"""The documentation site builds strictly, stands alone, and its pictures hold nothing but pixels.
`make docs` runs the check on its build.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What a browser fetches by itself when it shows a page; a plain link (<a href>) is followed by a
# person only.
FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source|video|audio|object|embed|use)\b[^>]*?\s(?:src|href|data|srcset)=[\"']?([^\"'\s>]+)"
)
IN_STYLES = re.compile(r"(?:@import\s+|url\()\s*[\"']?([^\"')\s;]+)")
# Addresses in the theme's scripts: of a feature that this site does not use (seen below), and in
# comments.
UNUSED = ("mermaid", "https://github.com/")


def faults(site: Path) -> list[str]:
    """Whatever a page of the site would fetch from elsewhere, and files that it names and that are
    not there.
    """
    found = []
    pages, styles = sorted(site.rglob("*.html")), sorted(site.rglob("*.css"))
    for path in [*pages, *styles]:
        text = path.read_text("utf-8")
        names = FETCHED.findall(text) if path.suffix == ".html" else []
        for name in names + IN_STYLES.findall(text):
            here = f"{path.relative_to(site)}: {name[:120]}"
            if re.match(r"(https?:)?//", name):
                found.append(f"from elsewhere: {here}")
            elif not name.startswith(("data:", "#", "${")) and path.name != "404.html":
                target = path.parent / unquote(re.split(r"[?#]", name)[0])
                if not target.exists():
                    found.append(f"not there: {here}")
    for path in pages:
        if re.search(r"class=[\"'][^\"']*\bmermaid\b", path.read_text("utf-8")):
            found.append(
                f"from elsewhere: {path.relative_to(site)}: a mermaid diagram fetches its script"
            )
    for path in sorted(site.rglob("*.js")):
        addresses = set(
            re.findall(
                r"https?://[\w.-]+/[\w@./-]*\.(?:js|css|woff2?)\b",
                path.read_text("utf-8", "replace"),
            )
        )
        found += [
            f"from elsewhere: {path.relative_to(site)}: {a}"
            for a in addresses
            if not any(u in a for u in UNUSED)
        ]
    return found if pages else [f"no pages in {site}"]


@pytest.mark.slow
def test_site_builds_and_stands_alone(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra 'docs' is not installed")
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert faults(site) == []
    reference = (site / "reference.html").read_text("utf-8")
    import sfumato

    assert not [name for name in sfumato.__all__ if f'id="sfumato.{name}"' not in reference]


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        "<style>@import 'https://fonts.example/css';</style>",
        '<img src="not-there.png">',
        '<pre class="mermaid">graph</pre>',
    ],
)
def test_the_check_sees_what_is_fetched(page, tmp_path):
    (tmp_path / "index.html").write_text(
        f'<a href="https://arxiv.org">a link is fine</a>{page}', "utf-8"
    )
    assert len(faults(tmp_path)) == 1


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "pictures").iterdir()), ids=lambda path: path.name
)
def test_pictures_are_small_and_hold_pixels_only(path):
    data = path.read_bytes()
    assert path.suffix == ".png" and len(data) < 300_000
    chunks, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append(data[at + 4 : at + 8].decode("ascii"))
        at += 12 + length
    assert set(chunks) <= {"IHDR", "PLTE", "tRNS", "IDAT", "IEND"}, chunks


if __name__ == "__main__":
    found = faults(Path(sys.argv[1]))
    print("\n".join(found) or f"{sys.argv[1]}: nothing is fetched from elsewhere")
    sys.exit(1 if found else 0)
