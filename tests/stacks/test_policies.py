"""The rules, as functions and as Pulumi's policies: they hold for what the component makes, and break with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pulumi_policy
import pytest
import yaml
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError, unknown_checking_proxy
from slipway.clients.pulumi_render import run_program
from slipway_stacks import flavours, gateway, model_server, outputs, pack, pod, rules

pytestmark = pytest.mark.usefixtures("an_event_loop")
ROOT = Path(__file__).parents[2]
IMAGE = "registry.lab:5000/slipway/mnist@sha256:" + "a" * 64
WITH_EVERYTHING = {
    "slipway:image": IMAGE,
    "slipway:maxReplicas": "5",
    "slipway:gateway": "outside",
    "slipway:restHostname": "mnist.example.com",
    "slipway:grpcHostname": "grpc.example.com",
}
Manifest = dict[str, Any]
Kinds = dict[str, Manifest]  # by kind; of the two Services the one clients use
OPTIONS = pulumi_policy.PolicyResourceOptions(
    False, [], None, [], pulumi_policy.PolicyCustomTimeouts(0, 0, 0), []
)


@pytest.fixture(scope="module")
def made() -> Sequence[Manifest]:
    return run_program(WITH_EVERYTHING).manifests


def told(manifests: Sequence[Manifest]) -> dict[str, list[str]]:
    """What Pulumi's policies say, as the engine asks them: rule -> broken sentences."""
    out: dict[str, list[str]] = {}
    resources = [
        pulumi_policy.PolicyResource(
            f"kubernetes:{item['apiVersion']}:{item['kind']}",
            unknown_checking_proxy(as_numbers(item)),
            f"urn:{number}",
            item["metadata"]["name"],
            OPTIONS,
            None,
            None,
            [],
            {},
        )
        for number, item in enumerate(manifests)
    ]

    def report(name: str) -> Callable[[str, str | None], None]:
        return lambda sentence, urn: out.setdefault(name, []).append(sentence)

    for policy in pack.policies():
        if isinstance(policy, pulumi_policy.StackValidationPolicy):
            policy.validate(pulumi_policy.StackValidationArgs(resources), report(policy.name))
            continue
        assert isinstance(policy, pulumi_policy.ResourceValidationPolicy)
        for one in resources:
            args = pulumi_policy.ResourceValidationArgs(
                one.resource_type, one.props, one.urn, one.name, OPTIONS, None
            )
            policy.validate(args, report(policy.name))
    return out


def as_numbers(value: Any) -> Any:
    """The engine hands every number over as a float."""
    if isinstance(value, dict):
        return {key: as_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_numbers(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_every_rule_holds_for_what_the_component_makes(made: Sequence[Manifest]) -> None:
    assert told(made) == {}
    assert rules.violations(made) == []


# ---- a mutation of the objects, and the rule that notices it


def container(kinds: Kinds) -> Manifest:
    found: Manifest = pod_spec(kinds)["containers"][0]
    return found


def pod_spec(kinds: Kinds) -> Manifest:
    found: Manifest = kinds["Deployment"]["spec"]["template"]["spec"]
    return found


OBJECTS: dict[str, tuple[Callable[[Kinds], Any], str]] = {
    "the container is privileged": (
        lambda k: container(k)["securityContext"].update(privileged=True),
        "containers-unprivileged",
    ),
    "privileges may be gained": (
        lambda k: container(k)["securityContext"].pop("allowPrivilegeEscalation"),
        "containers-unprivileged",
    ),
    "its root can be written": (
        lambda k: container(k)["securityContext"].update(readOnlyRootFilesystem=False),
        "containers-unprivileged",
    ),
    "a capability is added": (
        lambda k: container(k)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
        "containers-unprivileged",
    ),
    "the pod is root": (lambda k: pod_spec(k)["securityContext"].update(runAsUser=0), "pods-not-root"),
    "seccomp is off": (
        lambda k: pod_spec(k)["securityContext"].update(seccompProfile={"type": "Unconfined"}),
        "pods-not-root",
    ),
    "the pod is in the host's network": (
        lambda k: pod_spec(k).update(hostNetwork=True),
        "pods-apart-from-host",
    ),
    "a folder of the host is mounted": (
        lambda k: pod_spec(k)["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
        "pods-apart-from-host",
    ),
    "a port of the host is taken": (
        lambda k: container(k)["ports"][0].update(hostPort=8500),
        "pods-apart-from-host",
    ),
    "the pod gets a token": (
        lambda k: pod_spec(k).update(automountServiceAccountToken=True),
        "pods-apart-from-host",
    ),
    "the image is a tag": (lambda k: container(k).update(image="r.lab/mnist:latest"), "images-by-digest"),
    "memory has no ceiling": (
        lambda k: container(k)["resources"]["limits"].pop("memory"),
        "resources-bounded",
    ),
    "the volume has no ceiling": (
        lambda k: pod_spec(k)["volumes"][0].update(emptyDir={}),
        "resources-bounded",
    ),
    "readiness is not asked": (lambda k: container(k).pop("readinessProbe"), "containers-probed"),
    "replicas are spread by another label": (
        lambda k: pod_spec(k)["topologySpreadConstraints"][0].update(
            labelSelector={"matchLabels": {"app": "x"}}
        ),
        "replicas-spread",
    ),
    "the grace ends in the sleep": (
        lambda k: pod_spec(k).update(terminationGracePeriodSeconds=5),
        "containers-leave-late",
    ),
    "an update takes one away": (
        lambda k: k["Deployment"]["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1),
        "updates-careful",
    ),
    "the selector picks others": (
        lambda k: k["Deployment"]["spec"]["selector"].update(matchLabels={"app": "other"}),
        "deployments-pick-their-pods",
    ),
    "the policy lets out anywhere": (
        lambda k: k["NetworkPolicy"]["spec"]["egress"][0].pop("to"),
        "network-closed",
    ),
    "the policy lets in everywhere": (
        lambda k: k["NetworkPolicy"]["spec"]["ingress"][0].pop("ports"),
        "network-closed",
    ),
    "the policy forgets egress": (
        lambda k: k["NetworkPolicy"]["spec"].update(policyTypes=["Ingress"]),
        "network-closed",
    ),
    "the account hands out its token": (
        lambda k: k["ServiceAccount"].pop("automountServiceAccountToken"),
        "accounts-without-token",
    ),
    "a secret is declared": (
        lambda k: k["ServiceAccount"].update(kind="Secret", apiVersion="v1"),
        "no-secret",
    ),
    "the namespace takes any pod": (
        lambda k: k["Namespace"]["metadata"]["labels"].pop("pod-security.kubernetes.io/enforce"),
        "namespaces-restricted",
    ),
    "the Service picks nobody": (
        lambda k: k["Service"]["spec"].update(selector={"app": "other"}),
        "services-lead-to-pods",
    ),
    "the Service leads to no port": (
        lambda k: k["Service"]["spec"]["ports"][0].update(targetPort="http"),
        "services-lead-to-pods",
    ),
    "the policy covers other pods": (
        lambda k: k["NetworkPolicy"]["spec"].update(podSelector={"matchLabels": {"app": "x"}}),
        "pods-guarded",
    ),
    "the budget is in another namespace": (
        lambda k: k["PodDisruptionBudget"]["metadata"].update(namespace="other"),
        "pods-guarded",
    ),
    "the autoscaler scales nothing": (
        lambda k: k["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"].update(name="other"),
        "autoscalers-lead-to-deployments",
    ),
    "a route leads to no Service": (
        lambda k: k["HTTPRoute"]["spec"]["rules"][0]["backendRefs"][0].update(name="other"),
        "routes-lead-to-services",
    ),
    "a route leads to no port": (
        lambda k: k["GRPCRoute"]["spec"]["rules"][0]["backendRefs"][0].update(port=80),
        "routes-lead-to-services",
    ),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_a_change_of_an_object_is_noticed_by_its_rule(made: Sequence[Manifest], name: str) -> None:
    change, rule = OBJECTS[name]
    broken = copy.deepcopy(list(made))
    change({item["kind"]: item for item in broken})
    found = told(broken)
    assert list(found) == [rule]
    assert len(rules.violations(broken)) == len(found[rule])


def test_every_rule_has_a_change_that_it_notices() -> None:
    assert {rule for _, rule in OBJECTS.values()} == {policy.name for policy in pack.policies()}
    assert len(OBJECTS) >= 20


# ---- a mutation of the component's own code


def _without(make: Callable[..., Any], key: str) -> Callable[..., Any]:
    def changed(*args: Any) -> Any:
        return {name: value for name, value in make(*args).items() if name != key}

    return changed


CODE: dict[str, tuple[Any, str, Any, str]] = {
    "no probe is made": (pod, "probes", lambda _: {}, "containers-probed"),
    "resources are forgotten": (pod, "resources", lambda _: {}, "resources-bounded"),
    "pods are not spread": (
        pod,
        "spread",
        lambda _: {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1},
        "replicas-spread",
    ),
    "a container's lock-down is forgotten": (
        outputs,
        "container_security",
        lambda: {},
        "containers-unprivileged",
    ),
    "a pod's lock-down is forgotten": (outputs, "pod_security", lambda: {}, "pods-not-root"),
    "a leaving replica does not wait": (flavours, "leaving_seconds", lambda _: 0, "containers-leave-late"),
    "the deployment has no strategy": (
        model_server,
        "deployment_spec",
        _without(model_server.deployment_spec, "strategy"),
        "updates-careful",
    ),
    "the headless Service picks nobody": (
        model_server,
        "replicas_spec",
        _without(model_server.replicas_spec, "selector"),
        "services-lead-to-pods",
    ),
    "the budget is for everybody": (
        model_server,
        "disruption_spec",
        lambda _: {"selector": {}, "maxUnavailable": 1},
        "pods-guarded",
    ),
    "a route forgets its model": (
        gateway,
        "_backend",
        lambda inputs, port: {"name": "mnist", "port": port},
        "routes-lead-to-services",
    ),
}


@pytest.mark.parametrize("name", CODE)
def test_a_change_of_the_component_is_noticed_by_its_rule(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module, function, other, rule = CODE[name]
    monkeypatch.setattr(module, function, other)
    assert list(told(run_program(WITH_EVERYTHING).manifests)) == [rule]


# ---- the pack


def test_what_is_not_known_yet_is_left_to_the_update(made: Sequence[Manifest]) -> None:
    """Pulumi takes this error for "cannot be told in a preview", and a rule must not hide it."""
    broken = copy.deepcopy(list(made))
    container({item["kind"]: item for item in broken})["image"] = UNKNOWN_STRING_VALUE
    with pytest.raises(UnknownValueError):
        told(broken)


def test_other_peoples_resources_are_not_judged() -> None:
    (policy,) = [one for one in pack.policies() if one.name == "no-secret"]
    assert isinstance(policy, pulumi_policy.ResourceValidationPolicy)
    for kind in ("aws:secretsmanager/secret:Secret", "pulumi:providers:kubernetes"):
        args = pulumi_policy.ResourceValidationArgs(kind, {}, "urn", "x", OPTIONS, None)
        policy.validate(args, lambda *said: pytest.fail(str(said)))


def test_the_packs_folder_is_one_that_pulumi_runs() -> None:
    folder = ROOT / "stacks" / "policies"
    project = yaml.safe_load((folder / "PulumiPolicy.yaml").read_text(encoding="utf-8"))
    assert project["runtime"]["name"] == "python"
    assert (folder / project["runtime"]["options"]["virtualenv"]).resolve() == ROOT / ".venv"
    assert (folder / "__main__.py").is_file()
    assert len({policy.name for policy in pack.policies()}) == len(rules.RULES) + len(rules.STACK_RULES)
    assert all(policy.description.endswith(".") for policy in pack.policies())


def test_the_manual_lists_every_rule() -> None:
    """After a wanted change: put the table this test expects into docs/component.md."""
    rows = [f"| `{policy.name}` | {policy.description} |" for policy in pack.policies()]
    assert "\n".join(rows) in (ROOT / "docs" / "component.md").read_text(encoding="utf-8")
