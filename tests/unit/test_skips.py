"""As root on Linux a skipped test fails the run."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest


def judged(marks: set[str], *, skipped: bool) -> conftest.LabCount:
    """The count after one test with these markers."""
    count = conftest.LabCount()
    item: Any = SimpleNamespace(nodeid="a_test", get_closest_marker=lambda name: name in marks or None)
    report = SimpleNamespace(skipped=skipped, when="call")
    hook: Iterator[None] = count.pytest_runtest_makereport(item)
    next(hook)
    with pytest.raises(StopIteration):
        hook.send(SimpleNamespace(get_result=lambda: report))  # type: ignore[attr-defined]  # a generator
    return count


@pytest.mark.parametrize(
    ("marks", "skipped", "status"),
    [
        (set(), True, 1),
        ({"lab"}, True, 1),
        ({"engine"}, True, 1),
        (set(), False, 0),
    ],
    ids=["plain", "lab", "engine", "not skipped"],
)
@pytest.mark.parametrize("root", [True, False], ids=["root on Linux", "elsewhere"])
def test_a_skip_without_excuse_fails_the_run(
    marks: set[str], skipped: bool, status: int, root: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "can_make_hosts", lambda: root)
    count = judged(marks, skipped=skipped)
    session: Any = SimpleNamespace(exitstatus=0)
    count.pytest_sessionfinish(session)
    assert session.exitstatus == (status if root else 0)
    assert count.skipped == (skipped and "lab" in marks)
    assert count.ran == (not skipped and "lab" in marks)


def test_a_file_that_is_skipped_whole_fails_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "can_make_hosts", lambda: True)
    count = conftest.LabCount()
    report: Any = SimpleNamespace(nodeid="a_file", skipped=True)
    count.pytest_collectreport(report)
    assert count.unexcused == ["a_file"]
