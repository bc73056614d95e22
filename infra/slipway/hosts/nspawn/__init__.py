"""Backend nspawn: hosts made on this machine.

In: Settings. Out: a lab: what is planned (design), owned (labs), made (roots, host_files, network) and run.
Never here: what is installed on the hosts.
"""
