"""What role model_server is given in tests: a model, wheels of the portable server, stand-ins for TensorFlow's packages."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from slipway import artifacts
from slipway.image.build_context import LOCK
from slipway.model.mnist import data, export

from tests.playbooks.bare_host import SERVED, URL, BareHost
from tests.standins.apt_repository import SigningKey, publish
from tests.standins.quick_training import QUICK, every_twentieth
from tests.standins.tensorflow_packages import RUNTIME, packages

# What the stand-ins run on is the portable server's, whose folder goes when one of them takes its place
KEEP_RUNTIME = f"mkdir -p {RUNTIME} && cp -al /opt/model-server/server/lib/python3*/site-packages/. {RUNTIME}"


def quick_model(folder: Path) -> Path:
    """A SavedModel as `slipway model export` writes it, of a short training."""
    return export.export(folder, "mnist", QUICK, every_twentieth(data.load(None))).value.path


def offer(host: BareHost, key: SigningKey, ends_in: float) -> None:
    """A repository on the host with TensorFlow Serving's packages, signed by a key that ends in so many days."""
    folder = host.folder / "served"
    shutil.rmtree(folder, ignore_errors=True)
    publish(folder, key, packages("2.20.0", "2.21.0"), ends_in=ends_in)
    host.put(folder, SERVED)


def variables(host: BareHost, key: SigningKey, model: Path) -> dict[str, Any]:
    """The role's, with the wheels that this host's Python needs, in a folder of the test's."""
    python = host.on("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").strip()
    wheels = host.folder / "wheels"
    wheels.mkdir()
    for product in ("slipway_client", "slipway_server"):
        name, content = artifacts.product(product)
        (wheels / name).write_bytes(content)
    for path in artifacts.wheels(host.ctx, LOCK, python).glob("*.whl"):
        (wheels / path.name).symlink_to(path)
    return {
        "model_server_repository": URL,
        "model_server_key_url": f"{URL}/key.gpg",
        "model_server_key_fingerprint": key.fingerprint,
        "model_server_wheels": str(wheels),
        "model_server_model": str(model),
    }
