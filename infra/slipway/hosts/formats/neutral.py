"""Run inside a root, by its own Python: takes out what is of the site that made it.

Its only argument is JSON: masked, units that lab hosts go without; resolved, whether systemd-resolved is
there. Prints the suites of which it knows no public archive.
"""

import json
import re
import shutil
import sys
from pathlib import Path

EMPTY = ("/var/lib/apt/lists", "/var/cache/apt", "/var/log", "/var/lib/cloud", "/tmp", "/var/tmp")  # noqa: S108  # what is there is removed
APT = 'APT::Install-Recommends "false";\nAcquire::Languages "none";\n'
SSHD = "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
# openssh's own unit asks for a first boot, at which systemd enables the units of every package, engines too
HOST_KEYS = """\
[Unit]
Description=Make the host keys that are missing
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
After=cloud-init.service cloud-init-network.service
Before=ssh.service ssh.socket

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
"""
# an address that somebody gave the machine before it booted stays
NETWORK = "[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\nKeepConfiguration=static\n"


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o644)


def archives() -> list[str]:
    """Have apt take the public archives, as the distribution's python-apt knows them.

    Returns the suites that it knows none of.
    """
    release = Path("/etc/os-release").read_text()
    found = re.search(r"^ID=(\w+)", release, re.MULTILINE)
    file = Path(f"/etc/apt/sources.list.d/{found[1] if found else 'debian'}.sources")
    from aptsources.distinfo import DistInfo  # type: ignore[import-not-found]  # the root's own

    known: dict[str, str] = {}
    for template in DistInfo(file.stem, base_dir="/usr/share/python-apt/templates").templates:
        uri = template.base_uri or known.get(template.name.rpartition("-")[0], "")
        if template.type == "deb" and uri.startswith("http"):
            known.setdefault(template.name, uri)
    kept, unknown = [], []
    for paragraph in file.read_text().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        suite = fields.get("Suites", "")
        if suite not in known:
            unknown.append(suite)
            continue
        stay = ("Types", "Suites", "Components", "Signed-By")
        lines = {"URIs": known[suite], **{name: fields[name] for name in stay if name in fields}}
        kept.append("".join(f"{name}: {value}\n" for name, value in lines.items()))
    write(str(file), "\n".join(kept) or "# name an archive of this distribution here\n")
    return unknown


def units(masked: list[str]) -> None:
    """Let there be the units of a machine with hardware and a network of its own."""
    for unit in masked:
        link = Path("/etc/systemd/system", unit)
        if link.is_symlink():
            link.unlink()
    write("/etc/systemd/network/90-dhcp.network", NETWORK)
    write("/etc/systemd/system/host-keys.service", HOST_KEYS)


def main(masked: list[str], *, resolved: bool) -> None:
    unknown = archives()
    units(masked)
    for one in Path("/usr/local/share/ca-certificates").glob("site-*.crt"):
        one.unlink()
    write("/etc/apt/apt.conf.d/90site", APT)
    Path("/etc/ssh/sshd_config.d/10-lab.conf").unlink(missing_ok=True)
    write("/etc/ssh/sshd_config.d/10-image.conf", SSHD)
    write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
    # there and empty: systemd makes one at each machine's first boot, and keeps the units enabled that are
    write("/etc/machine-id", "")
    for name in ("/etc/resolv.conf", "/usr/lib/slipway-root.json", "/var/lib/dbus/machine-id"):
        Path(name).unlink(missing_ok=True)
    if resolved:
        Path("/etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    for folder in EMPTY:
        for one in Path(folder).glob("*"):
            shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()
    for kernel in Path("/usr/lib/modules").glob("*"):
        if not (kernel / "kernel").is_dir():  # lists of what the kernel had that the root was baked on
            shutil.rmtree(kernel)
    for one in (*Path("/etc/ssh").glob("ssh_host_*"), Path("/boot/efi/loader/random-seed")):
        one.unlink(missing_ok=True)
    sys.stdout.write(" ".join(unknown))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
