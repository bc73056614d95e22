"""Whose the objects of a cluster are, and the refusal to touch what something else made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.clients.kubectl import Manifest
from slipway.clients.pulumi_engine import Engine, Resource
from slipway.core.errors import DeployError
from slipway.deploy.differences import Key, key_of

FIELD_MANAGER = "slipway"


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


def managers(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The field managers that applied an object, or a part of it, from the server's side."""
    entries = item["metadata"].get("managedFields", [])
    return tuple(
        str(entry["manager"])
        for entry in entries
        if entry.get("operation") == "Apply" and not entry.get("subresource")
    )


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


def refuse_strangers(namespace: str, held: Mapping[Key, Manifest], engine: Engine | None) -> None:
    """Raise DeployError when one of these objects was made by something else than slipway.

    engine: the one of this state folder, None where there is none. What it made and what render made is ours,
    whichever way deploys now.
    """
    foreign = {key: item for key, item in held.items() if manager(item) != FIELD_MANAGER}
    by_pulumi = any(manager(item).startswith("pulumi") for item in foreign.values())
    ours = engine.resources() if engine is not None and by_pulumi else set()
    strangers = [
        (key, item)
        for key, item in foreign.items()
        if not (manager(item).startswith("pulumi") and Resource(*key_of(item)) in ours)
    ]
    if not strangers:
        return
    raise DeployError(
        f"{strangers[0][0][0]} {strangers[0][0][2]} exists already and was made by something else",
        where=f"namespace {namespace}",
        tail="\n".join(f"{kind} {name}: {owner(item)}" for (kind, _, name), item in strangers),
        action="set deploy.namespace to another one, or take these away with the tool that made them",
    )
