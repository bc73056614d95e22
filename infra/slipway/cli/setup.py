"""`slipway setup`: what the driver needs on this machine beside its own Python packages."""

from __future__ import annotations

from slipway.cli.options import Config, Json, Set
from slipway.cli.printing import show
from slipway.cli.session import Session


def setup(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """Install what slipway needs on this machine.

    Packages of Debian or Ubuntu by name, as far as the settings ask for them: those that hosts made
    here, Ansible and images need. Says which; does nothing when all are there. Python packages (the
    extras) are not touched: `slipway doctor` says what is missing of those.
    """
    from slipway.status import packages

    session = Session(config, set_)
    missing = packages.missing(session.settings)
    if missing:
        packages.install(missing, session.console)
    done = [f"installed: {' '.join(missing)}" if missing else "nothing to install"]
    show({"installed": list(missing)}, json, lambda: done)
    return 0
