"""Messages as JSON the way protobuf's C++ library prints them, which TensorFlow Serving uses.

Python's json_format converts the values; here they get the order (by field number) and the escapes of
src/google/protobuf/json/internal/{unparser,writer}.cc.
"""

from __future__ import annotations

import json
import re
from typing import Any

from google.protobuf import json_format

# writer.cc, MustEscape: what could break a page, or cannot be seen
_ESCAPED = re.compile(
    "[<>\\x7f-\\x9f\\xad\\u0600-\\u0603\\u06dd\\u070f\\u17b4\\u17b5\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2064"
    "\\u206a-\\u206f\\ufeff\\ufff9-\\ufffb\\U0001d173-\\U0001d17a\\U000e0001\\U000e0020-\\U000e007f]"
)


def text(message: Any, *, proto_names: bool = False) -> str:
    """A message as JSON, indented by one space a level, with the fields that have no presence always written.

    proto_names: field names as in the .proto file instead of their JSON names.
    """
    value = json_format.MessageToDict(
        message, preserving_proto_field_name=proto_names, always_print_fields_with_no_presence=True
    )
    ordered = _ordered(message.DESCRIPTOR, value, proto_names)
    plain = json.dumps(ordered, indent=1, ensure_ascii=False)
    return _ESCAPED.sub(_escape, plain) + "\n"


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return json.dumps(character)[1:-1] if character > "\x7f" else f"\\u{ord(character):04x}"


def _ordered(descriptor: Any, value: Any, proto_names: bool) -> Any:
    """The value with fields ordered by number and map keys by name.

    Well-known types have a JSON form of their own.
    """
    if not isinstance(value, dict) or descriptor.full_name.startswith("google.protobuf."):
        return value
    out = {}
    for field in sorted(descriptor.fields, key=lambda field: field.number):
        name = field.name if proto_names else field.json_name
        if name not in value:
            continue
        item, kind = value[name], field.message_type
        if kind is None:
            out[name] = item
        elif kind.GetOptions().map_entry:
            inner = kind.fields_by_name["value"].message_type
            out[name] = {
                key: _ordered(inner, item[key], proto_names) if inner else item[key] for key in sorted(item)
            }
        elif isinstance(item, list):
            out[name] = [_ordered(kind, part, proto_names) for part in item]
        else:
            out[name] = _ordered(kind, item, proto_names)
    return out
