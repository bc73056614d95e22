"""When a lab's certificates and the keys of its apt sources end, read on its hosts; never a private key."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from slipway.clients import ssh
from slipway.clients.openpgp import NEVER
from slipway.core.context import Context
from slipway.core.errors import SlipwayError
from slipway.core.types import Host, Hosts
from slipway.status import apt_keys

# The roles' own defaults: within it the next `slipway provision` renews
RENEWED = timedelta(days=90)
# A kubelet renews its own when a fifth of its life is left, give or take a tenth; below this it has failed to
KUBELET = timedelta(days=30)
# As long before its end the role looks for one that is valid for longer (apt_source's renew_days)
APT_KEY = timedelta(days=30)
# Prints "# name" and the certificates of each file that is there. Private keys stay where they are: of a file
# with both only the certificates are printed. The keys of apt are public ones.
_READ = r"""
show() { echo "# $1"; sed -n '/-BEGIN CERTIFICATE-/,/-END CERTIFICATE-/p'; }
for file in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt; do
  name=${file#/etc/kubernetes/pki/}
  if [ -f "$file" ]; then show "kubernetes ${name%.crt}" <"$file"; fi
done
for name in admin controller-manager scheduler; do
  file=/etc/kubernetes/$name.conf
  if [ -f "$file" ]; then
    sed -n 's/^ *client-certificate-data: *//p' "$file" | base64 -d | show "kubernetes $name.conf"
  fi
done
file=/var/lib/kubelet/pki/kubelet-client-current.pem
if [ -f "$file" ]; then show "kubelet" <"$file"; fi
file=/var/lib/kubelet/pki/kubelet-server-current.pem
if [ -f "$file" ]; then show "kubelet-server" <"$file"; fi
file=/etc/kubernetes/metrics-server/tls.crt
if [ -f "$file" ]; then show "metrics-server" <"$file"; fi
for name in ca server; do
  file=/etc/docker/registry/tls/$name.crt
  if [ -f "$file" ]; then show "registry $name" <"$file"; fi
done
for name in docker kubernetes tensorflow-serving; do
  file=/etc/apt/keyrings/$name.asc
  if [ -f "$file" ]; then echo "# apt $name"; base64 "$file"; fi
done
"""
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Ending:
    """A certificate of a host or a key of its apt, by what it is for, and when it ends.

    problem: why it may not be trusted; empty when nothing is wrong with it.
    """

    host: str
    name: str
    ends: datetime
    problem: str = ""

    @property
    def group(self) -> str:
        """kubernetes, kubelet, kubelet-server, metrics-server or registry; of apt's keys each is its own."""
        return self.name if self.name.startswith("apt ") else self.name.split()[0]

    @property
    def authority(self) -> bool:
        """Whether it signs others. kubeadm never renews such a one."""
        return self.name.endswith("ca")

    def soon(self, now: datetime) -> str:
        """What to do about it by now; empty while nothing is."""
        if self.problem:
            return "`slipway provision` puts the pinned one in its place"
        apt = self.group.startswith("apt ")
        if self.ends - now > (APT_KEY if apt else KUBELET if self.group == "kubelet" else RENEWED):
            return ""
        if apt:
            return "`slipway provision` fetches it anew once its publisher has made it valid for longer"
        if self.group == "kubelet":
            return f"the kubelet of {self.host} renews it by itself and has not: look at its journal"
        if self.group == "kubernetes" and self.authority:
            return (
                "kubeadm renews no authority: "
                "https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/"
            )
        return "`slipway provision` renews it"

    def left(self, now: datetime) -> str:
        """How long it is still valid, in words."""
        if self.problem or self.ends == NEVER:
            return self.problem or "never ends"
        days = (self.ends - now) / timedelta(days=1)
        if days <= 0:
            return f"ended {self.ends:%Y-%m-%d}"
        return f"ends {self.ends:%Y-%m-%d}, in {days:.0f} days" if days >= 1 else "ends today"


def endings(ctx: Context) -> tuple[list[Ending], list[SlipwayError]]:
    """Every certificate and apt key of the lab's hosts, and an error for each host that could not be asked.

    The hosts are asked side by side, one connection each.
    """
    hosts = ctx.state.kept(Hosts)
    if hosts is None or not hosts.hosts:
        return [], []
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda host: _ask(host, ctx.project), hosts.hosts))
    found = [ending for answer in answers if not isinstance(answer, SlipwayError) for ending in answer]
    return found, [answer for answer in answers if isinstance(answer, SlipwayError)]


def _ask(host: Host, project: Path) -> list[Ending] | SlipwayError:
    try:
        with ssh.connect(host, timeout=5) as connection:
            printed = connection.run(["sh", "-s"], input=_READ, timeout=15).stdout
    except SlipwayError as error:
        return error
    return parse(host.name, printed, project)


def parse(host: str, printed: str, project: Path) -> list[Ending]:
    """The certificates and keys of what a host printed. Of a chain the one that ends first counts.

    project: the folder with playbooks/, whose roles pin the keys.
    """
    out = []
    for part in printed.split("# ")[1:]:
        name, _, rest = part.partition("\n")
        if name.startswith("apt "):
            key = apt_keys.read(project, name.split()[1], base64.b64decode(rest))
            out.append(Ending(host, name.strip(), key.ends, key.problem))
            continue
        ends = [
            x509.load_pem_x509_certificate(block.encode()).not_valid_after_utc
            for block in _BLOCK.findall(rest)
        ]
        if ends:
            out.append(Ending(host, name.strip(), min(ends)))
    return out


def first_of_each(found: Iterable[Ending]) -> list[Ending]:
    """Of each host and group what ends first; authorities apart from those they sign, apt's keys each."""
    soonest: dict[tuple[str, str, bool], Ending] = {}
    for ending in sorted(found, key=lambda ending: ending.ends):
        soonest.setdefault((ending.host, ending.group, ending.authority), ending)
    return sorted(soonest.values(), key=lambda ending: (ending.host, ending.group, ending.authority))


def now() -> datetime:
    """The time certificates are held against."""
    return datetime.now(UTC)
