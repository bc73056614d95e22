"""The images of a kubeadm cluster, from programs built here and packages of Debian."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway_stacks import outputs

from slipway.artifacts import oci
from slipway.core.errors import ArtifactError

NONROOT = str(outputs.USER)
CONTROL_PLANE = "control-plane.tar"
EVERY_NODE = "every-node.tar"
# what the official image of a program holds, too
BESIDE = {"etcd": ("etcdctl", "etcdutl")}
# cap_net_bind_service=ep as the kernel stores it (VFS_CAP_REVISION_2 with the effective bit): CoreDNS
# runs as a user of its own and kubeadm grants it this capability to listen on port 53.
_NET_BIND_SERVICE = bytes.fromhex("01000002" + "00040000" + "00000000" * 3)

# kube-proxy and flannel must write their rules into the same tables as the node's kubelet does:
# the kubelet leaves the chain KUBE-IPTABLES-HINT there. Without one, nft where the kernel has it.
_IPTABLES = b"""#!/bin/sh
name=${0##*/}
family=${name%%tables*}
if [ ! -s /run/slipway-iptables ]; then
  mode=
  for try in nft legacy; do
    for save in "/usr/sbin/iptables-$try-save" "/usr/sbin/ip6tables-$try-save"; do
      if "$save" -t mangle 2>/dev/null | grep -q '^:KUBE-IPTABLES-HINT'; then mode=$try; break 2; fi
    done
  done
  if [ -z "$mode" ]; then
    # not remembered: the kubelet may still be about to leave its chain
    mode=legacy; /usr/sbin/iptables-nft -w 5 -S >/dev/null 2>&1 && mode=nft
    exec "/usr/sbin/${family}tables-$mode${name#"${family}"tables}" "$@"
  fi
  echo "$mode" 2>/dev/null >/run/slipway-iptables
  exec "/usr/sbin/${family}tables-$mode${name#"${family}"tables}" "$@"
fi
read -r mode < /run/slipway-iptables
exec "/usr/sbin/${family}tables-$mode${name#"${family}"tables}" "$@"
"""

# Holds a pod's namespaces: reaps children and ends on a signal. `kubeadm upgrade` asks for its version, and
# goes on when that has ended well.
_PAUSE = b"""#!/bin/sh
if [ "$1" = -v ]; then
  echo pause
  exit
fi
exec /usr/bin/catatonit -P
"""

_PASSWD = f"""root:x:0:0:root:/root:/sbin/nologin
nonroot:x:{NONROOT}:{NONROOT}:nonroot:/nonexistent:/sbin/nologin
""".encode()
_GROUP = f"root:x:0:\nnonroot:x:{NONROOT}:\n".encode()


@dataclass(frozen=True)
class Wanted:
    """The names `kubeadm config images list` gives its images."""

    names: tuple[str, ...]

    def of(self, program: str) -> str:
        """The full name of a program's image. Raises ArtifactError if kubeadm does not list it."""
        for name in self.names:
            if name.rpartition(":")[0].rpartition("/")[2] == program:
                return name
        raise ArtifactError(
            f"kubeadm lists no image of {program}",
            tail="\n".join(self.names),
            action="pin a Kubernetes in infra/slipway/artifacts/modules/kubernetes whose kubeadm needs that "
            "image",
        )

    def tag(self, program: str) -> str:
        return self.of(program).rpartition(":")[2]


def recipe() -> bytes:
    """What decides the images beside the programs in them: this code, the archive writer's and the user."""
    return Path(__file__).read_bytes() + Path(oci.__file__).read_bytes() + NONROOT.encode()


def write(
    folder: Path,
    scratch: Path,
    *,
    wanted: Wanted,
    flannel: str,
    network_policy: str,
    metrics_server: str,
    programs: Mapping[str, Path],
    root: Path,
    arch: str,
) -> None:
    """Write control-plane.tar and every-node.tar to `folder`.

    programs: the built program of each name. root: tar of a Debian root with iptables and catatonit.
    """
    base = oci.layer(
        scratch / "base",
        [
            oci.Item("/etc/passwd", content=_PASSWD, mode=0o644),
            oci.Item("/etc/group", content=_GROUP, mode=0o644),
            oci.Item("/tmp", mode=0o1777),  # noqa: S108  # a folder inside the image
        ],
    )
    debian = oci.layer_of_tar(scratch / "debian", root)
    choose = oci.layer(
        scratch / "iptables",
        [
            oci.Item(f"/usr/local/sbin/{family}tables{suffix}", content=_IPTABLES)
            for family in ("ip", "ip6")
            for suffix in ("", "-save", "-restore")
        ],
    )

    def program(name: str, path: str, capability: bytes | None = None) -> oci.Layer:
        return oci.layer(scratch / name, [oci.Item(path, source=programs[name], capability=capability)])

    def beside(name: str) -> tuple[oci.Layer, ...]:
        return tuple(
            program(other, f"/usr/local/bin/{other}") for other in BESIDE.get(name, ()) if other in programs
        )

    control_plane = [
        oci.Image(
            wanted.of(name),
            (base, program(name, f"/usr/local/bin/{name}"), *beside(name)),
            (f"/usr/local/bin/{name}",),
        )
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
    ]
    _look_for(root, "usr/bin/catatonit")
    pause = oci.layer(scratch / "pause", [oci.Item("/pause", content=_PAUSE)])
    coredns = program("coredns", "/coredns", _NET_BIND_SERVICE)
    every_node = [
        oci.Image(
            wanted.of("kube-proxy"),
            (debian, choose, program("kube-proxy", "/usr/local/bin/kube-proxy")),
            ("/usr/local/bin/kube-proxy",),
        ),
        oci.Image(
            flannel,
            (debian, choose, program("flanneld", "/usr/local/bin/flanneld")),
            ("/usr/local/bin/flanneld",),
        ),
        oci.Image(
            network_policy,
            (debian, program("netpol", "/usr/bin/netpol")),
            ("/usr/bin/netpol",),
        ),
        oci.Image(wanted.of("coredns"), (base, coredns), ("/coredns",), user=f"{NONROOT}:{NONROOT}"),
        oci.Image(
            metrics_server,
            (base, program("metrics-server", "/metrics-server")),
            ("/metrics-server",),
            user=f"{NONROOT}:{NONROOT}",
        ),
        oci.Image(wanted.of("pause"), (debian, pause), ("/pause",), user="65535:65535"),
    ]
    oci.archive(folder / CONTROL_PLANE, control_plane, arch)
    oci.archive(folder / EVERY_NODE, every_node, arch)


def _look_for(root: Path, member: str) -> None:
    with tarfile.open(root) as tar:
        if {f"./{member}", member}.intersection(tar.getnames()):
            return
    raise ArtifactError(
        f"the Debian root has no {member}",
        where=str(root),
        action="remove the folder of this file and run again: the root is made anew from the apt mirror",
    )
