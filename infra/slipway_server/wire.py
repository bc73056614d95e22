"""What a serialized message will take in memory, found from its bytes before anything is built of them."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from slipway_server.memory import Full

MOST_FIELDS = 1024 * 1024  # values that are no packed numbers: strings, examples, dimensions
# The copies there are of a request's bytes at once: as they came, parsed, as a block and as a tensor.
_COPIES = 4
_FIELD_BYTES = 96  # of each field: an empty string takes so much in the two parsers and the tensor together
# What a packed number of one byte takes beyond it: its full width in the two parsers and in the tensor.
_PACKED_BYTES = {
    FieldDescriptor.TYPE_BOOL: 3,
    FieldDescriptor.TYPE_ENUM: 12,
    FieldDescriptor.TYPE_INT32: 12,
    FieldDescriptor.TYPE_UINT32: 12,
    FieldDescriptor.TYPE_INT64: 24,
    FieldDescriptor.TYPE_UINT64: 24,
}

_DEEPEST = 100  # messages in one another, as the parser has it

# Wire types. Of a group begin and end are passed over; what is between counts like the rest.
_VARINT, _SIZED, _FIXED = 0, 2, {1: 8, 3: 0, 4: 0, 5: 4}

_Known = dict[int, "_Known | int"]  # field number -> the fields of its message, or bytes for each on the wire


def memory_of(raw: bytes, kind: Any, most: int = MOST_FIELDS) -> int:
    """Upper bound of the bytes that serving `raw`, a message of `kind`, takes beside the model's own.

    Raises Full when it holds more than `most` fields. What is not a message at all is left to the parser.
    """
    fields = 0
    extra = 0
    at, end, known = 0, len(raw), _known(kind.DESCRIPTOR)
    around: list[tuple[int, int, _Known]] = []  # the messages this one is in: where each goes on and ends
    try:
        while (at < end or around) and len(around) <= _DEEPEST:  # the parser refuses what is deeper
            if at >= end:
                at, end, known = around.pop()
                continue
            fields += 1
            if fields > most:
                raise Full(f"a request of more than {most} values; numbers belong in a packed field")
            tag = raw[at]
            at += 1
            if tag > 0x7F:
                tag, at = _varint(raw, at - 1)
            kind_of = tag & 7
            if kind_of == _SIZED:
                size = raw[at]
                at += 1
                if size > 0x7F:
                    size, at = _varint(raw, at - 1)
                inner = known.get(tag >> 3, 0)
                if isinstance(inner, dict):
                    around.append((at + size, end, known))
                    end, known = min(at + size, end), inner
                else:
                    extra += size * inner
                    at += size
            elif kind_of == _VARINT:
                at = _varint(raw, at)[1]
            elif kind_of in _FIXED:
                at += _FIXED[kind_of]
            else:
                at = end  # no wire type there is: the parser refuses it
    except IndexError:
        pass  # cut off: the parser says so
    return _COPIES * len(raw) + extra + _FIELD_BYTES * fields


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A varint and where it ends."""
    byte = raw[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    for shift in range(7, 70, 7):
        at += 1
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value, at + 1


@cache
def _known(descriptor: Any) -> _Known:
    found: _Known = {}
    _tables(descriptor, {descriptor.full_name: found})
    return found


def _tables(descriptor: Any, made: dict[str, _Known]) -> None:
    """Fill the table of a message, and those of the messages in it; `made` has those there are by name."""
    table = made[descriptor.full_name]
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = field.message_type
            if inner.full_name not in made:
                made[inner.full_name] = {}
                _tables(inner, made)
            table[field.number] = made[inner.full_name]
        elif field.type in _PACKED_BYTES:
            table[field.number] = _PACKED_BYTES[field.type]
