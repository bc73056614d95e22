"""Proving a deployment: a way to each replica, what each answered, a pod that asks too, the gates.

In: what the cluster reports about its pods, fixed requests, the export. Out: a Proof and why it failed.
Never here: how a server is asked (slipway_client), how a cluster is asked (clients/kubectl.py).
"""
