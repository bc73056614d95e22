"""The rules as Pulumi's policies: `pulumi preview --policy-pack FOLDER` enforces them, whoever runs it.

In: rules.py, the one home of what must hold. Needs the extra `policies` (pulumi-policy).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pulumi_policy import (
    Policy,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

from slipway_stacks import rules

NAME = "slipway"
_PROVIDER = "kubernetes:"


def policies() -> list[Policy]:
    """A policy for each rule, in the rules' order."""
    return [
        *(_resource_policy(rule) for rule in rules.RULES),
        *(_stack_policy(rule) for rule in rules.STACK_RULES),
    ]


def _resource_policy(rule: rules.Rule) -> Policy:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        manifest = _manifest(args.resource_type, args.name, args.props, rule.kinds)
        for sentence in rule.check(manifest) if manifest is not None else ():
            report(sentence, None)

    return ResourceValidationPolicy(rule.name, rule.meaning, validate)


def _stack_policy(rule: rules.StackRule) -> Policy:
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        found = [
            (manifest, resource.urn)
            for resource in args.resources
            if (manifest := _manifest(resource.resource_type, resource.name, resource.props)) is not None
        ]
        urns = {id(manifest): urn for manifest, urn in found}
        for manifest, sentence in rule.check([manifest for manifest, _ in found]):
            report(sentence, urns[id(manifest)])

    return StackValidationPolicy(rule.name, rule.meaning, validate)


def _manifest(
    kind: str, name: str, properties: Mapping[str, Any], kinds: Sequence[str] | None = None
) -> rules.Manifest | None:
    """What the cluster would be told; None for what is no object of it, or of none of these kinds.

    A value that is not known yet ends the policy here, and Pulumi says so: `up` knows it.
    """
    short = kind.rpartition(":")[2]
    if not kind.startswith(_PROVIDER) or (kinds is not None and short not in kinds):
        return None
    manifest = _plain(properties)
    if not isinstance(manifest.get("metadata"), dict):
        return None  # a provider, or a chart's bundle
    return {**manifest, "kind": short, "metadata": {"name": name, **manifest["metadata"]}}


def _plain(value: Any) -> Any:
    """Values without Pulumi's wrappers, which compare with nothing."""
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(value[index]) for index in range(len(value))]
    return value
