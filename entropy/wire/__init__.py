"""The protocol between brokers and everybody else, without I/O: bytes in, events out.

codes       the numbers and names that both sides agree on
frames      messages and their bytes
keys        the key schedule
connection  what both ends share; client and broker are the two ends
"""
