"""`pulumi` typed by hand: somebody else's program, the policy pack, the package for other languages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from slipway.artifacts import cache, from_modules
from slipway.core import project
from slipway.core.context import Context
from slipway.core.state import State
from slipway_stacks import pack

from tests.stacks import control_plane

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]  # the first on a machine builds the engine
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
IMAGES = {last: f"registry.lab:5000/models/any@sha256:{last * 64}" for last in "ad"}


@dataclass
class Shell:
    """A folder to type `pulumi` in, with its own PULUMI_HOME and backend."""

    folder: Path
    engine: Path
    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "backend").mkdir(parents=True)
        plugins = self.engine.parents[1] / "home" / "plugins"
        # not a link to the folder: Pulumi writes beside a plugin when it was last used
        shutil.copytree(
            plugins,
            self.folder / "home" / "plugins",
            copy_function=lambda this, to: cache.link(Path(this), Path(to)),
        )

    def pulumi(self, *words: str, code: int = 0, at: Path | None = None) -> str:
        done = subprocess.run(
            ["pulumi", *words, "--non-interactive", "--color=never"],
            cwd=at or self.folder,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")},
                "PATH": f"{self.engine.parent}{os.pathsep}{os.environ['PATH']}",
                "PULUMI_HOME": str(self.folder / "home"),
                "PULUMI_BACKEND_URL": f"file://{self.folder / 'backend'}",
                "PULUMI_CONFIG_PASSPHRASE": "x",
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
                "PYTHONPATH": str(ROOT / "stacks"),
                **self.more,
            },
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    ctx = Context(state=State(folder / ".slipway"), run=folder / "run", project=folder)
    found = from_modules.pulumi(ctx, network=True)  # the cache entry that the chain uses
    assert found is not None
    return found


@pytest.fixture
def shell(engine: Path, plane: control_plane.ControlPlane, tmp_path: Path) -> Iterator[Shell]:
    """The program of two models, with its stack, beside a checkout's policy pack."""
    shell = Shell(tmp_path / "here", engine, {"KUBECONFIG": str(plane.kubeconfig)})
    shutil.copytree(HERE / "two_models", shell.folder, dirs_exist_ok=True)
    shutil.copytree(ROOT / "stacks" / "policies", shell.folder / "stacks" / "policies")
    (shell.folder / ".venv").symlink_to(sys.prefix)
    shell.pulumi("stack", "init", "dev")
    for key, value in (("digits", IMAGES["a"]), ("clothes", IMAGES["d"]), ("namespace", tmp_path.name)):
        shell.pulumi("config", "set", key, value.replace("_", "-"))
    yield shell
    plane.kubectl.run(
        ["delete", "namespace", tmp_path.name.replace("_", "-"), "--ignore-not-found", "--wait=false"]
    )


@pytest.mark.lab
def test_two_models(shell: Shell, plane: control_plane.ControlPlane) -> None:
    shell.pulumi("up", "--yes", "--skip-preview")
    space = shell.pulumi("config", "get", "namespace").strip()
    found = plane.kubectl.get("deployments", namespace=space)["items"]
    ready = {item["metadata"]["name"]: item["status"].get("readyReplicas") for item in found}
    assert ready == {"digits-deployment": 2, "clothes-deployment": 1}
    told = json.loads(shell.pulumi("stack", "output", "--json"))
    assert told == {"digits": f"digits-service.{space}:8500", "clothes": f"clothes-service.{space}:8500"}
    assert "unchanged" in shell.pulumi("preview", "--expect-no-changes")
    shell.pulumi("destroy", "--yes", "--skip-preview")
    assert plane.kubectl.find("namespace", space) is None


@pytest.mark.lab
def test_several_models_of_one_stack(engine: Path, plane: control_plane.ControlPlane, tmp_path: Path) -> None:
    """slipway's own program with `models` in its configuration; nobody asks for an image of the stack's."""
    shell = Shell(tmp_path / "here", engine, {"KUBECONFIG": str(plane.kubeconfig)})
    shutil.copytree(ROOT / "stacks", shell.folder / "stacks", ignore=shutil.ignore_patterns("envs"))
    (shell.folder / "stacks" / "envs").mkdir()
    shutil.copy(ROOT / "Pulumi.yaml", shell.folder)
    (shell.folder / ".venv").symlink_to(sys.prefix)
    space = tmp_path.name.replace("_", "-")
    shell.pulumi("stack", "init", "several")
    shell.pulumi("config", "set", "namespace", space)
    for key, value in (
        ("models.digits.image", IMAGES["a"]),
        ("models.digits.replicas", "2"),
        ("models.clothes.image", IMAGES["d"]),
        ("models.clothes.replicsa", "1"),
    ):
        shell.pulumi("config", "set", "--path", key, value)
    said = shell.pulumi("preview", code=1)
    assert "models.clothes.replicsa: unknown key; did you mean replicas?" in said
    shell.pulumi("config", "rm", "--path", "models.clothes.replicsa")
    shell.pulumi("config", "set", "--path", "models.clothes.replicas", "1")
    try:
        shell.pulumi("up", "--yes", "--skip-preview")
        found = plane.kubectl.get("deployments", namespace=space)["items"]
        ready = {item["metadata"]["name"]: item["status"].get("readyReplicas") for item in found}
        assert ready == {"digits-deployment": 2, "clothes-deployment": 1}
        told = json.loads(shell.pulumi("stack", "output", "models", "--json"))
        assert {name: one["service"] for name, one in told.items()} == {
            "digits": "digits-service",
            "clothes": "clothes-service",
        }
        assert "unchanged" in shell.pulumi("preview", "--expect-no-changes")
        shell.pulumi("config", "rm", "--path", "models.clothes")
        shell.pulumi("up", "--yes", "--skip-preview")
        left = plane.kubectl.get("deployments", namespace=space)["items"]
        assert [item["metadata"]["name"] for item in left] == ["digits-deployment"]
        shell.pulumi("destroy", "--yes", "--skip-preview")
        assert plane.kubectl.find("namespace", space) is None
    finally:
        plane.kubectl.run(["delete", "namespace", space, "--ignore-not-found", "--wait=false"])


@pytest.mark.lab
def test_the_policy_pack_lets_pass_the_component_and_stops_a_folder_of_the_host(shell: Shell) -> None:
    words = ("preview", "--policy-pack", "stacks/policies")
    assert f"{pack.NAME}@v" in shell.pulumi(*words)
    program = shell.folder / "__main__.py"
    host = '"volumes": [{"name": "host", "hostPath": {"path": "/"}}]'
    program.write_text(program.read_text().replace('"replicas": 2', f'{host}, "replicas": 2'))
    said = shell.pulumi(*words, code=1)
    assert "[mandatory]  pods-apart-from-host  (kubernetes:apps/v1:Deployment: digits-deployment)" in said
    assert "volume host: hostPath" in said


@pytest.mark.soak  # pip installs 150 MB for it
def test_programs_in_other_languages_get_the_components_schema(engine: Path, tmp_path: Path) -> None:
    """Installed from its sources into a venv of its own, as `pulumi package add` does it."""
    shell = Shell(tmp_path / "here", engine, {"PYTHONPATH": ""})
    shutil.copytree(
        ROOT / "stacks", tmp_path / "stacks", ignore=shutil.ignore_patterns("envs", "__pycache__", ".venv")
    )
    schema = json.loads(shell.pulumi("package", "get-schema", str(tmp_path / "stacks" / "package")))
    assert (schema["name"], list(schema["resources"])) == ("slipway", ["slipway:index:ModelServer"])
    assert schema["version"] == project.version()
    component = schema["resources"]["slipway:index:ModelServer"]
    assert component["isComponent"]
    assert component["requiredInputs"] == ["image"]
    assert component["inputProperties"]["replicas"]["type"] == "integer"
    assert {"grpcAddress", "restAddress", "namespace"} <= set(component["properties"])
