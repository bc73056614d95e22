"""The packages of Debian and Ubuntu that this machine lacks for what the settings ask, and getting them."""

from __future__ import annotations

import os
import shutil

from slipway.core.errors import EnvironmentFault
from slipway.core.events import Emit
from slipway.core.schema import Settings
from slipway.hosts.nspawn import controller, inherit


def makes_hosts(settings: Settings) -> bool:
    """Whether hosts are made on this machine."""
    return settings.hosts.backend == "nspawn" and settings.cluster.kubeconfig is None


def missing(settings: Settings) -> tuple[str, ...]:
    """Names of the packages to install. Raises EnvironmentFault where no host could be made at all."""
    packages: list[str] = []
    if settings.cluster.kubeconfig is None and shutil.which("ssh") is None:
        packages.append("openssh-client")  # Ansible and `slipway hosts ssh` start it
    if makes_hosts(settings):
        controller.need_linux()
        packages += controller.missing(inherit.site(settings.site, settings.hosts.suite))
    elif "modules" in settings.artifacts.sources and shutil.which("mmdebstrap") is None:
        packages.append("mmdebstrap")  # makes the root file systems of images
    return tuple(packages)


def install(packages: tuple[str, ...], emit: Emit) -> None:
    """Install packages by name with apt, saying so. Raises EnvironmentFault, then with what to type."""
    if shutil.which("apt-get") is None:
        raise EnvironmentFault(
            f"this machine lacks {' '.join(packages)}, and there is no apt-get to install them with",
            action="install what they hold (the names are Debian's) in this system's own way",
        )
    if os.geteuid() != 0:
        raise EnvironmentFault(
            f"this machine lacks {' '.join(packages)}, and installing them needs root",
            action=f"sudo apt-get install --no-install-recommends {' '.join(packages)}",
        )
    controller.install(packages, emit)
