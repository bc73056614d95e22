"""What a REST body will cost, found from its bytes before anything is built of them."""

from __future__ import annotations

import zlib

from slipway_server.codes import Code, StatusError, invalid

_BYTES_FOR_A_VALUE = 4  # of the largest body: one of images has numbers of three digits or more
FEW_VALUES = 2048  # are read in the event loop itself, in a few milliseconds


def values_in(body: bytes) -> int:
    """Upper bound of the JSON values in a body: each follows a bracket, a brace or a comma."""
    return 1 + body.count(b",") + body.count(b"[") + body.count(b"{")


def check_values(body: bytes, largest_body: int) -> None:
    """Refuse a body of more values than a body of `largest_body` bytes may hold.

    Raises StatusError RESOURCE_EXHAUSTED.
    """
    most = largest_body // _BYTES_FOR_A_VALUE
    found = values_in(body)
    if found > most:
        raise StatusError(
            Code.RESOURCE_EXHAUSTED,
            f"the request body holds up to {found} values, this server takes {most} (--rest_body_limit)",
        )


def unpacked(body: bytes, largest_body: int) -> bytes:
    """A gzip body's content.

    Raises StatusError when it is damaged or unpacks to more than `largest_body` bytes.
    """
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, largest_body)
    except zlib.error as error:
        raise invalid(f"the body is not gzip data: {error}") from error
    if unpacker.unconsumed_tail:
        raise invalid(
            f"the request body is larger than {largest_body} bytes when unpacked (--rest_body_limit)"
        )
    if not unpacker.eof:
        raise invalid("the body is not gzip data: it ends too early")
    return plain
