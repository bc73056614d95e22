"""The documentation as `make docs` builds it: no warning, nothing fetched, every reference page in it."""

from __future__ import annotations

import html
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from slipway.core import process
from slipway.core.schema import leaves

from docs import reference_pages

ROOT = Path(__file__).parents[3]


def build(folder: Path, config: Path = ROOT / "mkdocs.yml") -> process.Completed:
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    # the theme's notice about a MkDocs 2, which mkdocs<2 in pyproject.toml answers
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    argv += ["--config-file", str(config), "--site-dir", str(folder)]
    return process.run(argv, cwd=ROOT, check=False, timeout=120, env=quiet)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    done = build(folder)
    assert done.returncode == 0, done.output
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_that_is_made_is_in_the_site_and_not_in_the_repository(site: Path) -> None:
    for page in reference_pages.pages():
        assert (site / page).with_suffix(".html").is_file(), page
        assert not (ROOT / "docs" / page).exists(), page


def test_the_settings_page_shows_every_key(site: Path) -> None:
    text = html.unescape((site / "reference" / "settings.html").read_text(encoding="utf-8"))
    missing = [key for key in leaves() if f"<code>{key}</code>" not in text]
    assert not missing


def test_the_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loading = re.compile(
        r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?(?:https?:)?//"""
        r"""|<link(?![^>]*\srel=["']?canonical)[^>]*\shref=["']?(?:https?:)?//"""
        r"""|@import\s|url\(["']?(?:https?:)?//"""
    )
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 20
    found = {str(page.relative_to(site)): loading.findall(page.read_text(encoding="utf-8")) for page in pages}
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("[gone](gone.md)", "gone.md"),
        ("[no such place](model.md#no-such-place)", "no-such-place"),
    ],
)
def test_a_broken_link_ends_the_build(tmp_path: Path, line: str, complaint: str) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{line}\n")
    config = {
        "INHERIT": str(ROOT / "mkdocs.yml"),
        "docs_dir": str(tmp_path / "docs"),
        "hooks": [str(ROOT / "docs" / "reference_pages.py")],
    }
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode == 1
    assert complaint in done.stderr
