"""Proving a deployment: a way to each replica, what each answered, a pod that asks too, the gates.

In: the cluster's own word on its pods, fixed requests, the export. Out: a Proof and why it failed.
Never here: how a server is asked (infra/predict), how a cluster is asked (infra/clients/kubectl.py).
"""
