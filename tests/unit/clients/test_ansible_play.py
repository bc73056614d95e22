from __future__ import annotations

from pathlib import Path

from slipway.clients import ansible_play
from slipway.clients.ansible_play import Failure, Reader
from slipway.core.events import Event, Note


def event(kind: str, **data: object) -> dict[str, object]:
    return {"event": kind, "event_data": data}


class TestReader:
    def test_counts_seconds_and_changes(self) -> None:
        said: list[Event] = []
        reader = Reader(said.append)
        ok = {"host": "cp", "task": "Install", "role": "docker"}
        reader.take(event("playbook_on_play_start", name="Docker"))
        reader.take(event("runner_on_ok", **ok, duration=1.5, res={"changed": True, "dest": "/etc/x"}))
        reader.take(event("runner_on_ok", **ok, duration=0.25, res={"changed": False}))
        stats = {
            "processed": {"cp": 1, "localhost": 1},
            "ok": {"cp": 2},
            "changed": {"cp": 1},
            "skipped": {"cp": 3},
        }
        reader.take(event("playbook_on_stats", **stats))
        play = reader.hosts()["cp"]
        assert list(reader.hosts()) == ["cp"], "this controller is not a host of the lab"
        assert (play.ok, play.changed, play.failed, play.skipped) == (2, 1, 0, 3)
        assert play.roles == {"docker": 1.75}
        assert play.changed_tasks == ("docker : Install",)
        assert reader.changes[0].subject == "/etc/x"
        assert said[0] == Note("Docker")
        assert reader.failures() == []

    def test_a_change_of_several_files_names_them(self) -> None:
        reader = Reader()
        changed = {"changed": True, "written": ["/etc/x", "/etc/y"]}
        reader.take(event("runner_on_ok", host="cp", task="Write", role="docker", res=changed))
        assert reader.changes[0].subject == "/etc/x, /etc/y"

    def test_a_change_whose_result_is_hidden_is_told_by_its_name(self) -> None:
        reader = Reader()
        hidden = {"censored": "the output has been hidden"}

        def take(kind: str, task: str, said: str, host: str = "cp") -> None:
            reader.take({**event(kind, host=host, task=task, res=hidden), "stdout": said})

        take("runner_on_ok", "One", "[WARNING]: old\nchanged: [cp]")
        take("runner_on_ok", "Two", "ok: [cp]")
        take("runner_item_on_ok", "Each", "changed: [cp] => (item=(censored due to no_log))")
        take("runner_item_on_ok", "Each", "ok: [w] => (item=(censored due to no_log))", "w")
        take("runner_on_ok", "Each", "", "w")
        take("runner_on_ok", "Each", "")
        take("runner_on_ok", "Next", "")
        assert [(change.host, change.task) for change in reader.changes] == [("cp", "One"), ("cp", "Each")]

    def test_a_rescued_failure_is_none(self) -> None:
        reader = Reader()
        reader.take(event("runner_on_failed", host="cp", task="Try", res={"msg": "no"}))
        reader.take(event("playbook_on_stats", processed={"cp": 1}, failures={}, rescued={"cp": 1}))
        assert reader.failures() == []

    def test_what_the_play_says_is_kept(self) -> None:
        reader = Reader()
        assert reader.told() == {}
        reader.take(event("playbook_on_stats", processed={"cp": 1}, artifact_data={"name": {"a": "b"}}))
        assert reader.told() == {"name": {"a": "b"}}

    def test_the_failure_that_ended_a_host_is_told(self) -> None:
        reader = Reader()
        reader.take(event("runner_on_failed", host="cp", task="Try", res={"msg": "rescued"}))
        reader.take(
            event("runner_on_failed", host="cp", task="Start", role="docker", res={"msg": "the true one"})
        )
        reader.take(event("runner_on_unreachable", host="w", task="Look", res={"msg": "no route"}))
        reader.take(event("playbook_on_stats", failures={"cp": 1}, dark={"w": 1}))
        assert reader.failures() == [
            Failure("cp", "docker : Start", "the true one"),
            Failure("w", "Look", "no route"),
        ]

    def test_failures_count_when_ansible_died_before_counting(self) -> None:
        reader = Reader()
        reader.take(event("runner_on_failed", host="cp", task="Start", res={"msg": "boom"}))
        assert [failure.host for failure in reader.failures()] == ["cp"]


class TestMessage:
    def test_the_programs_own_words_follow(self) -> None:
        result = {
            "msg": "non-zero return code",
            "stderr": "E: Unable to locate package x\n",
            "stdout": "Reading",
        }
        assert ansible_play.message(result) == "non-zero return code\nE: Unable to locate package x"

    def test_only_failed_items_of_a_loop(self) -> None:
        result = {
            "msg": "One or more",
            "results": [{"item": "a"}, {"item": "b", "failed": True, "msg": "no b"}],
        }
        assert ansible_play.message(result) == "b: no b"

    def test_a_secret_stays_hidden(self) -> None:
        assert "secret" in ansible_play.message({"censored": "the output has been hidden"})

    def test_long_output_is_cut_to_its_end(self) -> None:
        lines = ansible_play.message({"msg": "", "stderr": "\n".join(map(str, range(100)))}).splitlines()
        assert len(lines) == 15 and lines[-1] == "99"


def test_hosts_that_failed_at_one_task_are_told_with_what_they_say_beside_the_first() -> None:
    first = Failure("w-1", "Look", "no address\nno disk")
    others = [
        Failure("cp", "Look", "no address\nno login\nno CA"),
        Failure("w-2", "Look", "no address\nno disk"),
    ]
    error = ansible_play.failed(Path("site.yml"), [first, *others], Path("log"))
    assert error.where == "w-1"
    assert error.tail.splitlines() == [
        "no address",
        "no disk",
        "cp: `Look` failed: no login",
        "no CA",
        "w-2: `Look` failed: no disk",
    ]


def test_the_error_names_the_first_host_whole_and_the_others_in_a_line(tmp_path: Path) -> None:
    error = ansible_play.failed(
        Path("site.yml"),
        [Failure("cp", "Start", "a\nb"), Failure("w", "Look", "x\nno route")],
        tmp_path / "log",
    )
    assert error.lines() == [
        "cp: task `Start` of site.yml failed",
        "  | a",
        "  | b",
        "  | w: `Look` failed: no route",
        "  what to do: fix the cause and run the same command again: it goes on where this one stopped",
        f"  more in: {tmp_path / 'log'}",
    ]
    assert error.exit_code == 4


def test_hosts_that_another_run_has_are_told_as_that_and_no_task_is_blamed(tmp_path: Path) -> None:
    reader = Reader()
    said = "cp is being set up by another run\n  which: ansible-playbook site.yml, process 7 of ann on desk"
    reader.take(
        event("runner_on_failed", host="cp", task="Take the host", res={"msg": said, "held_by": "process 7"})
    )
    reader.take(event("runner_on_failed", host="w", task="Take the host", res={"msg": "no python"}))
    error = ansible_play.held(reader.failures(), tmp_path / "log")
    assert (error.exit_code, error.where) == (3, "cp")
    assert error.tail == said
