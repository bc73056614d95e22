"""The Pulumi program: one model server in one namespace of a Kubernetes cluster.

In: stack configuration (inputs.py). Out: Kubernetes objects under fixed names (outputs.py).
Never here: an import of slipway, a secret, anything that asks the cluster or the network.
"""
