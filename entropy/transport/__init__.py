"""TLS connections on which the wire runs: `blocking` for a VM's client, `aio` for the daemons."""
