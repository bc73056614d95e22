"""Ansible filter: what a venv is to be made of, by a lock and the wheels there are on the controller."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

DOCUMENTATION = r"""
name: locked_wheels
short_description: What a venv is made of
description:
  - Of a lock with hashes, the requirements that are wanted on a host, and the wheels of products of one's own
    by the hash of their files. What of it lies in the folder can be copied to the host, and pip takes the
    rest from its index.
positional: names, products, folder, host
options:
  _input:
    description: Text of the lock, as C(uv pip compile --generate-hashes) writes it.
    type: str
    required: true
  names: {description: Distributions of the lock that are wanted., type: list, elements: str, required: true}
  products:
    description: Distributions that only the folder has.
    type: list
    elements: str
    required: true
  folder: {description: Folder on the controller with wheels., type: str, required: true}
  host:
    description: "The host's facts: its C(python), as 3.13, and C(architecture)."
    type: dict
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Write the requirements
  ansible.builtin.copy:
    content: "{{ (lookup('ansible.builtin.file', 'requirements.lock') | slipway.serving.locked_wheels(
      ['grpcio'], ['slipway-client'], '~/wheels', ansible_facts.slipway_host)).requirements }}"
    dest: /opt/client/requirements.txt
    mode: "0644"
"""

RETURN = r"""
_value:
  description:
    - C(requirements), for pip with C(--require-hashes); C(files), the wheels that the folder has of them;
      C(lacking), the requirements it has no wheel of that fits; C(lacking_products), the products it has none
      of.
  type: dict
"""

REQUIREMENT = re.compile(
    r"^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\\n]*))?", re.MULTILINE
)


def locked_wheels(
    lock: str, names: Sequence[str], products: Sequence[str], folder: str, host: Mapping[str, Any]
) -> dict[str, Any]:
    """Requirements, wheels that are here, and what is not."""
    python, architecture = host["python"], host["architecture"]
    wheels = _wheels(folder)
    found: dict[str, list[str]] = {"files": [], "lacking": [], "lacking_products": []}
    lines = []
    about = {"python_full_version": f"{python}.0", "python_version": python, "platform_machine": architecture}
    starts = [*REQUIREMENT.finditer(lock)]
    for place, one in enumerate(starts):
        marker = (one["marker"] or "").strip()
        if one["name"] not in names or (marker and not Marker(marker).evaluate(about)):
            continue
        end = starts[place + 1].start() if place + 1 < len(starts) else len(lock)
        hashes = re.findall(r"--hash=\S+", lock[one.start() : end])
        pinned = f"{one['name']}=={one['version']}"
        lines.append(" \\\n    ".join([pinned, *hashes]))
        fits = [path for path in wheels if _fits(path, one["name"], one["version"], python, architecture)]
        found["files" if fits else "lacking"].append(str(fits[0]) if fits else pinned)
    for product in products:
        newest = max((path for path in wheels if _name(path) == product), key=_version, default=None)
        if newest is None:
            found["lacking_products"].append(product)
            continue
        digest = hashlib.sha256(newest.read_bytes()).hexdigest()
        lines.append(f"{product}=={_version(newest)} \\\n    --hash=sha256:{digest}")
        found["files"].append(str(newest))
    return {"requirements": "\n".join([f"# Python {python}", *lines, ""]), **found}


def _wheels(folder: str) -> list[Path]:
    if not folder:
        return []
    there = []
    for path in sorted(Path(folder).expanduser().glob("*.whl")):
        try:
            parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        there.append(path)
    return there


def _name(path: Path) -> str:
    return str(parse_wheel_filename(path.name)[0])


def _version(path: Path) -> Any:
    return parse_wheel_filename(path.name)[1]


def _fits(path: Path, name: str, version: str, python: str, architecture: str) -> bool:
    """Whether a wheel is this version and runs on that Python and machine, as its name tells."""
    its_name, its_version, _build, tags = parse_wheel_filename(path.name)
    if its_name != canonicalize_name(name) or str(its_version) != version:
        return False
    exact = "cp" + python.replace(".", "")
    return any(
        (tag.interpreter in (exact, "py3") or tag.abi == "abi3")
        and (tag.platform == "any" or tag.platform.endswith(architecture))
        for tag in tags
    )


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"locked_wheels": locked_wheels}
