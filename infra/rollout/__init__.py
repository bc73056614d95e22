"""Putting a deployment into a cluster: applying manifests, and watching until every replica is ready.

In: manifests or objects as read from the cluster. Out: what changed, why it does not get ready, evidence.
Never here: what the manifests say (stacks/), which way they are applied (infra/deploy.py).
"""
