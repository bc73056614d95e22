"""Ansible filter: which requests for a kubelet's serving certificate may be approved, and why others not."""

from __future__ import annotations

import base64
import ipaddress
import json
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from cryptography import x509

DOCUMENTATION = r"""
name: kubelet_requests
short_description: What may be approved of a kubelet's requests for a serving certificate
description: >-
  Holds each open request of one node against the name and the address that the inventory and the host's facts
  give it. What the node says of itself in the cluster does not count.
positional: node, address
options:
  _input:
    description: What C(kubectl get certificatesigningrequests --output json) prints, of any kinds.
    type: str
    required: true
  node:
    description: Name of the node.
    type: str
    required: true
  address:
    description: Address of the node; of two families, both with a comma between them.
    type: str
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Approve what the kubelet may be called
  ansible.builtin.command:
    argv: "{{ ['kubectl', 'certificate', 'approve'] + asked.sound }}"
  vars:
    asked: "{{ answer.stdout | slipway.serving.kubelet_requests(inventory_hostname, ansible_host) }}"
"""

RETURN = r"""
_value:
  description: The names of requests in C(sound), one sentence for each other one in C(unsound).
  type: dict
"""

SIGNER = "kubernetes.io/kubelet-serving"
USER, GROUP = "system:node:", "system:nodes"
SERVER_AUTH = "server auth"
USAGES = {SERVER_AUTH, "digital signature", "key encipherment"}


def kubelet_requests(answer: str, node: str, address: str) -> dict[str, list[str]]:
    """Of this node's open requests: names of those that may be approved ("sound"), a sentence per other one.

    Raises AnsibleFilterError when `address` is none.
    """
    try:
        own = {node, *(str(ipaddress.ip_address(each)) for each in address.split(","))}
    except ValueError as error:
        raise AnsibleFilterError(f"{address} is not an address of {node}: {error}") from error
    out: dict[str, list[str]] = {"sound": [], "unsound": []}
    for item in json.loads(answer)["items"]:
        spec = item.get("spec", {})
        if spec.get("signerName") != SIGNER or spec.get("username") != f"{USER}{node}":
            continue
        if item.get("status", {}).get("conditions"):  # approved, denied or failed
            continue
        name = item["metadata"]["name"]
        fault = _fault(spec, node, own)
        if fault:
            out["unsound"].append(f"request {name} of the kubelet of {node} is not approved: {fault}")
        else:
            out["sound"].append(name)
    return out


def _fault(spec: dict[str, Any], node: str, own: set[str]) -> str:
    """What is wrong with a request; empty when nothing is."""
    # it takes a tenth of a second, in every process that asks, and mostly there is no request
    from cryptography import x509

    usages = set(spec.get("usages", []))
    if GROUP not in spec.get("groups", []):
        return f"whoever made it is not in group {GROUP}"
    if SERVER_AUTH not in usages or usages - USAGES:
        return f"it is for {', '.join(sorted(usages)) or 'no use'}; expected {SERVER_AUTH}"
    try:
        asked = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
        return _fault_of_names(asked, node, own)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        return f"it cannot be read: {error}"


def _fault_of_names(asked: x509.CertificateSigningRequest, node: str, own: set[str]) -> str:
    """What is wrong with what it is to be called; empty when nothing is. Raises as cryptography does."""
    from cryptography.x509.oid import NameOID

    subject = sorted((part.oid.dotted_string, part.value) for part in asked.subject)
    names = {_text(name) for name in _alternative_names(asked)}
    if not asked.is_signature_valid:
        return "it is not signed with the key that it is for"
    expected = [
        (NameOID.COMMON_NAME.dotted_string, f"{USER}{node}"),
        (NameOID.ORGANIZATION_NAME.dotted_string, GROUP),
    ]
    if subject != sorted(expected):
        return f"its subject is {asked.subject.rfc4514_string()}; expected {USER}{node} of {GROUP}"
    if not names:
        return "it names no host and no address"
    if names - own:
        return f"it is for {', '.join(sorted(names - own))}; expected {' and '.join(sorted(own))} alone"
    return ""


def _alternative_names(asked: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    from cryptography import x509

    try:
        return list(asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _text(name: x509.GeneralName) -> str:
    """A host's name or an address as it is written; of other kinds what cannot be mistaken for one."""
    from cryptography import x509

    if isinstance(name, (x509.DNSName, x509.IPAddress)):
        return str(name.value)
    return repr(name)


class FilterModule:
    """Tells Ansible the filter's name."""

    def filters(self) -> dict[str, Any]:
        return {"kubelet_requests": kubelet_requests}
