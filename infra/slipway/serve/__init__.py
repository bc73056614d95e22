"""Serve: the model on hosts of group model_server, beside the cluster or without one.

In: Hosts and the ExportedModel. Out: HostServers, each of which has answered the model's own questions right.
Never here: how the server is installed; that is role model_server's.
"""
