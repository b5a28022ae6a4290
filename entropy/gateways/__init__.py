"""Gateways: the fleet's entropy for software that speaks a protocol of its own."""
