"""The stage without a cluster: its inputs from settings, the way it chooses, what a shell gets."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway import artifacts
from slipway.artifacts.pulumi_cli import ensure_cli
from slipway.clients import pulumi_render, pulumi_stack
from slipway.clients.endpoints import Found
from slipway.clients.kubectl import Change, Kubectl
from slipway.clients.pulumi_engine import Resource
from slipway.clients.pulumi_render import Rendered
from slipway.core import retry
from slipway.core.context import Context
from slipway.core.errors import DeployError, EnvironmentFault
from slipway.core.events import Event, Note
from slipway.core.evidence import Reading
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Cluster, Endpoints, ImageRef, Replica
from slipway.deploy import deployed, evidence, leaving
from slipway.deploy import stage as deploy_stage
from slipway.deploy.declaration import Declared, configure, declare
from slipway.deploy.deployed import Earlier
from slipway.deploy.engine import engine_of
from slipway.deploy.ownership import refuse_strangers
from slipway.deploy.way import Way, choose_way
from slipway_stacks import outputs

from tests.standins.clock import stopped

PLUGIN = f"resource-kubernetes-v{version('pulumi-kubernetes')}"
IMAGE = ImageRef("r.lab:5000/mnist", "sha256:" + "a" * 64, "1", "portable", "half_plus_two", 7, "0")


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    project = tmp_path / "project"
    (project / "stacks" / "envs").mkdir(parents=True)
    (project / "Pulumi.yaml").write_text("name: slipway\nstackConfigDir: stacks/envs\n")
    events: list[Event] = []
    return Context(State(project / ".slipway"), project / ".slipway" / "run", project, emit=events.append)


def held(manager: str | None) -> dict[tuple[str, str, str], Any]:
    """What the cluster has of our objects: a Deployment managed by somebody, or nothing."""
    if manager is None:
        return {}
    key = ("Deployment", "serving", "mnist-deployment")
    entry = {"manager": manager, "operation": "Apply"}
    meta = {"name": key[2], "namespace": key[1], "managedFields": [entry]}
    return {key: {"kind": key[0], "metadata": meta}}


class Nowhere:
    """An applier no test here asks anything."""

    namespace = "serving"


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CLI with its plugin in the cache, and none on PATH."""
    cli = tmp_path / "cache" / "pulumi-3.0.0" / "bin" / "pulumi"
    (cli.parents[1] / "home" / "plugins" / PLUGIN).mkdir(parents=True)
    cli.parent.mkdir()
    cli.write_text("")
    monkeypatch.setattr(pulumi_stack, "find_cli", lambda: None)
    monkeypatch.setattr(artifacts, "pulumi", lambda *_: cli)
    return cli


WAYS = [
    ("auto", None, "engine", "Pulumi of pulumi-3.0.0"),
    ("auto", "", "engine", "on PATH"),
    ("auto", "it is v3.1.0", "engine", "Pulumi of pulumi-3.0.0"),
    ("engine", None, "engine", "Pulumi of pulumi-3.0.0"),
    ("render", "", "render", "deploy.by is render"),
]


@pytest.mark.parametrize(("by", "unfit", "way", "why"), WAYS)
def test_the_way_and_why(
    ctx: Context,
    fetched: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    by: str,
    unfit: str | None,
    way: str,
    why: str,
) -> None:
    """unfit: why the CLI on PATH is not used, None where there is none."""
    said: list[Event] = []
    ctx = Context(ctx.state, ctx.run, ctx.project, emit=said.append)
    own = tmp_path / "pulumi"
    own.write_text("")
    if unfit is not None:
        monkeypatch.setattr(pulumi_stack, "find_cli", lambda: own)
        monkeypatch.setattr(pulumi_stack, "unfit", lambda _: unfit)
    assert choose_way(ctx, settings(deploy={"by": by})) == way
    notes = [event.text for event in said if isinstance(event, Note)]
    assert notes[-1].endswith(f" {why}") and notes[-1].startswith(f"deploy by {way}: ")
    assert notes[:-1] == ([f"{own} is not used: {unfit}"] if unfit else [])


def test_the_engine_is_laid_into_the_state_folder(
    ctx: Context, fetched: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "none"))
    kubectl = Kubectl(Path("kubectl"), Path("kubeconfig"))
    assert engine_of(ctx, settings(), kubectl) is None
    assert choose_way(ctx, settings()) == "engine"
    engine = engine_of(ctx, settings(), kubectl)
    assert engine is not None
    assert (engine.root / "bin" / "pulumi").samefile(fetched)
    assert engine.variables["PULUMI_HOME"] == str(ctx.state.pulumi / "home")
    assert engine.variables["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"
    assert deploy_stage.env(ctx, settings())["PULUMI_HOME"] == str(ctx.state.pulumi / "home")


def test_what_pulumi_writes_beside_its_plugins_is_not_in_the_cache(ctx: Context, fetched: Path) -> None:
    plugin = fetched.parents[1] / "home" / "plugins" / PLUGIN / "pulumi-resource-kubernetes"
    plugin.write_text("#!/bin/false\n")
    plugin.chmod(0o755)
    before = sorted(fetched.parents[1].rglob("*"))
    home = ctx.state.pulumi / "home" / "plugins"
    home.parent.mkdir(parents=True)
    home.symlink_to(plugin.parents[1])  # an earlier version's
    for _ in range(2):
        assert ensure_cli(ctx, settings()) == "Pulumi of pulumi-3.0.0"
        (home / f"{PLUGIN}.lastused").write_text("now")
    laid = home / PLUGIN / "pulumi-resource-kubernetes"
    assert laid.stat().st_mode & 0o777 == 0o755
    assert laid.read_text() == plugin.read_text()
    assert sorted(fetched.parents[1].rglob("*")) == before


def test_a_machine_that_cannot_have_the_engine(
    ctx: Context, fetched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Path:
        raise EnvironmentFault("this machine has 2.0 GB of memory", action="set deploy.by: render")

    said: list[Event] = []
    ctx = Context(ctx.state, ctx.run, ctx.project, emit=said.append)
    monkeypatch.setattr(artifacts, "pulumi", fails)
    assert choose_way(ctx, settings()) == "render"
    assert said == [Note("deploy by render: there is no engine here: this machine has 2.0 GB of memory")]
    with pytest.raises(EnvironmentFault) as caught:
        choose_way(ctx, settings(deploy={"by": "engine"}))
    assert "deploy.by: render" in caught.value.action


class Engine:
    def __init__(self, *held: Resource) -> None:
        self.held = set(held)

    def resources(self) -> set[Resource]:
        return self.held


OURS = Resource("Deployment", "serving", "mnist-deployment")
STRANGERS = [
    ("slipway", None, True, ""),
    (None, None, True, ""),
    ("helm", None, False, "deploy.namespace"),
    ("pulumi-kubernetes-1", None, False, "deploy.namespace"),
    ("pulumi-kubernetes-1", Engine(OURS), True, ""),
    ("pulumi-kubernetes-1", Engine(), False, "deploy.namespace"),
    ("slipway", Engine(OURS), True, ""),
    ("helm", Engine(OURS), False, "deploy.namespace"),
]


@pytest.mark.parametrize(("manager", "engine", "ok", "action"), STRANGERS)
def test_what_something_else_made_is_refused(
    manager: str | None, engine: Engine | None, ok: bool, action: str
) -> None:
    if ok:
        refuse_strangers("serving", held(manager), engine)  # type: ignore[arg-type]  # a stand-in
        return
    with pytest.raises(DeployError) as caught:
        refuse_strangers("serving", held(manager), engine)  # type: ignore[arg-type]  # a stand-in
    assert str(manager) in caught.value.tail
    assert action in caught.value.action


def test_memory_comes_and_goes(ctx: Context) -> None:
    assert deployed.remembered(ctx) is None
    deployed.remember(ctx, Earlier("serving", "render"))
    assert deployed.remembered(ctx) == Earlier("serving", "render")
    deployed.forget(ctx)
    assert deployed.remembered(ctx) is None
    (ctx.state.root / "deployed.json").write_text("{")
    assert deployed.remembered(ctx) is None


@pytest.mark.parametrize("by", ["engine", "render"])
def test_by_hand_gets_the_same_inputs(ctx: Context, by: Way) -> None:
    declared = Declared(
        Kubectl(Path("kubectl"), Path("kubeconfig")),
        None,
        {"image": IMAGE.reference},
        Rendered((), ()),
        Nowhere(),  # type: ignore[arg-type]  # a stand-in
    )
    file = configure(ctx, declared, by)
    assert file == ctx.project / "stacks" / "envs" / "Pulumi.lab.yaml"
    held = yaml.safe_load(file.read_text())["config"]
    assert held["slipway:image"] == IMAGE.reference
    assert held.get("slipway:await") == ("false" if by == "engine" else None)
    assert deployed.forget(ctx) == ["stacks/envs/Pulumi.lab.yaml"]
    assert not file.exists()


def test_what_somebody_set_in_the_stacks_file_is_deployed_and_stays(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, str]] = []
    deployment = {"kind": "Deployment", "metadata": {"namespace": "serving"}}

    def rendered(config: dict[str, str]) -> Rendered:
        given.append(dict(config))
        return Rendered((deployment,), ())

    monkeypatch.setattr(pulumi_render, "render", rendered)
    file = ctx.project / "stacks" / "envs" / "Pulumi.lab.yaml"
    file.write_text("config: {slipway:memoryLimit: 4Gi, slipway:replicas: 9}\n")
    cluster = Cluster(Path("kubeconfig"), Path(__file__), "https://192.0.2.1", (), None)
    for replicas in (5, None):
        asked = settings(deploy={"replicas": replicas})
        configure(ctx, declare(ctx, asked, cluster, IMAGE), "engine")
    assert [(one["memoryLimit"], one.get("replicas")) for one in given] == [("4Gi", "5"), ("4Gi", None)]
    held = yaml.safe_load(file.read_text())["config"]
    assert (held["slipway:memoryLimit"], "slipway:replicas" in held) == ("4Gi", False)
    assert deployed.forget(ctx) == []
    assert yaml.safe_load(file.read_text())["config"] == {"slipway:memoryLimit": "4Gi"}


def test_a_preview_leaves_the_stacks_file_alone(ctx: Context) -> None:
    declared = Declared(
        Kubectl(Path("kubectl"), Path("kubeconfig")),
        None,
        {"image": IMAGE.reference},
        Rendered((), ()),
        Nowhere(),  # type: ignore[arg-type]  # a stand-in
    )
    file = configure(ctx, declared, "engine", preview=True)
    assert file is not None
    assert file.is_relative_to(ctx.state.root)
    assert list((ctx.project / "stacks" / "envs").iterdir()) == []


def test_a_plan_without_a_cluster_says_so(ctx: Context) -> None:
    (line,) = deploy_stage.Deploy().plan(ctx, settings(), None, None)
    assert "once the cluster exists" in line
    cluster = Cluster(Path("k"), Path("kubectl"), "", (), None)
    (line,) = deploy_stage.Deploy().plan(ctx, settings(), cluster, None)
    assert "once the image exists" in line


def test_a_shell_gets_what_pulumi_and_kubectl_need(ctx: Context) -> None:
    variables = deploy_stage.env(ctx, settings())
    assert variables["PATH"] == str(ctx.state.bin)
    assert variables["KUBECONFIG"] == str(ctx.state.kubeconfig)
    assert variables["PULUMI_STACK"] == "lab"
    assert Path(variables["PULUMI_CONFIG_PASSPHRASE_FILE"]).is_file()
    assert Path(variables["PULUMI_BACKEND_URL"].removeprefix("file://")).is_dir()


def test_a_shell_gets_the_cluster_that_was_brought_along(ctx: Context, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("")
    assert deploy_stage.env(ctx, settings(cluster={"kubeconfig": mine}))["KUBECONFIG"] == str(mine)


def test_down_leaves_a_labs_own_cluster_to_its_hosts(ctx: Context) -> None:
    deployed.remember(ctx, Earlier("serving", "render"))
    assert deploy_stage.Deploy().remove(ctx, settings()) == []
    assert deployed.remembered(ctx) is None
    assert deploy_stage.Deploy().collect(ctx) == ()


def test_evidence_is_collected_by_a_process_that_did_not_deploy(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Kubectl, str]] = []

    def readings(kubectl: Kubectl, namespace: str) -> list[Reading]:
        asked.append((kubectl, namespace))
        return [Reading("deploy/events.txt", lambda seconds: "")]

    monkeypatch.setattr(evidence, "readings", readings)
    deployed.remember(ctx, Earlier("models", "engine"))
    assert deploy_stage.Deploy().collect(ctx) == ()  # no cluster is known
    ctx.state.keep(Cluster(Path("k"), Path("kubectl"), "", (), None, context="there"))
    assert [one.name for one in deploy_stage.Deploy().collect(ctx)] == ["deploy/events.txt"]
    assert asked == [(Kubectl(Path("kubectl"), Path("k"), "there"), "models")]


class Changing(Engine):
    """An engine that says what it changes."""

    def __init__(self) -> None:
        super().__init__(OURS)
        self.asked: list[str] = []

    def unlock(self) -> int:
        self.asked.append("unlock")
        return 0

    def preview(self, config: Path) -> list[Change]:
        self.asked.append(f"preview {config.name}")
        return [Change("change", "Deployment", "mnist-deployment", ("spec.replicas",))]

    def destroy(self) -> list[Change]:
        self.asked.append("destroy")
        return [Change("remove", "Deployment", "mnist-deployment")]


class Fresh(Nowhere):
    """An applier in a cluster that has nothing of ours but the namespace."""

    def __init__(self, *_: object) -> None: ...

    def held(self, manifests: object) -> dict[tuple[str, str, str], Any]:
        return {}

    def namespace_is_missing(self) -> bool:
        return False

    def plan(self, manifests: Any, _: object) -> list[Change]:
        return [Change("create", item["kind"], item["metadata"]["name"]) for item in manifests]

    def remove_rest(self, *, alone: bool) -> list[Change]:
        return [Change("remove", "Namespace", "serving")]


CLUSTER = Cluster(Path("kubeconfig"), Path("kubectl"), "", (), None)


def test_what_the_engine_would_change_is_its_own_preview(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Changing()
    kinds = ("Namespace", "ServiceAccount", "Deployment", "Service")
    rendered = Rendered(
        tuple({"apiVersion": "v1", "kind": kind, "metadata": {"name": kind.lower()}} for kind in kinds), ()
    )
    kubectl = Kubectl(CLUSTER.kubectl, CLUSTER.kubeconfig)
    declared = Declared(kubectl, None, {}, rendered, Fresh())  # type: ignore[arg-type]  # not asked for more
    monkeypatch.setattr(deploy_stage, "declare", lambda *_: declared)
    monkeypatch.setattr(deploy_stage, "choose_way", lambda *_: "engine")
    monkeypatch.setattr(deploy_stage, "at_hand", lambda *_: True)
    monkeypatch.setattr(deploy_stage, "engine_of", lambda *_: engine)
    first = deploy_stage.Deploy().plan(ctx, settings(), CLUSTER, IMAGE)  # Pulumi has no stack to ask yet
    assert first[-1].startswith("create ") and len(first) == len(rendered.manifests)
    assert engine.asked == []
    deployed.remember(ctx, Earlier("serving", "engine"))
    assert deploy_stage.Deploy().plan(ctx, settings(), CLUSTER, IMAGE) == [
        "change Deployment mnist-deployment: spec.replicas"
    ]
    assert engine.asked == ["preview preview.yaml"]


def test_what_the_engine_made_it_takes_away_and_the_rest_goes_too(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Changing()
    monkeypatch.setattr(leaving, "Applier", Fresh)
    monkeypatch.setattr(leaving, "engine_of", lambda *_: None)
    deployed.remember(ctx, Earlier("serving", "engine"))
    with pytest.raises(EnvironmentFault, match="made by Pulumi") as refused:
        leaving.destroy(ctx, settings(), CLUSTER)
    assert refused.value.action
    monkeypatch.setattr(leaving, "engine_of", lambda *_: engine)
    assert leaving.destroy(ctx, settings(), CLUSTER) == [
        "remove Deployment mnist-deployment",
        "remove Namespace serving",
    ]
    assert engine.asked == ["unlock", "destroy"]
    assert leaving.destroy(ctx, settings(), CLUSTER) == []  # nothing is remembered any more


@pytest.mark.parametrize(("seconds", "listed"), [(60.0, 3), (0.0, 1)])
def test_replicas_are_waited_for_in_the_services_list_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, seconds: float, listed: int
) -> None:
    # EndpointSlices follow the pods: right after these are ready some may not be listed yet.
    replicas = tuple(Replica(f"p{n}", "w", f"10.0.0.{n}", 8500, 8501) for n in range(3))
    counts = iter([1, 2, 3])
    seen = [1]

    def read(*_: object) -> Found:
        endpoints = Endpoints("serving", "d", "s", "10.1.1.1", 8500, 8501, replicas[: seen[-1]], "render")
        return Found(endpoints, (), 3)

    def listed_now(*_: object) -> int:
        seen.append(next(counts))
        return seen[-1]

    monkeypatch.setattr(deploy_stage, "find_endpoints", read)
    monkeypatch.setattr(deploy_stage, "listed", listed_now)
    monkeypatch.setattr(deploy_stage, "LISTED_SECONDS", seconds)
    stopped(monkeypatch, retry)
    kubectl = Kubectl(Path("kubectl"), Path("kubeconfig"), None)
    assert (
        len(deploy_stage._endpoints(kubectl, "serving", outputs.Names("mnist"), "render").replicas) == listed
    )
