"""Logins at registries as `docker login`, `podman login` and `oras login` keep them."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.core import process
from slipway.core.errors import EnvironmentFault, SlipwayError

_HELPER_SECONDS = 30.0


def of(registry: str, environment: Mapping[str, str] = os.environ) -> tuple[str, str] | None:
    """Name and password for a registry; None where nothing is kept.

    Of REGISTRY_AUTH_FILE, DOCKER_CONFIG/config.json (else ~/.docker/config.json) and
    XDG_RUNTIME_DIR/containers/auth.json the first that knows the registry, by itself or by a
    credential helper that it names. Raises EnvironmentFault for a file that cannot be read, or a helper that
    is not there.
    """
    for path in _files(environment):
        if path.is_file() and (found := _in(path, _names(registry))) is not None:
            return found
    return None


def _files(environment: Mapping[str, str]) -> list[Path]:
    named = environment.get("REGISTRY_AUTH_FILE")
    docker = environment.get("DOCKER_CONFIG") or Path(environment.get("HOME") or "~").expanduser() / ".docker"
    podman = environment.get("XDG_RUNTIME_DIR")
    return [
        *([Path(named)] if named else []),
        Path(docker) / "config.json",
        *([Path(podman) / "containers" / "auth.json"] if podman else []),
    ]


def _names(registry: str) -> tuple[str, ...]:
    """What a registry is called in these files: Docker Hub by an address of old."""
    if registry in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        return (registry, "docker.io", "https://index.docker.io/v1/")
    return (registry, f"https://{registry}")


def _in(path: Path, names: tuple[str, ...]) -> tuple[str, str] | None:
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
        helpers, logins = kept.get("credHelpers", {}), kept.get("auths", {})
        for name in names:
            helper = helpers.get(name) or kept.get("credsStore")
            if helper and (found := _asked(str(helper), name)) is not None:
                return found
            if encoded := logins.get(name, {}).get("auth"):
                user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
                return user, password
    except (OSError, ValueError, AttributeError, binascii.Error) as error:
        raise EnvironmentFault(
            f"cannot read the logins of registries: {type(error).__name__}",
            where=str(path),
            action="`docker login` writes it anew",
        ) from error
    return None


def _asked(helper: str, name: str) -> tuple[str, str] | None:
    """What a credential helper knows of a registry. Its protocol: the name on stdin, JSON on stdout."""
    try:
        done = process.run(
            [f"docker-credential-{helper}", "get"], input=name, timeout=_HELPER_SECONDS, check=False
        )
    except SlipwayError as error:
        raise EnvironmentFault(
            f"the credential helper docker-credential-{helper} cannot be asked: {error.what}",
            action="install it, or take it out of Docker's config.json",
        ) from error
    if done.returncode != 0:  # it has no login for this registry
        return None
    answer = json.loads(done.stdout)
    return str(answer["Username"]), str(answer["Secret"])
