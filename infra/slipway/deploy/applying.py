"""Manifests into a cluster through kubectl: what they would change, and what they changed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from slipway_stacks import outputs

from slipway.clients.kubectl import Change, Kubectl, KubectlError, Manifest, as_list
from slipway.core.errors import DeployError
from slipway.core.registries import PULL_SECRET
from slipway.core.types import Registry
from slipway.deploy.differences import Key, compare, key_of, without_marks
from slipway.deploy.ownership import FIELD_MANAGER, manager
from slipway.deploy.pull_secret import login

_MADE_BY = {"app.kubernetes.io/managed-by": FIELD_MANAGER}


class Applier:
    """Manifests in one namespace of one cluster.

    applyset: the ConfigMap that remembers which objects an apply made, so that the next one can remove what
    is gone. Each model has its own.
    """

    def __init__(self, kubectl: Kubectl, namespace: str, applyset: str) -> None:
        self.kubectl = kubectl
        self.namespace = namespace
        self.applyset = applyset

    def ensure_namespace(self) -> list[Change]:
        """Make the namespace unless it exists; an existing one is left as it is."""
        if not self.namespace_is_missing():
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
        """Whether the namespace does not exist yet."""
        return self._held_namespace() is None

    def _held_namespace(self) -> Manifest | None:
        """The namespace, None where there is none; for who may not look one of somebody else's making."""
        try:
            return self.kubectl.find("namespace", self.namespace)
        except KubectlError as error:
            if error.reason != "denied":
                raise
            return {"metadata": {}}

    def ensure_pull_secret(self, registry: Registry) -> list[Change]:
        """Keep the registry's login where the kubelet finds it; an equal one is left as it is.

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
        """Objects that earlier applies of our set made and that still exist."""
        parent = self.kubectl.find("configmap", self.applyset, namespace=self.namespace)
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
            input=as_list(_labelled(_counted(manifests, before), before)),
        )
        answer = json.loads(done.stdout)
        after = {key_of(item): item for item in answer.get("items", [answer])}
        gone = self.members() - set(after)
        return compare(before, after) + [Change("remove", kind, name) for kind, _, name in sorted(gone)]

    def apply(self, manifests: Sequence[Manifest], before: Mapping[Key, Manifest]) -> list[Change]:
        """Make the namespace hold these objects, and remove others that an earlier apply made.

        before: what `held` gave for them. A field that somebody else changed is set back: whose the
        objects are is asked first (ownership.refuse_strangers). Returns what changed, as the cluster
        shows it. Raises DeployError when the API server refuses an object; what came before it stays
        applied, and the same call goes on from there.
        """
        try:
            done = self.kubectl.apply(
                _counted(manifests, before),
                field_manager=FIELD_MANAGER,
                force=True,
                applyset=f"configmaps/{self.applyset}",
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
        return without_marks(compare(before, self.held(manifests))) + gone

    def release(self, manifests: Sequence[Manifest], names: Sequence[str]) -> None:
        """Have field managers let go of these objects: what they alone own in them goes."""
        bare = [
            {
                **{key: item[key] for key in ("apiVersion", "kind")},
                "metadata": {key: item["metadata"][key] for key in ("name", "namespace")},
            }
            for item in manifests
        ]
        for name in names:
            self.kubectl.apply(bare, field_manager=name, force=True)

    def dissolve_set(self, kept: Sequence[Manifest]) -> list[Change]:
        """Forget which objects earlier applies made, and remove those of them that are not kept."""
        wanted = {(item["kind"], item["metadata"]["name"]) for item in kept}
        gone = sorted((kind, name) for kind, _, name in self.members() if (kind, name) not in wanted)
        changes = [self.delete(kind, name) for kind, name in gone]
        self.delete("ConfigMap", self.applyset)
        return changes

    def delete(self, kind: str, name: str) -> Change:
        """Remove one object of the namespace, if it is there."""
        self.kubectl.run(["delete", kind, name, "-n", self.namespace, "--ignore-not-found"], timeout=180)
        return Change("remove", kind, name)

    def remove(self, *, alone: bool) -> list[Change]:
        """Take away what `apply` made, and what `remove_rest` does."""
        changes = [self.delete(kind, name) for kind, _, name in sorted(self.members())]
        return changes + self.remove_rest(alone=alone)

    def remove_rest(self, *, alone: bool) -> list[Change]:
        """Take away the memory of `apply` and what `ensure_*` made, the namespace if it was made here.

        alone: nothing else of ours is in the namespace; else that and the login in it stay.
        """
        changes = []
        login = [("Secret", PULL_SECRET)] if alone else []
        for kind, name in (*login, ("ConfigMap", self.applyset)):
            held = self.kubectl.find(kind, name, namespace=self.namespace)
            if held is not None and (kind == "ConfigMap" or manager(held) == FIELD_MANAGER):
                changes.append(self.delete(kind, name))
        space = self._held_namespace() if alone else None
        if space is not None and _MADE_BY.items() <= space["metadata"].get("labels", {}).items():
            self.kubectl.run(["delete", "namespace", self.namespace, "--ignore-not-found"], timeout=180)
            changes.append(Change("remove", "Namespace", self.namespace))
        return changes


_PART_OF = "applyset.kubernetes.io/part-of"
# horizontalpodautoscaler.autoscaling/mnist-server pruned
_PRUNED = re.compile(r"^([a-z]+)(?:\.\S+)?/(\S+) pruned$", re.M)


def _counted(manifests: Sequence[Manifest], before: Mapping[Key, Manifest]) -> list[Manifest]:
    """Leave the count of replicas to the autoscaler where there is one: the one it has chosen is sent back.

    Without a count the API would go to 1, with the manifest's it would undo the autoscaler's work.
    """
    scaled = {
        (item["spec"]["scaleTargetRef"]["kind"], item["spec"]["scaleTargetRef"]["name"])
        for item in manifests
        if item["kind"] == "HorizontalPodAutoscaler"
    }
    out = []
    for item in manifests:
        held = before.get(key_of(item), {}).get("spec", {}).get("replicas")
        if held is not None and (item["kind"], item["metadata"]["name"]) in scaled:
            count = max(held, item["spec"]["replicas"])  # which is the least the autoscaler may choose
            item = {**item, "spec": {**item["spec"], "replicas": count}}  # noqa: PLW2901  # the changed one goes on
        out.append(item)
    return out


def _labelled(manifests: Sequence[Manifest], before: Mapping[Key, Manifest]) -> list[Manifest]:
    """Add the mark that a real apply leaves, so that a dry run of the same objects shows no difference."""
    out = []
    for item in manifests:
        held = before.get(key_of(item), {}).get("metadata", {}).get("labels", {})
        labels = {**item["metadata"].get("labels", {})}
        if _PART_OF in held:
            labels[_PART_OF] = held[_PART_OF]
        out.append({**item, "metadata": {**item["metadata"], "labels": labels}})
    return out


def _refused(error: KubectlError) -> str:
    return {
        "conflict": "another tool owns these fields; take it away there, or deploy to another namespace",
        "invalid": "correct the inputs named above (deploy.* in slipway.yaml)",
        "denied": "the kubeconfig's user lacks this right, or a policy of the cluster forbids the object",
    }.get(error.reason, error.action)
