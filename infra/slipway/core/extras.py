"""Parts of slipway that are installed only when they are asked for: `slipway-serving[train]` and the like."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from typing import Literal

from slipway.core import project
from slipway.core.errors import EnvironmentFault

Cloud = Literal["aws", "azure", "google", "hetzner", "openstack"]
Extra = Literal["train", "server", "remote", "signatures"] | Cloud
# One module of each package an extra brings; together with pyproject.toml's optional-dependencies.
MODULES: dict[Extra, tuple[str, ...]] = {
    "train": ("tensorflow", "mlxtend", "threadpoolctl"),
    "server": ("slipway_server",),
    "remote": ("fsspec", "aiohttp", "gcsfs", "huggingface_hub", "s3fs"),
    "signatures": ("model_signing",),
    "aws": ("pulumi_aws",),
    "azure": ("pulumi_azure_native",),
    "google": ("pulumi_gcp",),
    "hetzner": ("pulumi_hcloud",),
    "openstack": ("pulumi_openstack",),
}


def missing(extra: Extra) -> tuple[str, ...]:
    """The modules of this extra that cannot be imported here; looks for them and imports none."""
    return tuple(name for name in MODULES[extra] if importlib.util.find_spec(name) is None)


def command(extra: Extra) -> str:
    """What to type to have this extra: with the very Python that slipway runs on, pipx's or a venv's."""
    if project.checkout() is not None:
        return "make setup"
    # slipway itself is there already, so pip looks for the packages of the extra only
    words = [sys.executable, "-m", "pip", "install", "--find-links", str(project.WHEELS)]
    return shlex.join([*words, f"{project.DISTRIBUTION}[{extra}]"])


def need(extra: Extra, what: str) -> None:
    """Raise EnvironmentFault, with the command to type, where `what` needs an extra that is not installed."""
    if lacking := missing(extra):
        raise EnvironmentFault(
            f"{what} needs the extra `{extra}` of {project.DISTRIBUTION}, which is not installed "
            f"({', '.join(lacking)} cannot be imported)",
            action=command(extra),
        )
