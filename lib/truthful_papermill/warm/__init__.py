"""
Kernels that start at once: forked from a process that has already imported what the notebooks need.

Each notebook still gets a process of its own, which never ran a line of another notebook. The runner starts the fork
server (:mod:`starting`) while it does other things; the server (:mod:`server`) imports, and forks one kernel on each
request (:mod:`protocol`); a kernel is to the runner what a process it started itself would be (:mod:`kernels`,
:mod:`provisioner`).

What a forked kernel shares with the next one is only what importing left behind, the same as after any start, and the
seed of Python's string hashes. Secrets never pass through the server: a kernel receives its environment after the fork,
from the runner itself.
"""
