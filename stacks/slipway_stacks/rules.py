"""Policies: what must hold for every manifest of the program, whatever its inputs.

Plain functions over manifests, in the API's spelling; each returns the sentences that are broken. `render`
and the tests call `violations`; the policy pack (pack.py) gives the same rules to Pulumi, by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

Manifest = dict[str, Any]

_DIGEST: Final = re.compile(r".+@sha256:[0-9a-f]{64}")


def _containers(template: Manifest) -> list[Manifest]:
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec.get("containers", [])]


def unprivileged(template: Manifest) -> list[str]:
    """No container is privileged, may gain privileges, keeps a capability or writes to its root."""
    out = []
    for container in _containers(template):
        context, name = container.get("securityContext", {}), container["name"]
        if context.get("privileged") is not False:
            out.append(f"container {name}: privileged is not false")
        if context.get("allowPrivilegeEscalation") is not False:
            out.append(f"container {name}: allowPrivilegeEscalation is not false")
        if context.get("readOnlyRootFilesystem") is not True:
            out.append(f"container {name}: readOnlyRootFilesystem is not true")
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            out.append(f"container {name}: capabilities are not all dropped")
    return out


def not_root(template: Manifest) -> list[str]:
    """The pod runs as a user that the host does not have, under the runtime's seccomp profile."""
    context = template["spec"].get("securityContext", {})
    out = []
    if (
        context.get("runAsNonRoot") is not True
        or not context.get("runAsUser")
        or not context.get("runAsGroup")
    ):
        out.append("the pod may run as root")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        out.append("seccompProfile is not RuntimeDefault")
    for container in _containers(template):
        own = container.get("securityContext", {})
        out += [
            f"container {container['name']}: overrides the pod's {key}"
            for key in ("runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile")
            if key in own
        ]
    return out


def apart_from_host(template: Manifest) -> list[str]:
    """No namespace, path or port of the node, and no token for the API."""
    spec = template["spec"]
    out = [f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    out += [f"volume {item['name']}: hostPath" for item in spec.get("volumes", []) if "hostPath" in item]
    out += [
        f"container {container['name']}: hostPort {port['hostPort']}"
        for container in _containers(template)
        for port in container.get("ports", [])
        if "hostPort" in port
    ]
    if spec.get("automountServiceAccountToken") is not False:
        out.append("the pod gets a token for the API")
    return out


def pinned_image(template: Manifest) -> list[str]:
    """Every image is named by digest."""
    return [
        f"container {container['name']}: image {container['image']} is not named by digest"
        for container in _containers(template)
        if not _DIGEST.fullmatch(container["image"])
    ]


def bounded(template: Manifest) -> list[str]:
    """Processor and memory are asked for, memory has a ceiling, and so does every emptyDir."""
    out = []
    for container in _containers(template):
        resources = container.get("resources", {})
        for kind, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
            if name not in resources.get(kind, {}):
                out.append(f"container {container['name']}: no {name} in {kind}")
    out += [
        f"volume {item['name']}: emptyDir without sizeLimit"
        for item in template["spec"].get("volumes", [])
        if "emptyDir" in item and "sizeLimit" not in item["emptyDir"]
    ]
    return out


def probed(template: Manifest) -> list[str]:
    """Every container says when it has started, when it can serve and when it is stuck."""
    return [
        f"container {container['name']}: no {probe}"
        for container in template["spec"].get("containers", [])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        if probe not in container
    ]


def spread(template: Manifest) -> list[str]:
    """Replicas are told apart by node, counted by a label that the pod has."""
    labels = template["metadata"]["labels"]
    for constraint in template["spec"].get("topologySpreadConstraints", []):
        chosen = constraint.get("labelSelector", {}).get("matchLabels", {})
        if constraint["topologyKey"] == "kubernetes.io/hostname" and _picks(chosen, labels):
            return []
    return ["nothing spreads its replicas over nodes"]


def leaving(template: Manifest) -> list[str]:
    """A leaving container serves on until its address is forgotten, and then has time to finish."""
    grace = template["spec"].get("terminationGracePeriodSeconds", 30)
    out = []
    for container in template["spec"].get("containers", []):
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if not 0 < sleep < grace:
            out.append(
                f"container {container['name']}: a preStop sleep of {sleep:g} s in a grace of {grace:g} s"
            )
    return out


def _of_pods(check: Callable[[Manifest], list[str]]) -> Callable[[Manifest], list[str]]:
    return lambda manifest: check(manifest["spec"]["template"])


def careful(manifest: Manifest) -> list[str]:
    """An update takes no replica away before its successor serves."""
    rolling = manifest["spec"].get("strategy", {}).get("rollingUpdate", {})
    if rolling.get("maxUnavailable") != 0:
        return ["an update may take a replica away before its successor serves"]
    return []


def own_pods(manifest: Manifest) -> list[str]:
    """A Deployment picks its own pods."""
    chosen = manifest["spec"].get("selector", {}).get("matchLabels", {})
    if not _picks(chosen, manifest["spec"]["template"]["metadata"]["labels"]):
        return ["its selector does not pick its pods"]
    return []


def closed(manifest: Manifest) -> list[str]:
    """A NetworkPolicy lets out only to named places, in only to named ports, and covers both directions."""
    spec, out = manifest["spec"], []
    if sorted(spec.get("policyTypes", [])) != ["Egress", "Ingress"]:
        out.append("does not cover both directions")
    out += [
        f"egress rule {number} leads to any place"
        for number, rule in enumerate(spec.get("egress", []), 1)
        if not rule.get("to")
    ]
    out += [
        f"ingress rule {number} opens every port"
        for number, rule in enumerate(spec.get("ingress", []), 1)
        if not rule.get("ports")
    ]
    return out


def without_token(manifest: Manifest) -> list[str]:
    """A ServiceAccount hands its token to no pod."""
    return [] if manifest.get("automountServiceAccountToken") is False else ["hands its token to every pod"]


def no_secret(manifest: Manifest) -> list[str]:
    """No secret is in a manifest, and so in a state file: it is named, and made by other hands."""
    return ["a manifest must hold no secret"] if manifest["kind"] == "Secret" else []


def restricted(manifest: Manifest) -> list[str]:
    """A namespace refuses pods below the strictest of Kubernetes' own profiles."""
    labels = manifest["metadata"].get("labels") or {}
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        return ["does not enforce the restricted profile"]
    return []


@dataclass(frozen=True)
class Rule:
    """What must hold for each object of these kinds. check: an object in, broken sentences out."""

    name: str
    kinds: tuple[str, ...]
    check: Callable[[Manifest], list[str]]
    meaning: str


def _rule(name: str, kind: str, check: Callable[[Manifest], list[str]], *, pods: bool = False) -> Rule:
    return Rule(name, (kind,), _of_pods(check) if pods else check, str(check.__doc__).partition("\n")[0])


RULES: Final = (
    *(
        _rule(name, "Deployment", check, pods=True)
        for name, check in (
            ("containers-unprivileged", unprivileged),
            ("pods-not-root", not_root),
            ("pods-apart-from-host", apart_from_host),
            ("images-by-digest", pinned_image),
            ("resources-bounded", bounded),
            ("containers-probed", probed),
            ("replicas-spread", spread),
            ("containers-leave-late", leaving),
        )
    ),
    _rule("updates-careful", "Deployment", careful),
    _rule("deployments-pick-their-pods", "Deployment", own_pods),
    _rule("network-closed", "NetworkPolicy", closed),
    _rule("accounts-without-token", "ServiceAccount", without_token),
    _rule("no-secret", "Secret", no_secret),
    _rule("namespaces-restricted", "Namespace", restricted),
)


# ---- rules over several objects: what leads somewhere leads there


def _picks(selector: Manifest, labels: Manifest) -> bool:
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _of(manifests: Sequence[Manifest], *kinds: str) -> Iterator[Manifest]:
    return (item for item in manifests if item["kind"] in kinds)


def _beside(manifests: Sequence[Manifest], item: Manifest, kind: str) -> Iterator[Manifest]:
    """Objects of that kind in the same namespace."""
    space = item["metadata"].get("namespace")
    return (other for other in _of(manifests, kind) if other["metadata"].get("namespace") == space)


def reached(manifests: Sequence[Manifest]) -> Iterator[tuple[Manifest, str]]:
    """A Service leads to pods of a Deployment and to ports that they have."""
    for service in _of(manifests, "Service"):
        behind = [
            item["spec"]["template"]
            for item in _beside(manifests, service, "Deployment")
            if _picks(service["spec"].get("selector") or {}, item["spec"]["template"]["metadata"]["labels"])
        ]
        if not behind:
            yield service, "picks no pod"
            continue
        ports = {
            port.get("name")
            for template in behind
            for container in _containers(template)
            for port in container.get("ports", [])
        }
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            if isinstance(target, str) and target not in ports:
                yield service, f"leads to port {target}, which no container has"


def guarded(manifests: Sequence[Manifest]) -> Iterator[tuple[Manifest, str]]:
    """The pods of a Deployment are under a NetworkPolicy and a PodDisruptionBudget."""
    for item in _of(manifests, "Deployment"):
        labels = item["spec"]["template"]["metadata"]["labels"]
        for kind, key in (("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector")):
            guards = _beside(manifests, item, kind)
            if not any(_picks(guard["spec"][key].get("matchLabels") or {}, labels) for guard in guards):
                yield item, f"its pods are under no {kind}"


def scaled(manifests: Sequence[Manifest]) -> Iterator[tuple[Manifest, str]]:
    """An autoscaler scales a Deployment that is there."""
    for item in _of(manifests, "HorizontalPodAutoscaler"):
        name = item["spec"]["scaleTargetRef"]["name"]
        if name not in {other["metadata"]["name"] for other in _beside(manifests, item, "Deployment")}:
            yield item, f"scales {name}, which is not there"


def routed(manifests: Sequence[Manifest]) -> Iterator[tuple[Manifest, str]]:
    """A route of a Gateway leads to a Service that is there, at a port that it has."""
    for item in _of(manifests, "HTTPRoute", "GRPCRoute"):
        there = {
            (service["metadata"]["name"], port["port"])
            for service in _beside(manifests, item, "Service")
            for port in service["spec"]["ports"]
        }
        for rule in item["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                if (backend["name"], backend["port"]) not in there:
                    yield item, f"leads to {backend['name']}:{backend['port']:g}, which is not there"


@dataclass(frozen=True)
class StackRule:
    """What must hold among all objects of a stack. check: objects in, (object, broken sentence) out."""

    name: str
    check: Callable[[Sequence[Manifest]], Iterator[tuple[Manifest, str]]]

    @property
    def meaning(self) -> str:
        """The rule in one sentence."""
        return str(self.check.__doc__)


STACK_RULES: Final = (
    StackRule("services-lead-to-pods", reached),
    StackRule("pods-guarded", guarded),
    StackRule("autoscalers-lead-to-deployments", scaled),
    StackRule("routes-lead-to-services", routed),
)


def violations(manifests: Sequence[Manifest]) -> list[str]:
    """Every broken rule, with the object it is broken by; empty when all hold."""
    broken = [
        (manifest, sentence)
        for manifest in manifests
        for rule in RULES
        if manifest["kind"] in rule.kinds
        for sentence in rule.check(manifest)
    ]
    broken += [found for rule in STACK_RULES for found in rule.check(manifests)]
    return [f"{item['kind']} {item['metadata']['name']}: {sentence}" for item, sentence in broken]
