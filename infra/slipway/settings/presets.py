"""A first slipway.yaml: a few values for one way of working, every other key as a comment.

In: the name of a preset. Out: texts of files. What a key means and what it is without being set comes
from the schema, so the file cannot say anything else.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import yaml
from pydantic.fields import FieldInfo

from slipway.core.schema import Settings, leaves

Name = Literal["lab", "ssh", "cluster", "server"]
NAMES: tuple[Name, ...] = get_args(Name)
_WIDTH = 100
# Prose, and no key to make active: only the user knows the names
_MODELS = (
    "Several models, each with a deployment of its own: below `models:` their names, below a name the keys",
    "in which it differs from the sections above, e.g. models: {mnist: {}, other: {deploy: {replicas: 1}}}",
)


@dataclass(frozen=True)
class Preset:
    """One way of working.

    values: the keys that are set. sections: every key of these is shown, as a comment if it is not set.
    next: what to do then. files: name -> text, written if there is no such file.
    """

    title: str
    values: Mapping[str, object]
    sections: tuple[str, ...]
    next: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)


INVENTORY = """\
---
# Your machines: Debian or Ubuntu, reached by SSH as root or as a user with sudo, through jump hosts
# too: what Ansible and ~/.ssh/config know counts. Put names and addresses of yours here. A group that is
# left out or empty means that its layer is not wanted.
all:
  vars:
    ansible_user: root
  children:
    control_plane:
      hosts:
        cp: {ansible_host: 192.0.2.10}
    worker:
      hosts:
        worker-1: {ansible_host: 192.0.2.11}
        worker-2: {ansible_host: 192.0.2.12}
    docker:                       # builds the serving image
      hosts:
        cp:
    registry:                     # the image registry
      hosts:
        cp:
"""

PRESETS: Mapping[Name, Preset] = {
    "lab": Preset(
        "A lab: hosts that slipway makes on this machine (root, Linux), a cluster on them, a deployment.",
        {"hosts.backend": "nspawn", "hosts.workers": 2, "deploy.replicas": 3},
        ("hosts", "model", "deploy", "smoke"),
        ("slipway doctor", "slipway up"),
    ),
    "ssh": Preset(
        "Machines that exist, cloud or metal: a cluster is set up on those of inventory.yml.",
        {"hosts.backend": "ssh", "hosts.inventory": "inventory.yml", "deploy.replicas": 3},
        ("hosts", "cluster", "docker", "model", "deploy", "smoke"),
        ("put your machines into inventory.yml", "slipway doctor", "slipway plan", "slipway up"),
        {"inventory.yml": INVENTORY},
    ),
    "cluster": Preset(
        "A cluster that exists, with a registry: a model is trained, packed and deployed, "
        "nothing is provisioned.\nThe image is built with this machine's Docker.",
        {
            "cluster.kubeconfig": "~/.kube/config",
            "image.registry": "registry.example.com",
            "deploy.replicas": 3,
        },
        ("cluster", "model", "image", "deploy", "smoke"),
        ("name your registry in image.registry", "slipway doctor", "slipway up"),
    ),
    "server": Preset(
        "A TensorFlow Serving that exists: slipway asks it and compares its answers, and makes nothing.",
        {"model.name": "mnist", "smoke.num_tests": 100, "smoke.concurrency": 4},
        ("smoke",),
        ("slipway smoke --server HOST:8500 --requests requests.jsonl",),
    ),
}


def text(name: Name) -> str:
    """The slipway.yaml of a preset. A key without a blank before it is one to make active, prose has one."""
    preset = PRESETS[name]
    fields = leaves()
    shown = {key.split(".")[0] for key in preset.values} | set(preset.sections)
    lines = [f"# {line}" for line in preset.title.splitlines()]
    lines += [
        "# A key behind `#` shows its default; remove the `#` to set it. `slipway settings` lists each key",
        "# with its value and source.",
    ]
    for section in Settings.model_fields:
        if section in shown:
            keys = [key for key in fields if key.startswith(f"{section}.")]
            if section not in preset.sections:
                keys = [key for key in keys if key in preset.values]
            lines += ["", f"{section}:"]
            lines += [line for key in keys for line in _setting(key, preset.values, fields[key])]
    if "deploy" in preset.sections:
        lines += ["", *(f"# {line}" for line in _MODELS)]
    return "\n".join(lines) + "\n"


def _setting(key: str, values: Mapping[str, object], info: FieldInfo) -> list[str]:
    name = key.partition(".")[2]
    lines = textwrap.wrap(info.description or "", _WIDTH, initial_indent="  # ", subsequent_indent="  # ")
    if key in values:
        return [*lines, f"  {name}: {_yaml(values[key])}"]
    return [*lines, f"  #{name}: {_yaml(info.default)}".rstrip()]


def _yaml(value: Any) -> str:
    """A value on one line. Empty for None."""
    if value is None:
        return ""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("\n...\n").strip()
