"""The engine with a stand-in for its CLI: plugins, locks, changes and what its failures tell."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from slipway.clients import pulumi_engine, pulumi_stack
from slipway.clients.kubectl import Change
from slipway.clients.pulumi_engine import Engine
from slipway.core import process
from slipway.core.errors import DeployError, EnvironmentFault, SlipwayError
from slipway.core.interrupt import Cancelled, Interrupt, in_force


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `pulumi` that is never run."""
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    program = tmp_path / "bin" / "pulumi"
    program.parent.mkdir()
    program.write_text("#!/bin/false\n")
    program.chmod(0o755)
    return program


def engine(cli: Path, variables: dict[str, str] | None = None) -> Engine:
    return Engine(cli.parents[1], cli.parent, "lab", variables or {}, on_line=lambda _: None)


def test_plugins_are_fetched_unless_the_right_one_is_here(cli: Path) -> None:
    name = "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"
    assert pulumi_stack.find_cli() == cli
    assert name not in engine(cli).variables
    wrong = cli.parents[1] / "home" / "plugins" / "resource-kubernetes-v1.0.0"
    wrong.mkdir(parents=True)
    assert name not in engine(cli).variables
    (wrong.parent / f"resource-kubernetes-v{version('pulumi-kubernetes')}").mkdir()
    assert engine(cli).variables[name] == "true"


def test_a_plugin_beside_the_cli_counts(cli: Path) -> None:
    plugin = cli.with_name("pulumi-resource-kubernetes")
    plugin.write_text("#!/bin/false\n")
    plugin.chmod(0o755)
    assert pulumi_stack.has_plugin(cli)


def test_only_locks_of_the_dead_are_removed(cli: Path, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    unreaped = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert unreaped.stdout is not None
    unreaped.stdout.read()  # to its end; nobody waits for it yet
    while process.lives(unreaped.pid):
        time.sleep(0.001)
    folder = tmp_path / "backend" / ".pulumi" / "locks" / "organization" / "slipway" / "lab"
    folder.mkdir(parents=True)
    here = socket.gethostname()
    for name, pid, host in (
        *(("dead", gone.pid, here), ("unreaped", unreaped.pid, here)),
        *(("alive", os.getpid(), here), ("far", gone.pid, "far")),
    ):
        (folder / f"{name}.json").write_text(json.dumps({"pid": pid, "hostname": host, "username": "x"}))
    assert engine(cli, {"PULUMI_BACKEND_URL": f"file://{tmp_path / 'backend'}"}).unlock() == 2
    assert Path(f"/proc/{unreaped.pid}").exists()
    assert sorted(path.stem for path in folder.iterdir()) == ["alive", "far"]
    unreaped.communicate()


def test_a_lock_cut_short_is_told_by_name(cli: Path, tmp_path: Path) -> None:
    file = tmp_path / "backend" / ".pulumi" / "locks" / "organization" / "half.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"pid": 12')
    with pytest.raises(DeployError, match="not readable") as caught:
        engine(cli, {"PULUMI_BACKEND_URL": f"file://{tmp_path / 'backend'}"}).unlock()
    assert caught.value.where == str(file)
    assert "remove that file" in caught.value.action
    assert file.exists()


def test_the_cause_is_pulumis_diagnostics() -> None:
    text = "Updating (lab):\n +  thing creating\n\nDiagnostics:\n  kubernetes:apps/v1:Deployment (deployment):\n    \x1b[31merror:\x1b[0m it broke\n"
    assert pulumi_engine._cause(text, "error: update failed").splitlines() == [
        "Diagnostics:",
        "  kubernetes:apps/v1:Deployment (deployment):",
        "    error: it broke",
    ]


def test_a_lock_is_told_in_pulumis_own_words_alone() -> None:
    words = "error: the stack is currently locked by 1 lock(s).\n  created by me@here (pid 7)"
    assert pulumi_engine._cause("Updating (lab):\n", f"{words}\n") == words
    assert pulumi_engine._cause("it broke\n", " ") == "it broke"


# ---- the CLI as a stand-in that records how it is called and answers as the real one does

STAND_IN = """
import json, os, pathlib, sys

def step(op, kind, urn, **more):
    state = {"type": kind, "urn": urn, "provider": "", "inputs": more.pop("inputs", {}), "outputs": {}}
    side = {"old": state, "new": None} if op == "delete" else {"old": None, "new": state}
    side |= {name: {**state, **more.pop(name)} for name in ("old", "new") if name in more}
    return {"resourcePreEvent": {"metadata": {"op": op, "type": kind, "urn": urn, "provider": "", **side, **more}}}

here = pathlib.Path(__file__).parents[1]
args = [arg for arg in sys.argv[1:] if arg != "--non-interactive"]
names = [name for name in os.environ if name.startswith("PULUMI")]
with (here / "calls").open("a") as file:
    file.write(json.dumps([args, {name: os.environ[name] for name in names}]) + "\\n")
if "--event-log" in args:
    events = [step(*held[:3], **held[3]) for held in json.loads((here / "steps.json").read_text())]
    counts = {"maybeCorrupt": False, "durationSeconds": 1, "resourceChanges": {}, "policyPacks": {}}
    with pathlib.Path(args[args.index("--event-log") + 1]).open("w") as file:
        summary = [] if (here / "no-summary").exists() else [{"summaryEvent": counts}]
        for number, event in enumerate([*events, *summary]):
            file.write(json.dumps({"sequence": number, "timestamp": 1, **event}) + "\\n")
if args[0] == "version":
    print("v3.274.1")
elif args[:2] == ["stack", "init"]:
    (here / "state.json").write_text('{"version": 3, "deployment": {}}')
elif args[:2] == ["stack", "ls"]:
    print(json.dumps([{"name": name, "current": False} for name in ("lab", "other")]))
elif args[:2] == ["stack", "export"]:
    if not (here / "state.json").exists():
        sys.stderr.write("error: no stack named 'lab' found\\n")
        sys.exit(255)
    print((here / "state.json").read_text())
elif (here / "failure").exists() and args[0] == "up":
    sys.stdout.write("Updating (lab):\\nDiagnostics:\\n  error: it broke\\n")
    sys.stderr.write((here / "failure").read_text())
    sys.exit(255)
elif args[0] == "up":
    print("Updating (lab):\\n +  Deployment creating\\n    warning: no address is handed out\\n")
"""


MANY: dict[str, object] = {
    side: {"inputs": dict.fromkeys("abcdef", number)} for number, side in enumerate(("old", "new"))
}
STEPS: list[tuple[str, str, str, dict[str, object]]] = [
    ("refresh", "kubernetes:core/v1:Service", "urn:x::service", {}),
    ("create", "pulumi:pulumi:Stack", "urn:x::slipway-lab", {}),
    ("create", "slipway:serving:ModelServer", "urn:x::mnist", {}),
    ("same", "kubernetes:core/v1:Service", "urn:x::service", {}),
    (
        "create",
        "kubernetes:core/v1:ServiceAccount",
        "urn:x::account",
        {"inputs": {"metadata": {"name": "mnist-server"}}},
    ),
    ("update", "kubernetes:apps/v1:Deployment", "urn:x::deployment", MANY),
    ("create-replacement", "kubernetes:policy/v1:PodDisruptionBudget", "urn:x::budget", {}),
    ("replace", "kubernetes:policy/v1:PodDisruptionBudget", "urn:x::budget", {}),
    ("delete-replaced", "kubernetes:policy/v1:PodDisruptionBudget", "urn:x::budget", {}),
    ("delete", "kubernetes:core/v1:Service", "urn:x::replicas", {"inputs": {"metadata": {"name": "gone"}}}),
]
CHANGES = [
    "create ServiceAccount mnist-server",
    "change Deployment deployment: a: 0 -> 1; b: 0 -> 1; c: 0 -> 1; d: 0 -> 1; and 2 more",
    "replace PodDisruptionBudget budget",
    "remove Service gone",
]


@pytest.fixture
def recorded(cli: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    cli.write_text(f"#!{sys.executable}\n{STAND_IN.replace(chr(92) * 2, chr(92))}")
    (cli.parents[1] / "state.json").write_text('{"version": 3, "deployment": {}}')
    (cli.parents[1] / "steps.json").write_text(json.dumps(STEPS))
    (cli.parent / "Pulumi.yaml").write_text("name: slipway\nruntime: python\n")
    return engine(cli, {"PULUMI_STACK": "lab", "PULUMI_BACKEND_URL": f"file://{cli.parents[1] / 'backend'}"})


def lines(changes: list[Change]) -> list[str]:
    return [change.line() for change in changes]


def calls(engine: Engine, verb: str) -> list[tuple[list[str], dict[str, str]]]:
    lines = (engine.root / "calls").read_text().splitlines()
    return [tuple(call) for call in map(json.loads, lines) if call[0][0] == verb]


def test_up_refreshes_first_and_tells_each_object_that_changed(recorded: Engine) -> None:
    seen: list[str] = []
    recorded.on_line = seen.append
    assert lines(recorded.up()) == CHANGES
    ((args, environ),) = calls(recorded, "up")
    assert {"--yes", "--skip-preview", "--refresh"} <= set(args)
    assert args[args.index("--stack") + 1] == "lab"
    assert "PULUMI_K8S_UPSERT_EXISTING_OBJECTS" not in environ
    assert "Updating (lab):" in seen


def verbs(engine: Engine) -> list[str]:
    """The words of each start of the CLI that say what it is for."""
    lines = (engine.root / "calls").read_text().splitlines()
    return [" ".join(call[0][: 2 if call[0][0] == "stack" else 1]) for call in map(json.loads, lines)]


def test_the_cli_is_started_for_the_state_and_for_the_operation_alone(recorded: Engine) -> None:
    recorded.resources()
    recorded.up()
    assert verbs(recorded) == ["stack export", "up"]
    recorded.up()
    assert verbs(recorded)[2:] == ["stack export", "up"]


def test_the_first_operation_makes_the_stack(recorded: Engine) -> None:
    (recorded.root / "state.json").unlink()
    assert recorded.resources() == set()
    recorded.preview()
    assert verbs(recorded) == ["stack export", "stack export", "stack init", "preview"]
    assert calls(recorded, "stack")[2][0] == ["stack", "init", "--no-select", "lab"]


def test_a_stack_takes_the_place_of_an_empty_one_by_name(recorded: Engine) -> None:
    recorded.rename("other")
    assert recorded.stack == "other"
    assert [args for args, _ in calls(recorded, "stack")] == [
        ["stack", "ls", "--json"],
        ["stack", "rm", "--yes", "other"],
        ["stack", "rename", "other", "--stack", "lab"],
    ]
    (recorded.root / "calls").unlink()
    recorded.stack = "gone"  # as after a kill: it is called otherwise already
    recorded.rename("other")
    assert (recorded.stack, verbs(recorded)) == ("other", ["stack ls"])


def test_a_forgotten_stack_leaves_its_resources(recorded: Engine) -> None:
    recorded.forget()
    assert ["stack", "rm", "--yes", "--force", "--preserve-config", "lab"] in [
        args for args, _ in calls(recorded, "stack")
    ]


BEGUN = {
    "pending_operations": [
        {
            "type": "creating",
            "resource": {
                "urn": "urn:pulumi:lab::slipway::x::deployment",
                "type": "kubernetes:apps/v1:Deployment",
                "inputs": {"metadata": {"name": "mnist-deployment", "namespace": "serving"}},
            },
        }
    ],
    "resources": [
        {"urn": "u", "type": "pulumi:pulumi:Stack"},
        {
            "urn": "v",
            "type": "kubernetes:core/v1:Service",
            "inputs": {"metadata": {"name": "mnist-service", "namespace": "serving"}},
        },
    ],
}


def test_what_a_killed_run_began_is_taken_up_again(recorded: Engine) -> None:
    (recorded.root / "state.json").write_text(json.dumps({"version": 3, "deployment": BEGUN}))
    assert {
        pulumi_engine.Resource("Deployment", "serving", "mnist-deployment"),
        pulumi_engine.Resource("Service", "serving", "mnist-service"),
    } <= recorded.resources()
    recorded.up()
    ((_, environ),) = calls(recorded, "up")
    assert environ["PULUMI_K8S_UPSERT_EXISTING_OBJECTS"] == "true"


def test_a_preview_takes_its_own_configuration(recorded: Engine, tmp_path: Path) -> None:
    assert lines(recorded.preview(tmp_path / "preview.yaml")) == CHANGES
    ((args, _),) = calls(recorded, "preview")
    assert args[args.index("--config-file") + 1] == str(tmp_path / "preview.yaml")
    assert "--refresh" in args
    assert calls(recorded, "up") == []


def test_destroy_removes_the_stack_too(recorded: Engine) -> None:
    assert lines(recorded.destroy()) == CHANGES
    assert len(calls(recorded, "destroy")) == 1
    assert ["stack", "rm", "--yes", "lab"] in [args for args, _ in calls(recorded, "stack")]


FAILURES = [
    ("error: update failed", "`pulumi up` failed", "error: it broke"),
    (
        "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end",
        "found the stack locked",
        "",
    ),
]


@pytest.mark.parametrize(("stderr", "what", "tail"), FAILURES)
def test_failures_tell_the_cause(recorded: Engine, stderr: str, what: str, tail: str) -> None:
    (recorded.root / "failure").write_text(stderr)
    with pytest.raises(DeployError) as caught:
        recorded.up()
    assert what in caught.value.what
    assert caught.value.action
    assert tail in caught.value.tail
    assert caught.value.where == "stack lab"


def test_a_cli_that_is_too_old(recorded: Engine) -> None:
    program = recorded.root / "bin" / "pulumi"
    program.write_text(program.read_text().replace("v3.274.1", "v2.1.0"))
    (recorded.root / "failure").write_text("error: unknown flag: --config-file")
    with pytest.raises(EnvironmentFault) as caught:
        recorded.up()
    assert "2.1.0" in caught.value.what
    assert "it broke" in caught.value.tail
    assert "render" in caught.value.action


BROKEN = [
    ("#!/bin/sh\necho 'no such processor' >&2\nexit 126\n", "does not work", "no such processor"),
    ("\x7fnot a program of this machine", "cannot run", ""),
]


@pytest.mark.parametrize(("program", "what", "tail"), BROKEN)
def test_a_cli_that_does_not_start(recorded: Engine, program: str, what: str, tail: str) -> None:
    (recorded.root / "bin" / "pulumi").write_text(program)
    for verb in (recorded.up, recorded.preview, recorded.destroy):
        with pytest.raises(SlipwayError) as caught:
            verb()
        assert what in caught.value.what
        assert caught.value.tail == tail
        assert "deploy.by: render" in caught.value.action


def test_a_preview_without_its_end(recorded: Engine) -> None:
    (recorded.root / "no-summary").touch()
    with pytest.raises(DeployError, match="incomplete") as caught:
        recorded.preview()
    assert "summary" in caught.value.tail
    assert caught.value.action


def test_a_state_cut_short(recorded: Engine) -> None:
    (recorded.root / "state.json").write_text('{"version": 3, "deploy')
    with pytest.raises(DeployError, match=r"`pulumi stack export` .*incomplete"):
        recorded.up()


def test_a_cli_nobody_waits_for_any_more_is_ended(
    cli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    cli.write_text(
        "#!/bin/sh\n"
        f"[ $1 = version ] && echo v{version('pulumi')} && exit\n"
        f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 300\n"
    )
    ended: list[BaseException] = []

    def act() -> None:
        try:
            engine(cli).preview()
        except BaseException as error:  # noqa: BLE001  # looked at below
            ended.append(error)

    (cli.parent / "Pulumi.yaml").write_text("name: slipway\nruntime: python\n")
    wish = Interrupt()
    with in_force(wish):
        thread = threading.Thread(target=act)
        thread.start()
        while not (tmp_path / "pid").exists() and thread.is_alive():
            thread.join(0.01)
        wish.ask()
        thread.join(60)
    assert [type(error) for error in ended] == [Cancelled]
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"
