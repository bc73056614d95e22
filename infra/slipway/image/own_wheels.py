"""slipway's own part of the serving image: the wheels of the client and of the model server, unpacked.

An installed driver carries the two wheels in its own. A checkout builds them from its sources each
time, which takes a fraction of a second, so that the image always holds the code that stands there.
"""

from __future__ import annotations

import configparser
import io
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from slipway.core import project
from slipway.core.errors import EnvironmentFault, ImageError
from slipway.image.contents import Server, wanted

# Google's server is a program of its own; its image takes the client, which asks from inside the cluster.
PRODUCTS: dict[Server, tuple[str, ...]] = {
    "portable": ("slipway_client", "slipway_server"),
    "tensorflow": ("slipway_client",),
}
DISTRIBUTIONS = {"slipway_client": "slipway_client", "slipway_server": "slipway_model_server"}


def files(server: Server) -> dict[str, bytes]:
    """Path in the build context -> bytes of all that the image holds of slipway.

    Modules are under site-packages/, the wheels' commands under bin/. The same sources give the same
    bytes. Raises EnvironmentFault when a checkout cannot build its wheels, ImageError for a driver
    that was installed without them.
    """
    found: dict[str, bytes] = {}
    for product in PRODUCTS[server]:
        with zipfile.ZipFile(io.BytesIO(_wheel(product))) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            for name in sorted(names):
                if wanted(name, server):
                    found[f"site-packages/{name}"] = archive.read(name)
                if name.endswith(".dist-info/entry_points.txt"):
                    found |= _commands(archive.read(name).decode())
    return found


def _wheel(product: str) -> bytes:
    root = project.checkout()
    if root is not None:
        return _built(root / "infra" / product)
    carried = sorted(project.WHEELS.glob(f"{DISTRIBUTIONS[product]}-*.whl"))
    if len(carried) != 1:
        raise ImageError(
            f"this installation of slipway lacks the wheel of {product}, which goes into the image",
            where=str(project.WHEELS),
            action=f"install {project.DISTRIBUTION} again",
        )
    return carried[0].read_bytes()


def _built(source: Path) -> bytes:
    """The wheel of a product's folder, as `pip wheel` would make it."""
    try:
        from hatchling.builders.wheel import WheelBuilder
    except ImportError as error:
        raise EnvironmentFault(
            f"{source.name} cannot be built: hatchling is not installed",
            action="`make setup` installs it; by hand: pip install hatchling",
        ) from error
    with tempfile.TemporaryDirectory(prefix="slipway-wheels-") as folder:
        (wheel,) = WheelBuilder(str(source)).build(directory=folder, versions=["standard"])
        return Path(wheel).read_bytes()


def _commands(text: str) -> Iterator[tuple[str, bytes]]:
    """The wheel's commands as an installer would write them, for whichever python3 the image has."""
    points = configparser.ConfigParser()
    points.read_string(text)
    for name, target in points.items("console_scripts"):
        module, _, function = target.partition(":")
        head = "#!/usr/bin/env python3\nimport sys\n\n"
        launcher = f"{head}from {module} import {function}\n\nsys.exit({function}())\n"
        yield f"bin/{name}", launcher.encode()
