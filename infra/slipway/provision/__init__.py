"""What provisioning tells Ansible and reads back from the cluster.

In: Settings, Hosts and Kubernetes artifacts. Out: inventory variables, a Cluster and the registry that goes
with it, journals of its units.
Never here: how hosts are made, and what runs in the cluster.
"""
