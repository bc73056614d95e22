"""The secret with a registry's login, as the kubelet wants it."""

from __future__ import annotations

import base64
import json

from slipway_stacks import outputs

from slipway.clients.kubectl import Manifest
from slipway.core import registries
from slipway.core.registries import PULL_SECRET
from slipway.core.types import Registry


def login(registry: Registry) -> Manifest:
    """The secret with a registry's login, as the kubelet wants it: the one that only pulls, if there is one.

    Raises EnvironmentFault when there is no password to put into it.
    """
    seen = registries.as_nodes_see_it(registry)
    assert seen.username is not None
    secret = registries.password(seen)
    token = base64.b64encode(f"{seen.username}:{secret}".encode()).decode()
    entry = {"username": seen.username, "password": secret, "auth": token}
    config = json.dumps({"auths": {registry.address: entry}}, sort_keys=True)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": PULL_SECRET, "labels": dict(outputs.PART_OF)},
        "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
    }
