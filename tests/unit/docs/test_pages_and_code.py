"""What the pages say of the code is there: paths, links, decisions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# Pages of the site that are made while it is built (docs/reference_pages.py)
MADE = ROOT / "docs" / "reference"
# A changelog names what was; CONTRIBUTING's examples name what is not there yet.
TELLS_OF_THE_PAST = "CHANGELOG.md"
EXAMPLES = re.compile(r"(^|/)(sbom|chrony)(/|$)")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_path_a_page_names_is_there(page: Path) -> None:
    if page.name == TELLS_OF_THE_PAST:
        return
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:infra|playbooks|stacks|tests|docs|\.ci)/[\w./*-]+)`", text):
        if not EXAMPLES.search(path) and not path.startswith("stacks/envs/Pulumi."):
            assert list(ROOT.glob(path)), path


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", text):
        path = (page.parent / target).resolve()
        assert path.is_file() or path.is_relative_to(MADE), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_page_imports_what_is_gone(page: Path) -> None:
    if page.name != TELLS_OF_THE_PAST:
        assert not re.search(
            r"\binfra\.\w|infra/(mnist|predict|model_server)\b", page.read_text(encoding="utf-8")
        )


DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


@pytest.mark.parametrize(
    ("number", "page"), list(enumerate(DECISIONS, 1)), ids=[page.stem for page in DECISIONS]
)
def test_a_decision_has_its_number_and_its_parts(number: int, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert page.name.startswith(f"{number:04}-")
    assert re.match(rf"# {number}\. \w.*\n\nStatus: (accepted|replaced by \d+), \d{{4}}-\d\d-\d\d\n", text)
    assert re.findall(r"^## (.*)$", text, re.M) == ["Context", "Decision", "Consequences"]


def test_every_decision_is_listed_in_the_overview_and_in_the_navigation() -> None:
    overview = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[(.*)\]\((.*)\)$", overview, re.M)
    titles = [page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for page in DECISIONS]
    assert listed == [(title, page.name) for title, page in zip(titles, DECISIONS, strict=True)]
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert [name for name in str(navigation).split("'") if "decisions/0" in name] == [
        f"decisions/{page.name}" for page in DECISIONS
    ]
