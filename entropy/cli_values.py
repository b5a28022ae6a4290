"""What one word on the command line may be. Each raises what argparse tells the user."""

from __future__ import annotations

import argparse

_LARGEST_BYTES = 2**50


def n_bytes(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= _LARGEST_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, 1 or more")
    return number


def seconds(text: str) -> float:
    return _number(text, 86_400, "seconds")


def bits_per_byte(text: str) -> float:
    return _number(text, 8, "bits")


def _number(text: str, most: int, unit: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of {unit} from 0 to {most}")
    return number
