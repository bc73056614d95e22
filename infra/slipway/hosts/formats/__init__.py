"""The golden root as people take it elsewhere: a tar, an image for LXD, an OCI image, or a machine's disk.

In: a golden root, and the site it was made in. Out: one file. Never here: what makes the root. Never in the
file: anything that says who or where the machine is that made it.
"""
