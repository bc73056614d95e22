"""Manifests into a cluster: what they would change, what they changed, and whose the objects are."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.clients.kubectl import Change, Kubectl, KubectlError, Manifest, as_list
from infra.core.errors import DeployError, EnvironmentFault
from infra.core.types import Registry
from stacks import outputs

FIELD_MANAGER = "slipway"
# The ConfigMap that remembers which objects an apply made, so that the next one can remove what is gone
APPLYSET = "slipway-applyset"
PULL_SECRET = "registry-login"  # noqa: S105  # its name in the cluster
_MADE_BY = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
# What the API server and controllers keep for themselves; no manifest sets them
_NOT_OURS = ("status",)
_NOT_OURS_META = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_NOT_OURS_NOTES = ("deployment.kubernetes.io/revision",)

Key = tuple[str, str, str]


def key_of(item: Mapping[str, Any]) -> Key:
    """(kind, namespace, name) of an object."""
    meta = item["metadata"]
    return item["kind"], meta.get("namespace", ""), meta["name"]


def compare(before: Mapping[Key, Manifest], after: Mapping[Key, Manifest]) -> list[Change]:
    """What differs between two readings of the same objects, status and bookkeeping aside."""
    changes = []
    for key, item in after.items():
        if key not in before:
            changes.append(Change("create", key[0], key[2]))
            continue
        fields = tuple(_differences("", _content(before[key]), _content(item)))
        if fields:
            changes.append(Change("change", key[0], key[2], fields))
    changes += [Change("remove", key[0], key[2]) for key in before if key not in after]
    return changes


def _content(item: Manifest) -> Manifest:
    out = {key: value for key, value in item.items() if key not in _NOT_OURS}
    meta = {key: value for key, value in item["metadata"].items() if key not in _NOT_OURS_META}
    notes = {key: value for key, value in meta.pop("annotations", {}).items() if key not in _NOT_OURS_NOTES}
    out["metadata"] = {**meta, "annotations": notes} if notes else meta
    return out


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(f"{path}.{key}".lstrip("."), old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{number}]", one, other)
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = "unset" if value is None else json.dumps(value) if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


class Applier:
    """Manifests in one namespace of one cluster."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self.kubectl = kubectl
        self.namespace = namespace

    def ensure_namespace(self) -> list[Change]:
        """Make the namespace where there is none; one that exists is left as it is."""
        if self.kubectl.find("namespace", self.namespace) is not None:
            return []
        labels = {**outputs.NAMESPACE_LABELS, **_MADE_BY}
        self.kubectl.apply(
            [
                {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": self.namespace, "labels": labels},
                }
            ]
        )
        return [Change("create", "Namespace", self.namespace)]

    def namespace_is_missing(self) -> bool:
        """Whether nothing can be there yet."""
        return self.kubectl.find("namespace", self.namespace) is None

    def ensure_pull_secret(self, registry: Registry) -> list[Change]:
        """Keep the registry's login where the kubelet finds it; untouched when it is the same already.

        The password goes from its file to kubectl's stdin and the API server, nowhere else. Raises
        EnvironmentFault when the file cannot be read.
        """
        changes = self.pull_secret_differs(registry)
        if changes:
            secret = login(registry)
            secret["metadata"]["namespace"] = self.namespace
            self.kubectl.apply([secret])
        return changes

    def pull_secret_differs(self, registry: Registry) -> list[Change]:
        """What `ensure_pull_secret` would do."""
        held = self.kubectl.find("secret", PULL_SECRET, namespace=self.namespace)
        if held is not None and held.get("data") == login(registry)["data"]:
            return []
        return [Change("change" if held is not None else "create", "Secret", PULL_SECRET)]

    def held(self, manifests: Sequence[Manifest]) -> dict[Key, Manifest]:
        """The cluster's present versions of these objects."""
        done = self.kubectl.run(
            ["get", "-f", "-", "-o", "json", "--show-managed-fields", "--ignore-not-found"],
            input=as_list(manifests),
        )
        if not done.stdout.strip():
            return {}
        answer = json.loads(done.stdout)
        return {key_of(item): item for item in answer.get("items", [answer])}

    def members(self) -> set[Key]:
        """Objects that earlier applies of our set made and that are there."""
        parent = self.kubectl.find("configmap", APPLYSET, namespace=self.namespace)
        if parent is None:
            return set()
        notes = parent["metadata"].get("annotations", {})
        kinds = notes.get("applyset.kubernetes.io/contains-group-kinds", "")
        name = parent["metadata"].get("labels", {}).get("applyset.kubernetes.io/id", "")
        if not kinds or not name:
            return set()
        items = self.kubectl.get(
            kinds, namespace=self.namespace, selector=f"applyset.kubernetes.io/part-of={name}"
        )
        return {key_of(item) for item in items["items"]}

    def plan(self, manifests: Sequence[Manifest], before: Mapping[Key, Manifest]) -> list[Change]:
        """What `apply` would change, asked of the API server, which changes nothing."""
        done = self.kubectl.run(
            [
                *("apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}"),
                *("--dry-run=server", "-f", "-", "-o", "json"),
            ],
            input=as_list(_labelled(manifests, before)),
        )
        answer = json.loads(done.stdout)
        after = {key_of(item): item for item in answer.get("items", [answer])}
        gone = self.members() - set(after)
        return compare(before, after) + [Change("remove", kind, name) for kind, _, name in sorted(gone)]

    def apply(self, manifests: Sequence[Manifest], before: Mapping[Key, Manifest]) -> list[Change]:
        """Make the namespace hold these objects and none that an earlier apply made besides.

        before: what `held` gave for them. A field that somebody else changed is set back: whose the
        objects are is asked first (choosing.refuse_strangers). Returns what changed, as the cluster
        shows it. Raises DeployError when the API server refuses an object; what came before it stays
        applied, and the same call goes on from there.
        """
        try:
            done = self.kubectl.apply(
                manifests,
                field_manager=FIELD_MANAGER,
                force=True,
                applyset=f"configmaps/{APPLYSET}",
                namespace=self.namespace,
            )
        except KubectlError as error:
            raise DeployError(
                "the cluster refused the manifests",
                where=f"namespace {self.namespace}",
                tail=error.output,
                action=_refused(error),
            ) from error
        gone = [Change("remove", kind, name) for kind, name in _PRUNED.findall(done.stdout)]
        return _without_mark(compare(before, self.held(manifests))) + gone

    def remove(self) -> list[Change]:
        """Take away what `apply` and `ensure_*` made, the namespace too where it was made here."""
        changes = []
        members = sorted(self.members())
        for kind, _, name in members:
            self.kubectl.run(["delete", kind, name, "-n", self.namespace, "--ignore-not-found"], timeout=180)
            changes.append(Change("remove", kind, name))
        return changes + self.remove_rest()

    def remove_rest(self) -> list[Change]:
        """Take away what `ensure_*` made and the memory of `apply`."""
        changes = []
        for kind, name in (("Secret", PULL_SECRET), ("ConfigMap", APPLYSET)):
            held = self.kubectl.find(kind, name, namespace=self.namespace)
            if held is not None and (kind == "ConfigMap" or manager(held) == FIELD_MANAGER):
                self.kubectl.run(["delete", kind, name, "-n", self.namespace, "--ignore-not-found"])
                changes.append(Change("remove", kind, name))
        space = self.kubectl.find("namespace", self.namespace)
        if space is not None and _MADE_BY.items() <= space["metadata"].get("labels", {}).items():
            self.kubectl.run(["delete", "namespace", self.namespace, "--ignore-not-found"], timeout=180)
            changes.append(Change("remove", "Namespace", self.namespace))
        return changes


_PART_OF = "applyset.kubernetes.io/part-of"
# horizontalpodautoscaler.autoscaling/mnist-server pruned
_PRUNED = re.compile(r"^([a-z]+)(?:\.\S+)?/(\S+) pruned$", re.M)


def _labelled(manifests: Sequence[Manifest], before: Mapping[Key, Manifest]) -> list[Manifest]:
    """The mark that a real apply would leave, so that a dry run of the same objects shows no difference."""
    out = []
    for item in manifests:
        held = before.get(key_of(item), {}).get("metadata", {}).get("labels", {})
        labels = {**item["metadata"].get("labels", {})}
        if _PART_OF in held:
            labels[_PART_OF] = held[_PART_OF]
        out.append({**item, "metadata": {**item["metadata"], "labels": labels}})
    return out


def _without_mark(changes: list[Change]) -> list[Change]:
    """Leave out objects that only got the applyset's mark: an object adopted as it was is no change."""
    return [
        change
        for change in changes
        if change.verb != "change" or any(_PART_OF not in field for field in change.fields)
    ]


def _refused(error: KubectlError) -> str:
    return {
        "conflict": "another tool owns these fields; take it away there, or deploy to another namespace",
        "invalid": "correct the inputs named above (deploy.* in slipway.yaml)",
        "denied": "the kubeconfig's user lacks this right, or a policy of the cluster forbids the object",
    }.get(error.reason, error.action)


def login(registry: Registry) -> Manifest:
    """The secret with a registry's login, as the kubelet wants it."""
    assert registry.username is not None
    if registry.password_file is None:
        raise EnvironmentFault(
            f"no password for {registry.username} at {registry.address}",
            action="put it into a file only you can read, and name that: image.password_file",
        )
    try:
        password = Path(registry.password_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise EnvironmentFault(
            f"cannot read the registry's password: {error}", action="check image.password_file"
        ) from error
    token = base64.b64encode(f"{registry.username}:{password}".encode()).decode()
    entry = {"username": registry.username, "password": password, "auth": token}
    config = json.dumps({"auths": {registry.address: entry}}, sort_keys=True)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": PULL_SECRET, "labels": dict(outputs.LABELS)},
        "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
    }


def manager(item: Mapping[str, Any]) -> str:
    """Who manages an object: the field manager of its first apply or creation, not of its status.

    Autoscaler, controllers and `kubectl scale` change objects they do not own, all of them later.
    """
    entries = [
        entry
        for entry in item["metadata"].get("managedFields", [])
        if not entry.get("subresource") and entry.get("manager") != "kube-controller-manager"
    ]
    applied = [entry for entry in entries if entry.get("operation") == "Apply"]
    chosen = applied or entries
    return str(chosen[0]["manager"]) if chosen else ""


def owner(item: Mapping[str, Any]) -> str:
    """Whose an object is, for people: field manager, and what Helm and others write on it."""
    meta = item["metadata"]
    notes, labels = meta.get("annotations", {}), meta.get("labels", {})
    parts = [f"field manager {manager(item) or 'unknown'}"]
    if "meta.helm.sh/release-name" in notes:
        parts.append(f"Helm release {notes['meta.helm.sh/release-name']}")
    elif "app.kubernetes.io/managed-by" in labels:
        parts.append(f"managed by {labels['app.kubernetes.io/managed-by']}")
    return ", ".join(parts)
