"""A machine with a kernel of its own: Debian's stock kernel in QEMU, for what containers share."""
