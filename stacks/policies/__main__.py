"""`pulumi preview --policy-pack stacks/policies`: the rules of slipway_stacks/rules.py, each mandatory."""

from __future__ import annotations

from pulumi_policy import EnforcementLevel, PolicyPack
from slipway_stacks import pack

PolicyPack(pack.NAME, pack.policies(), enforcement_level=EnforcementLevel.MANDATORY)
