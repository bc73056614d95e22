"""The tf.Examples of a classify or regress request, as TensorFlow takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slipway_client import messages
from slipway_client.dtypes import DataType


@dataclass(frozen=True)
class Examples:
    """A serialized TensorProto of `count` serialized tf.Examples."""

    count: int
    proto: bytes


def of_input(given: Any) -> Examples:
    """The examples of an Input message, each preceded by the shared context if there is one."""
    match given.WhichOneof("kind"):
        case "example_list":
            found = [example.SerializeToString() for example in given.example_list.examples]
        case "example_list_with_context":
            both = given.example_list_with_context
            context = both.context.SerializeToString()
            found = [context + example.SerializeToString() for example in both.examples]
        case _:
            found = []
    proto = messages.TensorProto(dtype=DataType.DT_STRING, string_val=found)
    proto.tensor_shape.dim.add(size=len(found))
    return Examples(len(found), proto.SerializeToString())
