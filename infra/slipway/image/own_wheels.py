"""slipway's own part of the serving image: the wheels of the client and of the model server, unpacked."""

from __future__ import annotations

import configparser
import io
import zipfile
from collections.abc import Iterator

from slipway import artifacts
from slipway.image.contents import Server, wanted

# Google's server is a program of its own; its image takes the client, which asks from inside the cluster.
PRODUCTS: dict[Server, tuple[str, ...]] = {
    "portable": ("slipway_client", "slipway_server"),
    "tensorflow": ("slipway_client",),
}


def files(server: Server) -> dict[str, bytes]:
    """Path in the build context -> bytes of all that the image holds of slipway.

    Modules are under site-packages/, the wheels' commands under bin/. The same sources give the same
    bytes. Raises as `artifacts.product` does.
    """
    found: dict[str, bytes] = {}
    for package in PRODUCTS[server]:
        with zipfile.ZipFile(io.BytesIO(artifacts.product(package)[1])) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            for name in sorted(names):
                if wanted(name, server):
                    found[f"site-packages/{name}"] = archive.read(name)
                if name.endswith(".dist-info/entry_points.txt"):
                    found |= _commands(archive.read(name).decode())
    return found


def _commands(text: str) -> Iterator[tuple[str, bytes]]:
    """The wheel's commands as an installer would write them, for whichever python3 the image has."""
    points = configparser.ConfigParser()
    points.read_string(text)
    for name, target in points.items("console_scripts"):
        module, _, function = target.partition(":")
        head = "#!/usr/bin/env python3\nimport sys\n\n"
        launcher = f"{head}from {module} import {function}\n\nsys.exit({function}())\n"
        yield f"bin/{name}", launcher.encode()
