"""Ansible: a playbook run through ansible-runner."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway_client.logins import without_logins

from slipway.clients.ansible_inventory import folder_of
from slipway.core import interrupt, process
from slipway.core.errors import LockHeld, ProvisionError
from slipway.core.events import Detail, Emit, Note, silent
from slipway.core.types import HostPlay

_HIDDEN = "Ansible hides this task's output because it holds a secret"
_TAIL = 15
_LOOKS = 0.5  # seconds from one look to the next at whether a play is to end


@dataclass(frozen=True)
class TaskChange:
    """A task that changed something, or would; subject: the files or the sentence it is about."""

    host: str
    task: str
    subject: str = ""

    @property
    def line(self) -> str:
        """As `plan` tells it."""
        return f"{self.host}: {self.task}" + (f" ({self.subject})" if self.subject else "")


@dataclass(frozen=True)
class Failure:
    """A task that failed, or a host that could not be reached.

    message: its own last lines. held: whether it failed because another run has the host.
    """

    host: str
    task: str
    message: str
    held: bool = False


@dataclass(frozen=True)
class Played:
    """What a playbook did. Hosts without a task are not in `hosts`; told: what its set_stats tasks say."""

    hosts: dict[str, HostPlay]
    changes: tuple[TaskChange, ...]
    log: Path
    seconds: float
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        return sum(host.changed for host in self.hosts.values())


def play(
    playbook: Path,
    inventory: Path | Sequence[Path],
    log: Path,
    *,
    check: bool = False,
    diff: bool = False,
    tags: str = "",
    skip_tags: str = "",
    limit: str = "",
    extra: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    emit: Emit = silent,
) -> Played:
    """Run a playbook to its end.

    inventory: of several the last one counts most, and its folder is where relative paths start.
    environment is added to what Ansible is started with. log: file for what ansible-playbook prints. What
    ansible-runner keeps for itself is removed.
    Raises LockHeld when another run has a host, and nothing was changed. Raises ProvisionError when a task
    fails, a host is unreachable or the playbook cannot start: with host, task, the last lines of its message
    and the log. Raises KeyboardInterrupt when it was interrupted.
    Hosts are left as the last task left them: the next run goes on from there.
    """
    from ansible_runner import run

    started = time.monotonic()
    words = [*(["--check"] if check else []), *(["--diff"] if check or diff else [])]
    given = (("--tags", tags), ("--skip-tags", skip_tags), ("--limit", limit))
    words += [word for flag, value in given if value for word in (flag, value)]
    reader = Reader(emit)
    inventories = [path.absolute() for path in ([inventory] if isinstance(inventory, Path) else inventory)]
    with _private_folder() as private:
        ended = run(
            private_data_dir=str(private),
            project_dir=str(playbook.parent if len(inventories) == 1 else folder_of(inventories[-1])),
            playbook=str(playbook.absolute()),
            inventory=[str(path) for path in inventories],
            cmdline=shlex.join(words),
            extravars=dict(extra or {}),
            envvars={
                "ANSIBLE_CONFIG": str(playbook.absolute().parent / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private / "ssh"),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                # plays of one process are one run, and may set up a host side by side (role host's lock)
                "SLIPWAY_RUN_PROCESS": str(os.getpid()),
                "LC_ALL": "C.UTF-8",  # Ansible refuses to start in a locale that is not UTF-8
                **(environment or {}),
            },
            event_handler=reader.take,
            cancel_callback=_cancelled(private),
            ident="play",
            quiet=True,
            suppress_env_files=True,
        )
        printed = private / "artifacts" / "play" / "stdout"
        log.parent.mkdir(parents=True, exist_ok=True)
        told = printed.read_text(encoding="utf-8", errors="replace") if printed.is_file() else ""
        log.write_text(without_logins(told), encoding="utf-8")
    if ended.status == "canceled":
        raise KeyboardInterrupt
    failures = reader.failures()
    if any(failure.held for failure in failures):
        raise held(failures, log)
    if failures:
        raise failed(playbook, failures, log)
    if ended.rc != 0:
        how = "was killed by a signal" if ended.rc is None else f"ended with {ended.rc}"
        raise ProvisionError(
            f"{playbook.name} could not run (ansible-playbook {how})",
            tail=_complaints(log.read_text(errors="replace")),
            action="the log tells what Ansible did not like",
            evidence=(log,),
        )
    return Played(reader.hosts(), tuple(reader.changes), log, time.monotonic() - started, reader.told())


def _cancelled(private: Path) -> Callable[[], bool] | None:
    """What tells ansible-runner that the play is to end; it asks now and then while the play goes on.

    None in the main thread, where it listens to signals itself.
    """
    if threading.current_thread() is threading.main_thread():
        return None
    told = False

    def asked() -> bool:
        nonlocal told
        try:
            interrupt.check()
        except interrupt.Cancelled:
            told = True
            # ansible-runner kills one process group, and the processes that work at tasks have left it
            process.end_marked(str(private))
        return told

    return asked


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder for what ansible-runner keeps. At its end, handlers of signals and ssh are as they were."""
    # a short path: sockets for ssh's shared connections live in it
    private = Path(tempfile.mkdtemp(prefix="slip-play-"))
    (private / "env").mkdir()
    (private / "env" / "settings").write_text(f"pexpect_timeout: {_LOOKS}\n")
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield private
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before:  # ansible-runner takes them over and keeps them
                signal.signal(number, handler)
        _hang_up(private / "ssh")
        shutil.rmtree(private, ignore_errors=True)


def _complaints(printed: str) -> str:
    """What Ansible said on its way out: from its first word of an error on, else its last lines."""
    lines = printed.splitlines()
    first = next((number for number, line in enumerate(lines) if "error" in line.lower()), -_TAIL)
    return "\n".join(lines[first:][:_TAIL])


def held(failures: Sequence[Failure], log: Path) -> LockHeld:
    """The error of hosts that another run has, with its own words about that run."""
    having = [failure for failure in failures if failure.held]
    return LockHeld(
        "another run sets up the same hosts",
        where=", ".join(failure.host for failure in having),
        tail=having[0].message,
        action="wait for it to end, or end it where it runs (Ctrl-C), then run the same command again",
        evidence=(log,),
    )


def failed(playbook: Path, failures: Sequence[Failure], log: Path) -> ProvisionError:
    """The error of a playbook, for people: the first failure in full, the other hosts below it.

    Those that failed at the same task are told with all that they say beside it.
    """
    first, *others = failures
    also, told = [], set(first.message.splitlines())
    for other in others:
        lines = other.message.splitlines() if other.task == first.task else []
        lines = [line for line in lines if line not in told]
        told.update(lines)
        also.append(f"{other.host}: `{other.task}` failed: " + ("\n".join(lines) or _last(other.message)))
    return ProvisionError(
        f"task `{first.task}` of {playbook.name} failed",
        where=first.host,
        tail="\n".join([first.message, *also]),
        action="fix the cause and run the same command again: it goes on where this one stopped",
        evidence=(log,),
    )


def _last(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[-1] if lines else "no message"


@dataclass
class Reader:
    """Collects ansible-runner's events into typed results."""

    emit: Emit = silent
    changes: list[TaskChange] = field(default_factory=list)
    _stats: dict[str, Any] = field(default_factory=dict)
    _seconds: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    _failed: dict[str, Failure] = field(default_factory=dict)
    _changed_in_loop: set[str] = field(default_factory=set)  # hosts in a loop whose results are hidden

    def take(self, event: Mapping[str, Any]) -> bool:
        """ansible-runner's event_handler. Returns whether ansible-runner keeps the event in a file."""
        data = event.get("event_data", {})
        match event.get("event"):
            case "playbook_on_play_start":
                self.emit(Note(str(data.get("name") or data.get("play"))))
            case "runner_item_on_ok":
                if _says_changed(event):
                    self._changed_in_loop.add(str(data["host"]))
            case "runner_on_ok" | "runner_on_failed" | "runner_on_unreachable" as kind:
                in_loop = str(data["host"]) in self._changed_in_loop
                self._result(kind, data, secretly=in_loop or _says_changed(event))
                self._changed_in_loop.discard(str(data["host"]))
            case "playbook_on_stats":
                self._stats = dict(data)
        return False

    def _result(self, kind: str, data: Mapping[str, Any], *, secretly: bool) -> None:
        """secretly: of a task that holds a secret Ansible tells that it changed something, and no more."""
        host, task, result = str(data["host"]), _task(data), data.get("res") or {}
        role = data.get("role") or "playbook"
        self._seconds[host][role] = self._seconds[host].get(role, 0.0) + float(data.get("duration") or 0)
        if kind != "runner_on_ok":
            self._failed[host] = Failure(host, task, message(result), held="held_by" in result)
            self.emit(Detail(f"failed: {task}", host))
        elif result.get("changed") or secretly:
            self.changes.append(TaskChange(host, task, _subject(result)))
            self.emit(Detail(f"changed: {task}", host))
        else:
            self.emit(Detail(f"ok: {task}", host))

    def failures(self) -> list[Failure]:
        """The failure that ended each host. Rescued failures are left out."""
        ended = {**self._stats.get("failures", {}), **self._stats.get("dark", {})}
        if not self._stats:  # cut short before Ansible counted
            ended = dict.fromkeys(self._failed, 1)
        return [
            self._failed.get(host, Failure(host, "unknown", "no message was seen"))
            for host, count in ended.items()
            if count
        ]

    def told(self) -> dict[str, Any]:
        """What the play's set_stats tasks say; ansible-runner calls it artifacts, as AWX does."""
        return dict(self._stats.get("artifact_data") or {})

    def hosts(self) -> dict[str, HostPlay]:
        """Counts, seconds and changed tasks of each host."""
        stats = self._stats

        def count(kind: str, host: str) -> int:
            return int(stats.get(kind, {}).get(host, 0))

        # a task delegated to this controller counts for the host it was for
        names = [name for name in stats.get("processed", {}) if name != "localhost"]
        return {
            name: HostPlay(
                ok=count("ok", name),
                changed=count("changed", name),
                failed=count("failures", name) + count("dark", name),
                skipped=count("skipped", name),
                roles={role: round(spent, 3) for role, spent in self._seconds[name].items()},
                changed_tasks=tuple(change.task for change in self.changes if change.host == name),
            )
            for name in names
        }


def _task(data: Mapping[str, Any]) -> str:
    role, task = data.get("role"), str(data.get("task"))
    return f"{role} : {task}" if role else task


def _says_changed(event: Mapping[str, Any]) -> bool:
    """Whether a result that Ansible hides, as it holds a secret, is printed as a change."""
    hidden = "censored" in (event.get("event_data", {}).get("res") or {})
    return hidden and re.search(r"^changed: \[", str(event.get("stdout")), re.MULTILINE) is not None


def message(result: Mapping[str, Any]) -> str:
    """The last lines of why a task failed; of a loop, those of the items that failed."""
    if "censored" in result:
        return _HIDDEN
    items = [item for item in result.get("results", []) if isinstance(item, dict) and item.get("failed")]
    if items:
        return "\n".join(f"{item.get('item')}: {message(item)}" for item in items)
    parts = [str(result.get("msg") or "")]
    parts += [str(result[key]) for key in ("module_stderr", "stderr", "stdout") if result.get(key)][:1]
    lines = [line for part in parts for line in part.strip().splitlines() if line.strip()]
    return "\n".join(lines[-_TAIL:])


def _subject(result: Mapping[str, Any]) -> str:
    """The file or the sentence a change is about; empty when the task's name says it all."""
    arguments = (result.get("invocation") or {}).get("module_args") or {}
    for key in ("dest", "path"):
        if result.get(key) or arguments.get(key):
            return str(result.get(key) or arguments[key])
    if isinstance(result.get("written"), list):  # slipway.serving.files
        return ", ".join(map(str, result["written"]))
    return str(result["msg"]) if isinstance(result.get("msg"), str) else ""


def _hang_up(sockets: Path) -> None:
    """End ssh's shared connections: they would outlive the run, and the hosts behind them."""
    for socket in sockets.glob("*") if sockets.is_dir() else ():
        process.run(
            ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "-q", "host"], check=False, timeout=10
        )
