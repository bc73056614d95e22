"""protobuf messages from a table instead of a compiler: a descriptor pool of the packages given.

A message is written as its fields, separated by commas, each as `TYPE NAME NUMBER`:

    *TYPE NAME NUMBER         repeated
    ?TYPE NAME NUMBER         optional, and it can be told whether it was set
    <KEY:VALUE> NAME NUMBER   a map
    TYPE NAME/ONEOF NUMBER    a member of a oneof
    TYPE NAME NUMBER as_is    called NAME in JSON too, where a_name would be aName

TYPE is one of protobuf's scalar types, a message or enumeration of the same package by its name
(`Outer.Inner` when nested), or one of another package by its full name. All of it has proto3's rules.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, wrappers_pb2

_FIELD = re.compile(r"([*?]?)(?:<(\w+):([\w.]+)>|([\w.]+)) (\w+)(?:/(\w+))? (\d+)( as_is)?")
_WELL_KNOWN = (any_pb2, wrappers_pb2)  # protobuf's own messages the tables may name
_Kind = descriptor_pb2.FieldDescriptorProto


@dataclass(frozen=True)
class Package:
    """A package's messages by name, and its enumerations: name -> value's name -> number."""

    name: str
    messages: Mapping[str, str]
    enumerations: Mapping[str, Mapping[str, int]]


def make_pool(packages: Sequence[Package]) -> Any:
    """A pool of its own with these packages; each may use those before it.

    Raises ValueError for a field that is not written as it must be; protobuf raises TypeError when a type
    is missing or a number stands twice.
    """
    pool = descriptor_pool.DescriptorPool()
    imported = []
    for module in _WELL_KNOWN:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        imported.append(module.DESCRIPTOR.name)
    enumerations = {f".{package.name}.{name}" for package in packages for name in package.enumerations}
    for package in packages:
        file = descriptor_pb2.FileDescriptorProto(
            name=f"slipway_client/{package.name}", package=package.name, syntax="proto3", dependency=imported
        )
        _fill_file(file, package, enumerations)
        pool.Add(file)
        imported.append(file.name)
    return pool


def _fill_file(file: Any, package: Package, enumerations: Collection[str]) -> None:
    homes: dict[str, Any] = {}
    for name in sorted(package.messages):  # a message comes before those nested in it
        outer, _, own = name.rpartition(".")
        homes[name] = homes[outer].nested_type.add(name=own) if outer else file.message_type.add(name=own)
    for name, values in package.enumerations.items():
        outer, _, own = name.rpartition(".")
        enumeration = homes[outer].enum_type.add(name=own) if outer else file.enum_type.add(name=own)
        for value, number in values.items():
            enumeration.value.add(name=value, number=number)
    for name, text in package.messages.items():
        _fill_message(homes[name], f".{package.name}.{name}", _Types(package, enumerations), text)


class _Types:
    """What the types in one package's table mean."""

    def __init__(self, package: Package, enumerations: Collection[str]) -> None:
        self._package = package.name
        self._own = {*package.messages, *package.enumerations}
        self._enumerations = enumerations

    def set(self, field: Any, word: str) -> None:
        """Give the field's descriptor the type a table calls `word`."""
        scalar = getattr(_Kind, f"TYPE_{word.upper()}", None)
        if scalar is not None:
            field.type = scalar
            return
        field.type_name = f".{self._package}.{word}" if word in self._own else f".{word}"
        field.type = _Kind.TYPE_ENUM if field.type_name in self._enumerations else _Kind.TYPE_MESSAGE


def _fill_message(message: Any, full_name: str, types: _Types, text: str) -> None:
    oneofs: dict[str, int] = {}
    optional = []
    for written in _parts(text):
        match = _FIELD.fullmatch(written)
        if match is None:
            raise ValueError(f"{full_name}: not a field: {written}")
        mark, key, value, word, name, oneof, number, as_is = match.groups()
        field = message.field.add(name=name, number=int(number), label=_Kind.LABEL_OPTIONAL)
        if as_is:
            field.json_name = name
        if key:
            _make_map(message, full_name, field, types, (key, value))
            continue
        types.set(field, word)
        if mark == "*":
            field.label = _Kind.LABEL_REPEATED
        elif mark == "?":
            optional.append(field)
        elif oneof:
            if oneof not in oneofs:
                oneofs[oneof] = len(message.oneof_decl)
                message.oneof_decl.add(name=oneof)
            field.oneof_index = oneofs[oneof]
    for field in optional:  # to protobuf a oneof of one member, which must come after the real ones
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{field.name}")


def _make_map(message: Any, full_name: str, field: Any, types: _Types, kinds: tuple[str, str]) -> None:
    """Make the field a map: to protobuf a repeated message of key and value."""
    entry = message.nested_type.add(name=f"{field.name.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    for number, (name, kind) in enumerate(zip(("key", "value"), kinds, strict=True), 1):
        types.set(entry.field.add(name=name, number=number, label=_Kind.LABEL_OPTIONAL), kind)
    field.label, field.type = _Kind.LABEL_REPEATED, _Kind.TYPE_MESSAGE
    field.type_name = f"{full_name}.{entry.name}"


def _parts(text: str) -> Iterable[str]:
    return filter(None, (" ".join(part.split()) for part in text.split(",")))
