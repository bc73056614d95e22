"""The real engine against a real API: it must leave exactly what render leaves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import control_plane
import pytest

from infra import deploy
from infra.core.context import Context
from infra.core.schema import Settings
from infra.core.state import State
from infra.core.types import Cluster, Endpoints, ImageRef, Outcome
from infra.rollout.applying import compare, key_of

pytestmark = [pytest.mark.lab, pytest.mark.engine]
ROOT = Path(__file__).parents[2]
KINDS = "deployment,service,serviceaccount,networkpolicy,poddisruptionbudget"
# What names the way, not the wish: Pulumi's notes, the applyset's mark, addresses handed out by the cluster
OF_THE_WAY = ("pulumi.com/", "applyset.kubernetes.io/")


class Desk:
    """A checkout of the program, a state folder and a namespace for one way of deploying."""

    def __init__(self, plane: control_plane.ControlPlane, folder: Path, namespace: str, by: str) -> None:
        self.plane, self.namespace = plane, namespace
        shutil.copytree(ROOT / "stacks", folder / "stacks", ignore=shutil.ignore_patterns("Pulumi.lab*"))
        shutil.copy(ROOT / "Pulumi.yaml", folder)
        (folder / ".venv").symlink_to(ROOT / ".venv")
        (folder / ".slipway").mkdir()
        self.ctx = Context(State(folder / ".slipway"), folder / ".slipway" / "run", folder)
        self.settings = Settings.model_validate({"deploy": {"namespace": namespace, "by": by}})
        self.cluster = Cluster(plane.kubeconfig, plane.binary, "", (), None)
        self.image = ImageRef(
            "registry.lab:5000/mnist", f"sha256:{'a' * 64}", "1", "portable", "mnist", 1, "0"
        )

    def up(self) -> Outcome[Endpoints]:
        return deploy.Deploy().run(self.ctx, self.settings, self.cluster, self.image)

    def plan(self) -> list[str]:
        return deploy.Deploy().plan(self.ctx, self.settings, self.cluster, self.image)

    def objects(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        out = {}
        for item in self.plane.kubectl.get(KINDS, namespace=self.namespace)["items"]:
            meta = item["metadata"]
            for notes in ("annotations", "labels"):
                kept = {k: v for k, v in meta.get(notes, {}).items() if not k.startswith(OF_THE_WAY)}
                meta.pop(notes, None)
                if kept:
                    meta[notes] = kept
            meta["namespace"] = "somewhere"
            if item["kind"] == "Service" and item["spec"]["clusterIP"] != "None":
                del item["spec"]["clusterIP"], item["spec"]["clusterIPs"]
            if meta["name"] != "default":  # the service account every namespace has
                out[key_of(item)] = item
        return out


def test_engine_and_render_leave_the_same(plane: control_plane.ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "render").mkdir()
    engine = Desk(plane, tmp_path / "engine", "by-engine", "engine")
    render = Desk(plane, tmp_path / "render", "by-render", "render")
    planned = engine.plan()
    first = engine.up()
    assert (first.value.applied_by, first.changed) == ("engine", len(planned))
    assert render.up().value.applied_by == "render"
    assert len(engine.objects()) == 6
    assert [change.line() for change in compare(render.objects(), engine.objects())] == []

    assert engine.up().changed == 0
    assert engine.plan() == []
    plane.kubectl.run(
        ["set", "image", "deployment/mnist-deployment", "mnist-container=other:1", "-n", "by-engine"]
    )
    by_hand = ["change Deployment mnist-deployment: spec.template.spec.containers[0].image"]
    assert engine.plan() == by_hand
    assert engine.up().changed == len(by_hand)
    assert [change.line() for change in compare(render.objects(), engine.objects())] == []

    lines = deploy.destroy(engine.ctx, engine.settings, engine.cluster)
    assert {line.split()[0] for line in lines} == {"remove"}
    assert len(lines) == len(planned)
    assert "remove Namespace by-engine" in lines
    assert plane.kubectl.find("namespace", "by-engine") is None
    deploy.destroy(render.ctx, render.settings, render.cluster)
