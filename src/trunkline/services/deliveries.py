"""Outgoing messages as rows: planned, claimed in fair turns, finished, repeated. Sending them is `sending.py`'s."""
