"""A lab that is not wholly taken down fails the suite, whether `down` says so or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import conftest
from tests.e2e.conftest import Finished, Project


@pytest.mark.parametrize(
    ("code", "left", "said"),
    [(0, [], ""), (3, [], "down ended with 3"), (0, ["interface slip-1"], "interface slip-1")],
    ids=["gone", "down fails", "a trace is left"],
)
def test_what_down_leaves_is_an_error(
    code: int, left: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Project, *words: str, **_: object) -> Finished:
        assert words == ("down",)
        return Finished(code, "", "why")

    monkeypatch.setattr(Project, "run", run)
    monkeypatch.setattr(conftest, "traces", lambda _name: left)
    if not said:
        Project(tmp_path).take_down()
        return
    with pytest.raises(AssertionError, match=said):
        Project(tmp_path).take_down()
