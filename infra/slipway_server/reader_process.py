"""The process that reads large REST bodies: JSON in, messages out, within memory that the kernel limits.

Python's parser holds the interpreter for as long as it reads, and builds fifty bytes of objects from two of
JSON. Here that keeps no probe waiting, and takes only what this process may have. It reads one body after the
other from its standard input and ends with it.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
import sys
from typing import BinaryIO

from slipway_client import messages

from slipway_server import examples, json_limits, json_requests
from slipway_server.codes import Code, StatusError
from slipway_server.memory import keep_little

# A body: its API, whether it is packed, what it may unpack to; the lengths of the signatures and of itself.
ASKED = struct.Struct("<cBQQQ")
# An answer: a Code, the form to answer in, the number of examples; the length of what was read or of a text.
ANSWERED = struct.Struct("<BcQQ")
_OUT_OF_MEMORY = b"reading the request body needs more memory than one request may use"


def read(api: bytes, body: bytes, signatures: bytes, packed: bool, largest: int) -> tuple[bytes, int, bytes]:
    """A body's form, its number of examples, and what was read: a serialized PredictRequest.

    Its model_spec has the signature's name. Its inputs are those of the signature, or `inputs` with the
    examples; none if the name is not among `signatures`, a serialized SignatureDefMap, which the caller finds
    out as well. Raises StatusError.
    """
    if packed:
        body = json_limits.unpacked(body, largest)
    json_limits.check_values(body, largest)
    document = json_requests.parse(body)
    del body
    request = messages.PredictRequest()
    name = request.model_spec.signature_name = json_requests.signature_name(document)
    if api != b"P":
        found = examples.of_input(json_requests.example_input(document))
        request.inputs["inputs"].ParseFromString(found.proto)
        return b" ", found.count, request.SerializeToString()
    known = messages.SignatureDefMap.FromString(signatures).signature_def
    name = name or json_requests.DEFAULT_SIGNATURE
    if name not in known:
        return b" ", 0, request.SerializeToString()
    inputs, form = json_requests.predict_inputs(document, known[name].inputs)
    for alias, proto in inputs.items():
        request.inputs[alias].CopyFrom(proto)
    return form[0].encode(), 0, request.SerializeToString()


def main() -> None:
    """Read bodies until the input ends. argv: bytes of memory this process may have."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server drains first; then the input ends
    keep_little()
    most = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)  # what is small goes before what is large
    source, out = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(ASKED.size):
        api, packed, largest, *lengths = ASKED.unpack(head)
        signatures, body = (_exactly(source, length) for length in lengths)
        try:
            try:
                form, count, payload = read(api, body, signatures, bool(packed), largest)
                code = Code.OK
            except StatusError as error:
                form, count = b" ", 0
                code, payload = error.code, error.message.encode("utf-8", "surrogateescape")
            del body
            out.write(ANSWERED.pack(code, form, count, len(payload)))
            out.write(payload)
            out.flush()
        except MemoryError:
            # What is left of the body may be in pieces all over the memory: the next one gets a new process.
            out.write(ANSWERED.pack(Code.RESOURCE_EXHAUSTED, b" ", 0, len(_OUT_OF_MEMORY)) + _OUT_OF_MEMORY)
            out.flush()
            return


def _exactly(source: BinaryIO, length: int) -> bytes:
    got = source.read(length)
    if len(got) < length:
        sys.exit(0)  # the server has ended
    return got


if __name__ == "__main__":
    main()
