"""The least a gRPC server in Python does: every call of any method is answered with the same bytes.

usage: echo_server.py PORT. What the portable server takes beyond it is its own.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio
import uvloop

ANSWER = bytes(range(1, 121))  # as long as the answer to one image


class Echo(grpc.GenericRpcHandler):
    def service(self, _: Any) -> Any:
        async def answer(_: bytes, __: Any) -> bytes:
            return ANSWER

        return grpc.unary_unary_rpc_method_handler(answer)


async def main(port: int) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
