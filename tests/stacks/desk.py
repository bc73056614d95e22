"""A namespace of the cluster and a state folder, as a user has them, to deploy from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from slipway.clients.kubectl import Kubectl
from slipway.core.context import Context
from slipway.core.events import Event, Note
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Cluster, Endpoints, ImageRef, Outcome, Registry
from slipway.deploy import stage as deploy_stage

from tests.stacks import control_plane

ROOT = Path(__file__).parents[2]
CANARY = "canary-of-the-password"
GOOD, OTHER, NO_PULL, CRASH = "a", "d", "b", "c"  # last digit of the image's digest, see control_plane


@dataclass
class Desk:
    """One namespace of the cluster and one state folder, as a user has them."""

    plane: control_plane.ControlPlane
    folder: Path
    namespace: str
    by: str = "render"
    events: list[Event] = field(default_factory=list)
    stage: deploy_stage.Deploy = field(default_factory=deploy_stage.Deploy)

    @property
    def ctx(self) -> Context:
        return Context(
            State(self.folder / ".slipway"), self.folder / "run", self.folder, emit=self.events.append
        )

    @property
    def cluster(self) -> Cluster:
        password = self.folder / "password"
        password.write_text(f"{CANARY}\n")
        registry = Registry("registry.lab:5000", "slipway", password)
        return Cluster(self.plane.kubeconfig, self.plane.binary, "", (), registry)

    def image(self, last: str = GOOD, server: Literal["portable", "tensorflow"] = "portable") -> ImageRef:
        return ImageRef("registry.lab:5000/mnist", f"sha256:{last * 64}", "1", server, "mnist", 1, "0")

    def settings(self, **more: Any) -> Settings:
        return Settings.model_validate(
            {"deploy": {"namespace": self.namespace, "timeout": 300, "by": self.by} | more}
        )

    def up(self, last: str = GOOD, **more: Any) -> Outcome[Endpoints]:
        self.ctx.state.keep(self.cluster)  # as the pipeline does with what the stage before made
        return self.stage.run(self.ctx, self.settings(**more), self.cluster, self.image(last))

    def plan(self, last: str = GOOD, **more: Any) -> list[str]:
        return self.stage.plan(self.ctx, self.settings(**more), self.cluster, self.image(last))

    def get(self, *args: str) -> Any:
        return json.loads(self.plane.kubectl.run(["get", *args, "-n", self.namespace, "-o", "json"]).stdout)

    def versions(self) -> dict[tuple[str, str], str]:
        """What changes when anything about our objects does; status of pods included."""
        kinds = "deployment,service,serviceaccount,networkpolicy,pdb,secret,pod,configmap"
        return {
            (item["kind"], item["metadata"]["name"]): item["metadata"]["resourceVersion"]
            for item in self.get(kinds)["items"]
        }

    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]

    def check_out(self) -> None:
        """Put Pulumi's project there, as a checkout has it."""
        shutil.copytree(ROOT / "stacks", self.folder / "stacks", ignore=shutil.ignore_patterns("Pulumi.lab*"))
        shutil.copy(ROOT / "Pulumi.yaml", self.folder)
        (self.folder / ".venv").symlink_to(sys.prefix)

    def started(self, last: str = GOOD, **more: Any) -> subprocess.Popen[str]:
        """`up` in a process group of its own, to be interrupted or killed."""
        plane = {"kubeconfig": str(self.plane.kubeconfig), "binary": str(self.plane.binary)}
        said = {"folder": str(self.folder), "namespace": self.namespace, "by": self.by, "last": last}
        return subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps({**said, **plane, "more": more})],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def pulumi(self, *words: str, input: str = "", check: bool = True) -> str:
        """`pulumi WORDS` by hand, as in a shell with what `slipway env` says; what it printed."""
        settings = Settings.model_validate({"cluster": {"kubeconfig": str(self.plane.kubeconfig)}})
        shell = {**os.environ, **deploy_stage.env(self.ctx, settings)}
        shell["PATH"] = f"{shell['PATH']}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["pulumi", "--non-interactive", "--color=never", *words],
            check=False,
            cwd=self.folder,
            env=shell,
            input=input,
            capture_output=True,
            text=True,
            timeout=300,
        )
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, said
        return said


def _main(said: dict[str, Any]) -> None:
    plane = control_plane.ControlPlane(
        Kubectl(Path(said["binary"]), Path(said["kubeconfig"])),
        Path(said["kubeconfig"]),
        Path(said["binary"]),
    )
    Desk(plane, Path(said["folder"]), said["namespace"], said["by"]).up(said["last"], **said["more"])


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
