"""Accepted webhook requests: kept durably as they came, many in one commit. Reading them is `ingest.py`'s."""
