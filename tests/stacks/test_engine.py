"""The real engine against a real API: it leaves exactly what render leaves, and goes on after whatever ends it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slipway.clients.endpoints import find_endpoints
from slipway.clients.pulumi_engine import Resource
from slipway.core import process
from slipway.core.errors import DeployError
from slipway.core.retry import Pending, wait_for
from slipway.deploy import leaving
from slipway.deploy.differences import compare, key_of
from slipway.deploy.engine import engine_of
from slipway.deploy.ownership import managers

from tests.stacks import control_plane
from tests.stacks.desk import CRASH, GOOD, NO_PULL, OTHER, Desk

pytestmark = [pytest.mark.lab, pytest.mark.engine]
KINDS = "deployment,service,serviceaccount,networkpolicy,poddisruptionbudget"
# What names the way, not the wish: Pulumi's notes, the applyset's mark
OF_THE_WAY = ("pulumi.com/", "applyset.kubernetes.io/")


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """In a checkout of its own, by the engine; the first test of all may have to build it."""
    desk.by = "engine"
    desk.check_out()
    return desk


def objects(desk: Desk) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What the cluster has, without what only says how it came there or which address it was given."""
    out = {}
    for item in desk.get(KINDS)["items"]:
        meta = item["metadata"]
        for notes in ("annotations", "labels"):
            kept = {
                key: value for key, value in meta.get(notes, {}).items() if not key.startswith(OF_THE_WAY)
            }
            meta.pop(notes, None)
            if kept:
                meta[notes] = kept
        meta["namespace"] = "somewhere"
        if item["kind"] == "Service" and item["spec"]["clusterIP"] != "None":
            del item["spec"]["clusterIP"], item["spec"]["clusterIPs"]
        if meta["name"] != "default":  # the service account every namespace has
            out[key_of(item)] = item
    return out


def pods(desk: Desk) -> set[str]:
    return {pod["metadata"]["uid"] for pod in desk.get("pods")["items"]}


def owners(desk: Desk) -> set[str]:
    """Who applied our objects."""
    held = [
        item
        for item in json.loads(
            desk.plane.kubectl.run(
                ["get", KINDS, "-n", desk.namespace, "-o", "json", "--show-managed-fields"]
            ).stdout
        )["items"]
        if item["metadata"]["name"] != "default"
    ]
    return {name.partition("-")[0] for item in held for name in managers(item)}


def test_up_a_plan_and_up_again(desk: Desk, plane: control_plane.ControlPlane, tmp_path: Path) -> None:
    planned = desk.plan()
    first = desk.up()
    assert (first.value.applied_by, first.changed) == ("engine", len(planned))
    assert len(first.value.replicas) == 3
    assert "by engine" in first.summary
    before = desk.versions()
    again = desk.up()
    assert (again.changed, again.value) == (0, first.value)
    assert desk.plan() == []
    assert desk.plan(replicas=2) == ["change Deployment mnist-deployment: spec.replicas: 3 -> 2"]
    assert desk.versions() == before

    render = Desk(plane, tmp_path / "render", "by-render")
    render.folder.mkdir()
    assert render.up().value.applied_by == "render"
    assert len(objects(desk)) == 6
    assert [change.line() for change in compare(objects(render), objects(desk))] == []
    leaving.destroy(render.ctx, render.settings(), render.cluster)

    lines = leaving.destroy(desk.ctx, desk.settings(), desk.cluster)
    assert {line.split()[0] for line in lines} == {"remove"}
    assert len(lines) == len(planned)
    assert plane.kubectl.find("namespace", desk.namespace) is None
    assert leaving.destroy(desk.ctx, desk.settings(), desk.cluster) == []


def test_what_was_changed_by_hand_is_shown_and_set_back(desk: Desk) -> None:
    desk.up()
    wanted = objects(desk)
    kubectl, space = desk.plane.kubectl, ("-n", desk.namespace)
    kubectl.run(["set", "image", "deployment/mnist-deployment", "mnist-container=other:1", *space])
    kubectl.run(["scale", "deployment/mnist-deployment", "--replicas=1", *space])
    (line,) = desk.plan()
    assert "spec.replicas: 1 -> 3" in line
    assert f"image: other:1 -> {desk.image().reference}" in line
    assert "replicas" in desk.pulumi("preview", "--diff", "--refresh")
    assert desk.up().changed == 1
    assert [change.line() for change in compare(wanted, objects(desk))] == []


def test_an_update_that_cannot_work_leaves_the_old_pods_serving(desk: Desk) -> None:
    first = desk.up()
    for last, told in ((NO_PULL, "ImagePullBackOff"), (CRASH, "ends again and again")):
        with pytest.raises(DeployError) as caught:
            desk.up(last)
        assert told in "\n".join(caught.value.lines())
        found = find_endpoints(
            desk.plane.kubectl, desk.namespace, "mnist-deployment", "mnist-service", "engine"
        )
        assert found.endpoints.replicas == first.value.replicas
    assert len(desk.up(OTHER).value.replicas) == 3
    back = desk.up(GOOD)
    assert len(back.value.replicas) == 3
    containers = [pod["spec"]["containers"][0]["image"] for pod in desk.get("pods")["items"]]
    assert desk.image(GOOD).reference in containers


def test_each_way_takes_over_what_the_other_made(desk: Desk) -> None:
    desk.up(by="render")
    running, wanted = pods(desk), objects(desk)
    assert owners(desk) == {"slipway"}

    taken = desk.up()
    assert (taken.value.applied_by, taken.changed) == ("engine", 0)
    assert "6 objects of render taken over by engine as they are" in desk.notes()
    assert owners(desk) == {"pulumi"}
    assert pods(desk) == running
    assert [change.line() for change in compare(wanted, objects(desk))] == []
    assert desk.get("configmaps")["items"] == [] or "slipway-applyset" not in str(desk.get("configmaps"))
    before = desk.versions()
    assert desk.up().changed == 0
    assert desk.plan() == []
    assert desk.versions() == before

    back = desk.up(by="render")
    assert (back.value.applied_by, back.changed) == ("render", 0)
    assert "6 objects of the engine taken over by render as they are" in desk.notes()
    assert owners(desk) == {"slipway"}
    assert pods(desk) == running
    engine = engine_of(desk.ctx, desk.settings(), desk.plane.kubectl)
    assert engine is not None
    assert engine.resources() <= {Resource("Stack", "", "")}
    assert desk.plan(by="render") == []
    assert desk.up(by="render").changed == 0


def test_what_was_changed_while_it_is_taken_over_is_told(desk: Desk) -> None:
    desk.up(by="render", replicas=2)
    taken = desk.up()
    assert taken.changed == 1
    assert "change Deployment mnist-deployment: spec.replicas: 2 -> 3" in desk.notes()
    assert len(taken.value.replicas) == 3


def of_ours(desk: Desk) -> int:
    found = desk.plane.kubectl.run(["get", KINDS, "-n", desk.namespace, "-o", "name"], check=False).stdout
    return len([name for name in found.split() if not name.endswith("/default")])


def locks(desk: Desk) -> list[Path]:
    return list((desk.ctx.state.pulumi / "backend" / ".pulumi" / "locks").rglob("*.json"))


def locked(desk: Desk) -> bool:
    return bool(locks(desk))


def holder(desk: Desk) -> int:
    """The process that holds the stack's lock; 0 while there is none, or it is being written."""
    for file in locks(desk):
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads(file.read_text())["pid"])
    return 0


# When an up is ended: as soon as Pulumi holds its lock, among the objects, when the last one is asked for
POINTS: dict[str, Callable[[Desk], bool]] = {
    "locked": locked,
    "first object": lambda desk: of_ours(desk) >= 1,
    "fourth object": lambda desk: of_ours(desk) >= 4,
    "last object": lambda desk: of_ours(desk) >= 6,
}


def ended(desk: Desk, point: str, sign: int) -> str:
    """Start an up and end it there; what it had printed."""
    child = desk.started()
    try:
        deadline = time.monotonic() + 240
        while not POINTS[point](desk):
            assert time.monotonic() < deadline
            if child.poll() is not None:
                pytest.fail(f"ended before: {child.communicate()[0]}")
        os.killpg(child.pid, sign)
        return child.communicate(timeout=120)[0]
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()


SEEN = [("first object", signal.SIGKILL), ("fourth object", signal.SIGINT)]
MORE = [(point, sign) for point in POINTS for sign in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)]


def goes_on(desk: Desk, point: str, sign: signal.Signals) -> None:
    ended(desk, point, sign)
    wait_for("Pulumi to end", lambda: no_engine_runs(desk), timeout=60)
    assert len(desk.up().value.replicas) == 3
    assert desk.up().changed == 0
    assert len(objects(desk)) == 6


def no_engine_runs(desk: Desk) -> None:
    """Raise Pending while a program of this state folder is left, or whoever holds its stack's lock."""
    for file in locks(desk):
        if process.lives(json.loads(file.read_text())["pid"]):
            raise Pending(f"{file} is held")
    mine = str(desk.folder).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"pulumi" in words and mine in words:
                raise Pending(words.decode())


@pytest.mark.parametrize(("point", "sign"), SEEN)
def test_after_an_up_that_was_ended_the_next_goes_on(desk: Desk, point: str, sign: signal.Signals) -> None:
    goes_on(desk, point, sign)


@pytest.mark.soak
@pytest.mark.parametrize(("point", "sign"), MORE)
def test_wherever_an_up_was_ended_the_next_goes_on(desk: Desk, point: str, sign: signal.Signals) -> None:
    goes_on(desk, point, sign)


def test_of_two_at_once_the_second_is_refused_by_name(desk: Desk) -> None:
    desk.up()
    first, pulumi = desk.started(OTHER, replicas=4), 0
    try:
        while not (pulumi := holder(desk)):
            assert first.poll() is None, first.communicate()[0]
        os.kill(pulumi, signal.SIGSTOP)  # it holds the lock as long as this test wants
        with pytest.raises(DeployError) as caught:
            desk.up()
        assert "found the stack locked" in caught.value.what
        assert "pulumi cancel" in caught.value.action
    finally:
        if pulumi:
            os.kill(pulumi, signal.SIGCONT)
        said, _ = first.communicate(timeout=300)
    assert first.returncode == 0, said
    assert desk.up(OTHER, replicas=4).changed == 0


def test_by_hand_in_a_shell_with_what_env_says(desk: Desk) -> None:
    desk.up()
    assert "unchanged" in desk.pulumi("preview")
    desk.pulumi("config", "set", "replicas", "2")
    assert "replicas" in desk.pulumi("preview", "--diff")
    desk.pulumi("up", "--yes", "--skip-preview")
    assert desk.get("deployment", "mnist-deployment")["spec"]["replicas"] == 2
    assert "mnist-service" in desk.pulumi("stack", "output", "--json")
    desk.pulumi("refresh", "--yes", "--skip-preview")
    assert "kubernetes" in desk.pulumi("about")
    assert desk.up().changed == 0  # what somebody set there stays
    assert desk.get("deployment", "mnist-deployment")["spec"]["replicas"] == 2
    assert desk.up(replicas=3).changed == 1  # but a setting of slipway's counts more


def test_the_state_moves_and_its_passphrase_changes(desk: Desk) -> None:
    desk.up()
    before = desk.versions()
    state, passphrase = desk.folder / "state.json", desk.ctx.state.pulumi / "passphrase"
    old = passphrase.read_text()
    desk.pulumi("stack", "change-secrets-provider", "passphrase", input="another one\n")
    assert "incorrect passphrase" in desk.pulumi("preview", check=False)
    passphrase.write_text("another one")
    assert old not in {"", "another one"}

    desk.pulumi("stack", "export", "--file", str(state))
    assert "ModelServer" in state.read_text()
    desk.pulumi("stack", "rm", "--force", "--yes", "--preserve-config", "lab")
    desk.pulumi("stack", "init", "lab")
    desk.pulumi("stack", "import", "--file", str(state))
    assert desk.up().changed == 0
    assert desk.versions() == before


def test_the_state_is_kept_where_the_settings_say(desk: Desk, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    desk.up(backend=f"file://{elsewhere}")
    assert any(elsewhere.rglob("lab.json*"))
    assert not any((desk.ctx.state.pulumi / "backend").rglob("lab.json*"))
    assert desk.up(backend=f"file://{elsewhere}").changed == 0


WRONG = {
    "replicas": "-1",
    "serviceType": "Ingress",
    "image": "mnist:latest",
    "memoryLimit": "much",
    "namespace": "No_Name",
}


def test_inputs_are_refused_together_before_anything_is_made(desk: Desk) -> None:
    desk.up()
    for key, value in WRONG.items():
        desk.pulumi("config", "set", key, "--", value)
    said = desk.pulumi("preview", check=False)
    for key in WRONG:
        assert key in said, said
    assert "Traceback" not in said
