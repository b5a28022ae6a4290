"""A fleet of systemd containers on this machine, to deploy to and to test on.

`python -m lab up` makes it, `python -m lab down` removes every trace of it. Only the standard
library is used. Nothing runs as root but apt, podman, the mount namespace and sysctl.
"""
