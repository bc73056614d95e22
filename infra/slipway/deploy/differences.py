"""What differs between two readings of a cluster's objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from slipway.clients.kubectl import Change, Manifest, differing

# What the API server and controllers keep for themselves; no manifest sets them
_NOT_OURS = ("status",)
_NOT_OURS_META = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_NOT_OURS_NOTES = ("deployment.kubernetes.io/revision",)

# What either way writes on an object for itself, as a path of `differing` contains it
_MARKS = ("applyset.kubernetes.io/", "pulumi.com/")

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
        fields = differing(_content(before[key]), _content(item))
        if fields:
            changes.append(Change("change", key[0], key[2], fields))
    changes += [Change("remove", key[0], key[2]) for key in before if key not in after]
    return changes


def without_marks(changes: Sequence[Change]) -> list[Change]:
    """Leave out fields that only say who manages an object: adopting one as it is changes nothing."""
    out = []
    for change in changes:
        fields = tuple(field for field in change.fields if not any(mark in field for mark in _MARKS))
        if fields or change.verb != "change":
            out.append(replace(change, fields=fields))
    return out


def _content(item: Manifest) -> Manifest:
    out = {key: value for key, value in item.items() if key not in _NOT_OURS}
    meta = {key: value for key, value in item["metadata"].items() if key not in _NOT_OURS_META}
    notes = {key: value for key, value in meta.pop("annotations", {}).items() if key not in _NOT_OURS_NOTES}
    out["metadata"] = {**meta, "annotations": notes} if notes else meta
    return out
