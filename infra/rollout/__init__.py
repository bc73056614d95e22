"""Putting a deployment into a cluster: its inputs and the way, applying it, watching until replicas are ready.

In: settings, image, and objects as read from the cluster. Out: what changed, why it does not get ready,
evidence. Never here: what the manifests say (stacks/), the order of it all (infra/deploy.py).
"""
