"""Hardware randomness for fleets of virtual machines."""

__version__ = "0.1.0"
