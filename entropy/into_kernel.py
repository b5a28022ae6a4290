"""Giving drawn bytes to this machine's kernel, credited with no more than they are worth."""

from __future__ import annotations

from entropy import kernel


def into_kernel(
    data: bytes, credit_bits: int, *, credit: bool = True, allow_shared_kernel: bool = False
) -> tuple[int, str]:
    """Mix `data` in and let the generator take it up. Raises KernelError.

    Returns the bits that the kernel was told of, and in words what was done and why. Only
    where credit is True and the kernel is this machine's own (or allow_shared_kernel) are there
    any.
    """
    credit_bits = min(credit_bits, 8 * len(data))
    if not credit:
        why = "the configuration says credit = false"
    elif credit_bits <= 0:
        why = "it is worth nothing"
    elif kernel.shares_kernel() and not allow_shared_kernel:
        why = "this is a container, and its kernel is the host's"
    elif kernel.add_entropy(data, credit_bits):
        later = "" if kernel.reseed() else ", which takes them up within a minute"
        return credit_bits, f"{credit_bits} bits credited to the kernel{later}"
    else:
        why = "this process lacks CAP_SYS_ADMIN"
    kernel.mix(data)
    kernel.reseed()
    return 0, f"mixed into the kernel without credit: {why}"
