"""The stage without a cluster: its inputs from settings, the way it chooses, what a shell gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import artifacts, deploy
from infra.clients import pulumi_stack
from infra.clients.kubectl import Change, Found, Kubectl
from infra.core.context import Context
from infra.core.errors import DeployError, EnvironmentFault
from infra.core.events import Event, Note
from infra.core.schema import Settings
from infra.core.state import State
from infra.core.types import Cluster, Endpoints, ImageRef, Replica
from infra.rollout import choosing
from infra.rollout.choosing import Declared, Earlier

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


WAYS = [
    ("auto", False, None, "render", "there is no `pulumi` on PATH"),
    ("auto", True, None, "engine", "`pulumi` is"),
    ("auto", True, "slipway", "render", "made by render"),
    ("auto", True, "pulumi-kubernetes-1", "engine", "`pulumi` is"),
    ("render", True, None, "render", "deploy.by is render"),
    ("engine", True, "slipway", "engine", "deploy.by is engine"),
]


@pytest.mark.parametrize(("by", "cli", "manager", "way", "why"), WAYS)
def test_the_way_and_why(
    ctx: Context,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
    cli: bool,
    manager: str | None,
    way: str,
    why: str,
) -> None:
    said: list[Event] = []
    ctx = Context(ctx.state, ctx.run, ctx.project, emit=said.append)
    monkeypatch.setattr(pulumi_stack, "find_cli", lambda: Path("/bin/pulumi") if cli else None)
    assert choosing.way(ctx, settings(deploy={"by": by}), held(manager)) == way
    (note,) = [event.text for event in said if isinstance(event, Note)]
    assert note.startswith(f"deploy by {way}: ")
    assert why in note


def test_an_engine_asked_for_by_name_is_fetched(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached = tmp_path / "cache"
    (cached / "home" / "plugins" / "resource-kubernetes-v4.34.2").mkdir(parents=True)
    (cached / "bin").mkdir()
    (cached / "bin" / "pulumi").write_text("")
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "none"))
    monkeypatch.setattr(pulumi_stack, "find_cli", lambda: None)
    monkeypatch.setattr(artifacts, "pulumi", lambda *_: cached / "bin" / "pulumi")
    assert choosing.way(ctx, settings(deploy={"by": "auto"}), {}) == "render"
    assert choosing.way(ctx, settings(deploy={"by": "engine"}), {}) == "engine"
    engine = choosing.engine_of(ctx, choosing.Kubectl(Path("kubectl"), Path("kubeconfig")))
    assert engine is not None
    assert (engine.root / "bin" / "pulumi").samefile(cached / "bin" / "pulumi")
    assert engine.variables["PULUMI_HOME"] == str(ctx.state.pulumi / "home")
    assert engine.variables["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"
    assert deploy.env(ctx, settings())["PULUMI_HOME"] == str(ctx.state.pulumi / "home")


def test_an_engine_that_is_not_there(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi_stack, "find_cli", lambda: None)
    monkeypatch.setattr(artifacts, "pulumi", lambda *_: None)
    with pytest.raises(EnvironmentFault) as caught:
        choosing.way(ctx, settings(deploy={"by": "engine"}), {})
    assert "deploy.by: render" in caught.value.action


class Engine:
    def __init__(self, *held: pulumi_stack.Resource) -> None:
        self.held = set(held)

    def resources(self) -> set[pulumi_stack.Resource]:
        return self.held


OURS = pulumi_stack.Resource("Deployment", "serving", "mnist-deployment")
STRANGERS = [
    ("slipway", None, True, ""),
    (None, None, True, ""),
    ("helm", None, False, "deploy.namespace"),
    ("pulumi-kubernetes-1", None, False, "deploy.namespace"),
    ("pulumi-kubernetes-1", Engine(OURS), True, ""),
    ("pulumi-kubernetes-1", Engine(), False, "deploy.namespace"),
    ("slipway", Engine(OURS), False, "slipway destroy"),
]


@pytest.mark.parametrize(("manager", "engine", "ok", "action"), STRANGERS)
def test_what_something_else_made_is_refused(
    manager: str | None, engine: Engine | None, ok: bool, action: str
) -> None:
    declared = Declared(None, None, {}, pulumi_stack.Rendered((), ()), Nowhere())  # type: ignore[arg-type]
    if ok:
        choosing.refuse_strangers(declared, held(manager), engine)  # type: ignore[arg-type]
        return
    with pytest.raises(DeployError) as caught:
        choosing.refuse_strangers(declared, held(manager), engine)  # type: ignore[arg-type]
    assert str(manager) in caught.value.tail
    assert action in caught.value.action


def test_memory_comes_and_goes(ctx: Context) -> None:
    assert choosing.remembered(ctx) is None
    choosing.remember(ctx, Earlier("serving", "render"))
    assert choosing.remembered(ctx) == Earlier("serving", "render")
    choosing.forget(ctx)
    assert choosing.remembered(ctx) is None
    (ctx.state.root / "deployed.json").write_text("{")
    assert choosing.remembered(ctx) is None


@pytest.mark.parametrize("by", ["engine", "render"])
def test_by_hand_gets_the_same_inputs(ctx: Context, by: choosing.Way) -> None:
    declared = Declared(
        choosing.Kubectl(Path("kubectl"), Path("kubeconfig")),
        None,
        {"image": IMAGE.reference},
        pulumi_stack.Rendered((), ()),
        Nowhere(),  # type: ignore[arg-type]
    )
    file = choosing.configure(ctx, declared, by)
    assert file == ctx.project / "stacks" / "envs" / "Pulumi.lab.yaml"
    held = yaml.safe_load(file.read_text())["config"]
    assert held["slipway:image"] == IMAGE.reference
    assert held.get("slipway:await") == ("false" if by == "engine" else None)
    assert choosing.forget(ctx) == ["stacks/envs/Pulumi.lab.yaml"]
    assert not file.exists()


def test_a_preview_leaves_the_stacks_file_alone(ctx: Context) -> None:
    declared = Declared(
        choosing.Kubectl(Path("kubectl"), Path("kubeconfig")),
        None,
        {"image": IMAGE.reference},
        pulumi_stack.Rendered((), ()),
        Nowhere(),  # type: ignore[arg-type]
    )
    file = choosing.configure(ctx, declared, "engine", preview=True)
    assert file is not None
    assert file.is_relative_to(ctx.state.root)
    assert list((ctx.project / "stacks" / "envs").iterdir()) == []


def test_a_plan_without_a_cluster_says_so(ctx: Context) -> None:
    (line,) = deploy.Deploy().plan(ctx, settings(), None, None)
    assert "once the cluster exists" in line
    cluster = Cluster(Path("k"), Path("kubectl"), "", (), None)
    (line,) = deploy.Deploy().plan(ctx, settings(), cluster, None)
    assert "once the image exists" in line


def test_a_shell_gets_what_pulumi_and_kubectl_need(ctx: Context) -> None:
    variables = deploy.env(ctx, settings())
    assert variables["PATH"] == str(ctx.state.bin)
    assert variables["KUBECONFIG"] == str(ctx.state.kubeconfig)
    assert variables["PULUMI_STACK"] == "lab"
    assert Path(variables["PULUMI_CONFIG_PASSPHRASE_FILE"]).is_file()
    assert Path(variables["PULUMI_BACKEND_URL"].removeprefix("file://")).is_dir()


def test_a_shell_gets_the_cluster_that_was_brought_along(ctx: Context, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("")
    assert deploy.env(ctx, settings(cluster={"kubeconfig": mine}))["KUBECONFIG"] == str(mine)


def test_rendered_for_others_has_the_namespace_and_no_secret() -> None:
    found = deploy.render(settings(deploy={"namespace": "models"}), IMAGE)
    assert found[0]["kind"] == "Namespace"
    assert {item["metadata"].get("namespace", "models") for item in found} == {"models"}
    assert "Secret" not in {item["kind"] for item in found}


def test_down_leaves_a_labs_own_cluster_to_its_hosts(ctx: Context) -> None:
    choosing.remember(ctx, Earlier("serving", "render"))
    assert deploy.Deploy().remove(ctx, settings()) == []
    assert choosing.remembered(ctx) is None
    assert deploy.Deploy().collect(ctx) == ()


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

    def remove_rest(self) -> list[Change]:
        return [Change("remove", "Namespace", "serving")]


CLUSTER = Cluster(Path("kubeconfig"), Path("kubectl"), "", (), None)


def test_what_the_engine_would_change_is_its_own_preview(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Changing()
    rendered = pulumi_stack.render({"image": IMAGE.reference})
    kubectl = Kubectl(CLUSTER.kubectl, CLUSTER.kubeconfig)
    declared = Declared(kubectl, None, {}, rendered, Fresh())  # type: ignore[arg-type]  # not asked for more
    monkeypatch.setattr(choosing, "declare", lambda *_: declared)
    monkeypatch.setattr(choosing, "way", lambda *_: "engine")
    monkeypatch.setattr(choosing, "engine_of", lambda *_: engine)
    first = deploy.Deploy().plan(ctx, settings(), CLUSTER, IMAGE)  # Pulumi has no stack to ask yet
    assert first[-1].startswith("create ") and len(first) == len(rendered.manifests)
    assert engine.asked == []
    choosing.remember(ctx, Earlier("serving", "engine"))
    assert deploy.Deploy().plan(ctx, settings(), CLUSTER, IMAGE) == [
        "change Deployment mnist-deployment: spec.replicas"
    ]
    assert engine.asked == ["preview preview.yaml"]


def test_what_the_engine_made_it_takes_away_and_the_rest_goes_too(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Changing()
    monkeypatch.setattr(deploy, "Applier", Fresh)
    monkeypatch.setattr(choosing, "engine_of", lambda *_: None)
    choosing.remember(ctx, Earlier("serving", "engine"))
    with pytest.raises(EnvironmentFault, match="made by Pulumi") as refused:
        deploy.destroy(ctx, settings(), CLUSTER)
    assert refused.value.action
    monkeypatch.setattr(choosing, "engine_of", lambda *_: engine)
    assert deploy.destroy(ctx, settings(), CLUSTER) == [
        "remove Deployment mnist-deployment",
        "remove Namespace serving",
    ]
    assert engine.asked == ["unlock", "destroy"]
    assert deploy.destroy(ctx, settings(), CLUSTER) == []  # nothing is remembered any more


@pytest.mark.parametrize(("seconds", "listed"), [(60.0, 3), (0.0, 1)])
def test_replicas_are_waited_for_in_the_services_list_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, seconds: float, listed: int
) -> None:
    # EndpointSlices follow the pods: right after these are ready some may not be listed yet.
    replicas = tuple(Replica(f"p{n}", "w", f"10.0.0.{n}", 8500, 8501) for n in range(3))
    reads = iter([replicas[:1], replicas[:2], replicas])

    def read(*_: object) -> Found:
        endpoints = Endpoints("serving", "d", "s", "10.1.1.1", 8500, 8501, next(reads), "render")
        return Found(endpoints, (), 3)

    monkeypatch.setattr(deploy, "find_endpoints", read)
    monkeypatch.setattr(deploy, "LISTED_SECONDS", seconds)
    kubectl = Kubectl(Path("kubectl"), Path("kubeconfig"), None)
    assert len(deploy._endpoints(kubectl, "serving", "render").replicas) == listed
