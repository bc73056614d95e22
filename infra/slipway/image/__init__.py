"""The serving image: what is in it, how its build contexts are made, how it is checked before a push.

In: a base image, wheels, slipway's own serving code, a SavedModel. Out: build contexts as tars, and an
image on a build host that has answered the export's fixed requests.
Never here: Docker's command line (clients/docker.py), the registry's protocol (clients/registry.py).
"""
