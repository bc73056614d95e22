from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway.core import process
from slipway.core.errors import CommandError, EnvironmentFault
from slipway.core.interrupt import Cancelled, Interrupt, in_force


def test_output_and_input() -> None:
    done = process.run(["sh", "-c", "cat; echo oops >&2"], input="hello")
    assert (done.stdout, done.stderr, done.returncode) == ("hello", "oops\n", 0)


def test_a_failure_carries_argv_code_and_output() -> None:
    with pytest.raises(CommandError) as caught:
        process.run(["sh", "-c", "echo out; echo why >&2; exit 7"], where="cp")
    assert caught.value.returncode == 7
    assert caught.value.lines()[0].startswith("cp: `sh -c")
    assert caught.value.tail == "why"


def test_a_signal_is_called_one() -> None:
    with pytest.raises(CommandError, match="signal 9"):
        process.run(["sh", "-c", "kill -9 $$"])


def test_a_missing_program_is_an_environment_fault() -> None:
    with pytest.raises(EnvironmentFault, match="no-such-program"):
        process.run(["no-such-program"])
    with pytest.raises(EnvironmentFault, match="/no/such/folder"):
        process.run(["true"], cwd=Path("/no/such/folder"))


def test_a_program_that_cannot_be_started_is_one_too(tmp_path: Path) -> None:
    circle, foreign, forbidden = (tmp_path / name for name in ("circle", "foreign", "forbidden"))
    circle.symlink_to(circle)
    foreign.write_bytes(b"\x7fnot a program of this machine")
    foreign.chmod(0o755)
    forbidden.write_text("")
    for program in (circle, foreign, forbidden):
        with pytest.raises(EnvironmentFault, match=f"cannot run `{program}`: [A-Z]"):
            process.run([program])


def test_lines_come_while_it_runs() -> None:
    seen: list[str] = []
    process.run(["sh", "-c", "echo a; echo b >&2; echo c"], on_line=seen.append)
    assert sorted(seen) == ["a", "b", "c"]


def test_a_timeout_ends_the_children_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file, begun = tmp_path / "pid", threading.Event()
    real = subprocess.Popen.wait

    def wait(child: subprocess.Popen[str], timeout: float | None = None) -> int:
        if timeout == 3600:  # the limit under test: it passes once the program has begun, not before
            assert begun.wait(120)
            raise subprocess.TimeoutExpired(child.args, timeout)
        return real(child, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    script = f"sleep 60 & echo $! > {pid_file}; echo begun; wait"
    with pytest.raises(CommandError) as caught:
        process.run(["sh", "-c", script], timeout=3600, on_line=lambda _line: begun.set())
    assert caught.value.tail.splitlines() == ["begun", "no end after 3600 s"]
    child = int(pid_file.read_text())
    deadline = time.monotonic() + 30
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_program_that_does_not_read_its_input_is_judged_by_its_code() -> None:
    assert process.run(["true"], input="x" * 1_000_000).returncode == 0


def test_a_program_that_hangs_without_reading_its_input_runs_into_its_timeout() -> None:
    with pytest.raises(CommandError, match="signal 15") as failed:
        process.run(["sleep", "30"], input="x" * 1_000_000, timeout=0.2)
    assert "no end after 0.2 s" in failed.value.tail


def test_a_daemon_it_leaves_behind_does_not_hold_it() -> None:
    done = process.run(["sh", "-c", "sleep 8 & echo $!"])
    os.kill(int(done.stdout), 9)
    assert done.returncode == 0


def in_a_thread(act: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """A thread that has begun, and what will end it."""
    ended: list[BaseException] = []

    def runs() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001  # looked at by the test
            ended.append(error)

    thread = threading.Thread(target=runs)
    thread.start()
    return thread, ended


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


def test_a_program_nobody_wants_any_more_is_ended_and_what_clears_up_after_it_is_run(tmp_path: Path) -> None:
    def act() -> None:
        try:
            process.run(["sh", "-c", f"sleep 300 & echo $! > {tmp_path}/child; touch {tmp_path}/up; wait"])
        finally:
            process.run(["touch", tmp_path / "cleared"])

    wish = Interrupt()
    with in_force(wish):
        thread, ended = in_a_thread(act)
        while not (tmp_path / "up").exists():
            thread.join(0.01)
        wish.ask()
        thread.join(60)
    assert [type(error) for error in ended] == [Cancelled]
    assert (tmp_path / "cleared").exists()
    assert gone(int((tmp_path / "child").read_text()))


def test_what_is_waited_for_to_be_ready_is_ended_too(tmp_path: Path) -> None:
    def act() -> None:
        with process.running(
            ["sh", "-c", f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 300"],
            ready=lambda line: False,
            timeout=300,
        ):
            raise AssertionError("it never says that it is ready")

    wish = Interrupt()
    with in_force(wish):
        thread, ended = in_a_thread(act)
        while not (tmp_path / "pid").exists():
            thread.join(0.01)
        wish.ask()
        thread.join(60)
    assert [type(error) for error in ended] == [Cancelled]
    assert gone(int((tmp_path / "pid").read_text()))


def test_what_may_be_cancelled_still_ends_and_times_out() -> None:
    def act() -> None:
        assert process.run(["echo", "well"]).stdout == "well\n"
        process.run(["sleep", "300"], timeout=0.3)

    with in_force(Interrupt()):
        thread, ended = in_a_thread(act)
        thread.join(60)
    assert [str(error) for error in ended] == ["`sleep 300` failed: signal 15"]


def test_a_program_that_left_its_group_is_found_by_its_mark(tmp_path: Path) -> None:
    mark = f"MARK-{tmp_path}"
    process.run(
        ["sh", "-c", f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 300' >/dev/null 2>&1 &"],
        env={"FOR": mark},
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    process.end_marked(mark)
    assert gone(int((tmp_path / "pid").read_text()))


def test_what_a_program_says_is_told_line_by_line_and_it_ends_with_the_block(tmp_path: Path) -> None:
    heard: list[str] = []
    told = threading.Event()

    def on_line(line: str) -> None:
        heard.append(line)
        if line == "two":
            told.set()

    script = f"echo $$ > {tmp_path}/pid; echo one; echo two >&2; exec sleep 300"
    with process.streaming(["sh", "-c", script], on_line=on_line) as ended:
        assert told.wait(60)
        assert not ended.is_set()
    assert heard == ["one", "two"]
    assert gone(int((tmp_path / "pid").read_text()))
    with process.streaming(["sh", "-c", "echo three"], on_line=on_line) as ended:
        assert ended.wait(60)
    assert heard[-1] == "three"
