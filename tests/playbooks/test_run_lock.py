"""The note that says which run has a host: who gets it, from whom, and what the other one is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import load

run_lock = load("modules/run_lock.py")
refusal = load("action/run_lock.py").refusal
runs = run_lock.runs

# Longer than any number of a process can be
ENDED = {"pid": 1 << 24, "started": ["1"]}


def run(id: str, *processes: dict[str, Any], machine: str = "desk", family: Any = None) -> dict[str, Any]:
    words = f"ansible-playbook site.yml, {id}"
    return {"id": id, "machine": machine, "family": family, "processes": list(processes), "words": words}


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "slipway" / "run.json"


def holder(note: Path) -> str:
    return str(json.loads(note.read_text())["id"])


class TestRuns:
    def test_a_process_is_known_by_its_number_and_its_beginning(self) -> None:
        me = runs.process(os.getpid())
        assert runs.lives(me)
        assert not runs.lives({**me, "started": ["1"]}), "somebody else has the number now"
        assert not runs.lives(ENDED)

    def test_one_run_is_one_ansible_or_several_of_one_program(self) -> None:
        one, other = {"pid": 7, "started": ["1"]}, {"pid": 8, "started": ["2"]}
        assert runs.same(run("a", one), run("b", one))
        assert not runs.same(run("a", one), run("b", other))
        assert not runs.same(run("a", one), run("b", one, machine="another"))
        assert runs.same(run("a", one, family=ENDED), run("b", other, family=ENDED))
        assert not runs.same(run("a", one, family=None), run("b", other, family=None))


class TestTake:
    def test_a_free_host_is_taken_and_a_note_that_cannot_be_read_holds_nothing_up(self, note: Path) -> None:
        assert run_lock.take(note, run("a", ENDED), "") is None
        note.write_text('{"id": "half')
        assert run_lock.take(note, run("b", ENDED), "") is None
        assert holder(note) == "b"

    def test_of_a_run_of_the_same_controller_that_controller_judges(self, note: Path) -> None:
        run_lock.take(note, run("a", {"pid": 7, "started": ["1"]}), "")
        second = run("b", {"pid": 8, "started": ["2"]})
        assert run_lock.take(note, second, "")["id"] == "a"
        assert run_lock.take(note, second, "an earlier one")["id"] == "a", "somebody else was quicker"
        assert holder(note) == "a"
        assert run_lock.take(note, second, "a") is None
        assert holder(note) == "b"

    def test_of_a_run_of_another_controller_its_connection_tells(
        self, note: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        me = runs.process(os.getpid())
        monkeypatch.setattr(runs, "session", lambda: me)
        run_lock.take(note, run("a", ENDED), "")
        there = run("b", ENDED, machine="another")
        assert run_lock.take(note, there, "")["id"] == "a"
        kept = json.loads(note.read_text())
        note.write_text(json.dumps({**kept, "session": ENDED}))
        assert run_lock.take(note, there, "") is None

    def test_of_a_run_on_the_host_itself_the_host_tells(self, note: Path) -> None:
        here = runs.this_machine()
        run_lock.take(note, run("a", runs.process(os.getpid()), machine=here), "")
        assert run_lock.take(note, run("b", ENDED), "")["id"] == "a"
        note.unlink()
        run_lock.take(note, run("a", ENDED, machine=here), "")
        assert run_lock.take(note, run("b", ENDED), "") is None

    def test_plays_side_by_side_of_one_program_share_it_until_the_last_has_ended(self, note: Path) -> None:
        one, other = {"pid": 7, "started": ["1"]}, {"pid": 8, "started": ["2"]}
        assert run_lock.take(note, run("a", one, family=ENDED), "") is None
        assert run_lock.take(note, run("b", other, family=ENDED), "") is None
        assert json.loads(note.read_text())["processes"] == [other, one]

    def test_no_link_is_followed(self, note: Path, tmp_path: Path) -> None:
        note.parent.mkdir()
        note.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match="symbolic links"):
            run_lock.take(note, run("a"), "")


def test_the_refusal_names_the_run_and_says_what_ends_it() -> None:
    said = refusal("cp", run("a"), here=True)
    assert said == (
        "cp is being set up by another run\n  which: ansible-playbook site.yml, a\n"
        "  what to do: wait for it to end, or end it there (Ctrl-C)"
    )
    assert "until its SSH connection closes" in refusal("cp", run("a"), here=False)
