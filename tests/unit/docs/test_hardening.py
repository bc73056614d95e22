"""The page of what is closed names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "hardening.md").read_text(encoding="utf-8")


def test_every_test_it_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    there = set(re.findall(r"def (test_\w+)\(", tests))
    assert named
    assert named - there == set()


def test_every_file_it_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
