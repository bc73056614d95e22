"""Putting a deployment into a cluster and watching it until every replica is ready.

In: settings, the cluster, the image. Out: what changed, where each replica answers, or why it does not get
ready, with evidence. Never here: what the manifests say (stacks/).
"""
