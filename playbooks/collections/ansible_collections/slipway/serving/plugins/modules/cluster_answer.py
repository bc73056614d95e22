#!/usr/bin/python
"""Ansible module: what a cluster says of its objects, and which manifests would change it, asked at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: cluster_answer
short_description: What a cluster says of its objects and of manifests
description:
  - Runs C(kubectl get) for all kinds at once, and beside it C(kubectl apply --dry-run=server) for each
    manifest, on the host that has them. Changes nothing; works in check mode.
options:
  kubeconfig: {description: Kubeconfig on the host., type: path, required: true}
  namespace: {description: Namespace of objects to read that have one., type: str, default: kube-system}
  kinds: {description: Kinds of objects to read., type: list, elements: str, required: true}
  manifests:
    description: Files and folders of manifests that name their namespaces. One that is not there is left out.
    type: list
    elements: path
    default: []
author: [slipway]
"""

EXAMPLES = r"""
- name: Ask the cluster
  slipway.serving.cluster_answer:
    kubeconfig: /etc/kubernetes/admin.conf
    kinds: [nodes]
    manifests: [/etc/kubernetes/flannel.yml]
"""

RETURN = r"""
stdout:
  description: What C(kubectl get --output json) prints.
  returned: always
  type: str
stderr:
  description: What it says beside that.
  returned: always
  type: str
rc:
  description: How it ended.
  returned: always
  type: int
unchanged:
  description: The manifests that C(kubectl apply) would leave as they are.
  returned: always
  type: list
  elements: str
"""

UNCHANGED = " unchanged (server dry run)"


def leaves_all(printed: str) -> bool:
    """Whether there are objects that `kubectl apply --dry-run=server` names, and each is left as it is."""
    lines = [line for line in printed.splitlines() if line.strip()]
    return bool(lines) and all(line.endswith(UNCHANGED) for line in lines)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path", "required": True},
            "namespace": {"type": "str", "default": "kube-system"},
            "kinds": {"type": "list", "elements": "str", "required": True},
            "manifests": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    wanted = module.params

    def run(*words: str) -> tuple[int, str, str]:
        code, out, err = module.run_command(["kubectl", "--kubeconfig", wanted["kubeconfig"], *words])
        return int(code), str(out), str(err)

    def unchanged(manifest: str) -> bool:
        code, out, _ = run("apply", "--dry-run=server", "--filename", manifest)
        return code == 0 and leaves_all(out)

    there = [path for path in wanted["manifests"] if Path(path).exists()]
    with ThreadPoolExecutor(max_workers=len(there) + 1) as pool:
        left = {path: pool.submit(unchanged, path) for path in there}
        code, out, err = run(
            "get", ",".join(wanted["kinds"]), "--namespace", wanted["namespace"], "--output", "json"
        )
        same = [path for path, answer in left.items() if answer.result()]
    failed = {"failed": True, "msg": err.strip() or "kubectl failed"} if code else {}
    module.exit_json(changed=False, rc=code, stdout=out, stderr=err, unchanged=same, **failed)


if __name__ == "__main__":
    main()
