"""As root on Linux a skipped test fails the run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest


def judged(marks: set[str], *, skipped: bool) -> conftest.LabCount:
    """The count after one test with these markers."""
    item: Any = SimpleNamespace(get_closest_marker=lambda name: name in marks or None)
    report: Any = SimpleNamespace(nodeid="a_test", keywords={"lab": 1}, skipped=skipped, when="call")
    hook = conftest.pytest_runtest_makereport(item)
    next(hook)
    with pytest.raises(StopIteration) as ended:
        hook.send(report)
    count = conftest.LabCount()
    count.pytest_runtest_logreport(ended.value.value)
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


@pytest.mark.parametrize("root", [True, False], ids=["root on Linux", "elsewhere"])
def test_a_file_that_is_skipped_whole_fails_it_too(root: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "can_make_hosts", lambda: root)
    report = pytest.CollectReport("a_file", "skipped", ("a_file", 1, "why"), [])
    hook = conftest.pytest_make_collect_report()
    next(hook)
    with pytest.raises(StopIteration) as ended:
        hook.send(report)
    assert ended.value.value.outcome == ("failed" if root else "skipped")
