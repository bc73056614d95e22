"""The README of each role, made from its argument_specs and defaults.

`python playbooks/readmes.py` writes them, `--check` only says which differ and exits 1.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

COLLECTION = "slipway.serving"
ROLES = Path(__file__).parent.joinpath("collections", "ansible_collections", *COLLECTION.split("."), "roles")


def page(role: str, spec: dict[str, Any], defaults: dict[str, Any], about: str = "") -> str:
    """The Markdown of one role. A default that follows from other values is shown as it is written.

    about: what the role does, where its spec does not tell because its main entry point takes no options.
    """
    out = [f"# {COLLECTION}.{role}", "", *([about.strip(), ""] if about else [])]
    for name, entry in spec["argument_specs"].items():
        title = entry["short_description"]
        out += [f"## {title}" if name == "main" else f"## {title} (`tasks_from: {name}`)", ""]
        described = entry["description"]
        out += [*(described if isinstance(described, list) else [described]), ""]
        options = entry.get("options", {})
        if options:
            out += ["| Variable | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
        for variable, option in options.items():
            kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
            kind += "".join(f", `{choice}`" for choice in option.get("choices", []))
            default = "required" if option.get("required") else f"`{_text(defaults[variable])}`"
            out.append(f"| `{variable}` | {kind} | {default} | {_cell(option['description'])} |")
        out += [""] if options else []
    out += [
        "Made from meta/argument_specs.yml and defaults/main.yml by `python playbooks/readmes.py`.",
        "",
    ]
    return "\n".join(out)


def _text(value: Any) -> str:
    text = (
        value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0]
    )
    return _cell(" ".join(text.split()) or '""')


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def pages() -> dict[Path, str]:
    """README path to the text it must have, for every role."""
    out = {}
    for folder in sorted(path for path in ROLES.iterdir() if path.is_dir()):
        spec = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())
        defaults = yaml.safe_load((folder / "defaults/main.yml").read_text())
        meta = yaml.safe_load((folder / "meta/main.yml").read_text())
        about = meta.get("galaxy_info", {}).get("description", "")
        out[folder / "README.md"] = page(folder.name, spec, defaults, about)
    return out


def main(arguments: list[str]) -> int:
    stale = {path: text for path, text in pages().items() if not path.is_file() or path.read_text() != text}
    if "--check" in arguments:
        sys.stderr.writelines(f"{path} is not what its spec says\n" for path in stale)
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
