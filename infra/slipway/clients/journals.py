"""What programs on a host say of themselves, as evidence."""

from __future__ import annotations

from collections.abc import Sequence

from slipway.clients import ssh
from slipway.core.errors import SlipwayError
from slipway.core.evidence import Reading
from slipway.core.types import Host


def told(name: str, host: Host, *commands: Sequence[str]) -> Reading:
    """What these commands print on a host, one after the other; why not, when the host does not answer.

    name: the file's, below the run's evidence.
    """

    def read(seconds: float) -> str:
        try:
            with ssh.connect(host, timeout=seconds) as connection:
                said = [connection.run(words, timeout=seconds, check=False) for words in commands]
        except SlipwayError as error:
            return "\n".join([*error.lines(), ""])
        return "\n".join([*(done.output for done in said), ""])

    return Reading(name, read)
