"""Who is let in: Secrets of the cluster, by name, become the server's TLS and its tokens.

The Secrets are mounted read-only, so that what is renewed in them reaches the server, which looks for it.
What joins the files of TLS, an SSLConfig, is an annotation of the pod: it holds paths and no key, and a
change of it is a rolling update.
"""

from __future__ import annotations

from typing import Any

from slipway_stacks import outputs
from slipway_stacks.inputs import Inputs

Manifest = dict[str, Any]

_TLS = "/etc/slipway/tls"
_TOKEN = "/etc/slipway/token"  # noqa: S105  # a folder
_ANNOTATION = "slipway.dev/ssl-config"


def arguments(inputs: Inputs) -> list[str]:
    """The server's flags."""
    out = []
    if inputs.tls_secret is not None:
        config = f"{_TLS}/ssl.conf"
        out += [
            f"--ssl_config_file={config}",
            f"--rest_ssl_config_file={config}",
            f"--health_port={outputs.HEALTH_PORT}",  # Kubernetes' gRPC probes speak no TLS
        ]
    if inputs.token_secret is not None:
        out.append(f"--token_file={_TOKEN}/token")
    return out


def notes(inputs: Inputs) -> dict[str, str]:
    """The pod's: the SSLConfig, and that its metrics are to be had by HTTPS."""
    if inputs.tls_secret is None:
        return {}
    lines = [f'server_key: "{_TLS}/tls.key"', f'server_cert: "{_TLS}/tls.crt"']
    if inputs.tls_clients:
        lines += [f'custom_ca: "{_TLS}/ca.crt"', "client_verify: true"]
    return {_ANNOTATION: "\n".join(lines) + "\n", "prometheus.io/scheme": "https"}


def volumes(inputs: Inputs) -> list[Manifest]:
    """The Secrets' keys that are the server's business, as files."""
    out: list[Manifest] = []
    if inputs.tls_secret is not None:
        keys = ["tls.crt", "tls.key", *(["ca.crt"] if inputs.tls_clients else [])]
        config = {"path": "ssl.conf", "fieldRef": {"fieldPath": f"metadata.annotations['{_ANNOTATION}']"}}
        sources = [
            {"secret": {"name": inputs.tls_secret, "items": [{"key": key, "path": key} for key in keys]}},
            {"downwardAPI": {"items": [config]}},
        ]
        out.append({"name": "tls", "projected": {"sources": sources}})
    if inputs.token_secret is not None:
        items = [{"key": "token", "path": "token"}]
        out.append({"name": "token", "secret": {"secretName": inputs.token_secret, "items": items}})
    return out


def mounts(inputs: Inputs) -> list[Manifest]:
    """Where the server sees them."""
    named = {"tls": (inputs.tls_secret, _TLS), "token": (inputs.token_secret, _TOKEN)}
    return [
        {"name": name, "mountPath": path, "readOnly": True}
        for name, (secret, path) in named.items()
        if secret is not None
    ]


def scraped(inputs: Inputs) -> dict[str, Any]:
    """How the Prometheus operator reads metrics: not by a name that a certificate of pods could be for."""
    out: dict[str, Any] = {}
    if inputs.tls_secret is not None:
        out |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
    if inputs.token_secret is not None:
        out["authorization"] = {"credentials": {"name": inputs.token_secret, "key": "token"}}
    return out
