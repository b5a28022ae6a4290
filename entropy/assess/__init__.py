"""`entropy assess`: raw samples of a source against the estimators of NIST SP 800-90B.

The only part of the program that needs NumPy and matplotlib (the extra `assess`).
"""
