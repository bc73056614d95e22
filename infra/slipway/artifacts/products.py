"""slipway's own wheels of client and model server, as they go into images and onto hosts.

An installed driver carries the two wheels in its own. A checkout builds them from its sources each
time, which takes a fraction of a second, so that it is always the code that stands there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from slipway.core import project
from slipway.core.errors import ArtifactError, EnvironmentFault

DISTRIBUTIONS = {"slipway_client": "slipway_client", "slipway_server": "slipway_model_server"}


def product(package: str) -> tuple[str, bytes]:
    """File name and content of the wheel that holds this package; the same sources give the same bytes.

    Raises EnvironmentFault when a checkout cannot build it, ArtifactError for a driver that was installed
    without it.
    """
    root = project.checkout()
    if root is not None:
        return _built(root / "infra" / package)
    carried = sorted(project.WHEELS.glob(f"{DISTRIBUTIONS[package]}-*.whl"))
    if len(carried) != 1:
        raise ArtifactError(
            f"this installation of slipway lacks the wheel of {package}",
            where=str(project.WHEELS),
            action=f"install {project.DISTRIBUTION} again",
        )
    return carried[0].name, carried[0].read_bytes()


def _built(source: Path) -> tuple[str, bytes]:
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
        return Path(wheel).name, Path(wheel).read_bytes()
