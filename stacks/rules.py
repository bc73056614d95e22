"""Policies: what must hold for every manifest of the program, whatever its inputs.

Plain functions over manifests, in the API's spelling; each returns the sentences that are broken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

Manifest = dict[str, Any]
Rule = Callable[[Manifest], list[str]]

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
    """The pod runs as a number that is nobody's on the host, under the runtime's seccomp profile."""
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


POD_RULES: Final[tuple[Rule, ...]] = (unprivileged, not_root, apart_from_host, pinned_image, bounded, probed)


def violations(manifests: Sequence[Manifest]) -> list[str]:
    """Every broken rule, with the object it is broken by; empty when all hold."""
    out: list[str] = []
    for manifest in manifests:
        where = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] == "Deployment":
            for rule in POD_RULES:
                out += [f"{where}: {sentence}" for sentence in rule(manifest["spec"]["template"])]
            rolling = manifest["spec"].get("strategy", {}).get("rollingUpdate", {})
            if rolling.get("maxUnavailable") != 0:
                out.append(f"{where}: an update may take a replica away before its successor serves")
        if manifest["kind"] == "ServiceAccount" and manifest.get("automountServiceAccountToken") is not False:
            out.append(f"{where}: hands its token to every pod")
        if manifest["kind"] == "Secret":
            out.append(f"{where}: a manifest must hold no secret")
    return out
