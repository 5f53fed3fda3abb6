"""Benchmarks: each figure beside a bare baseline measured in the same run. Start them with `python -m bench`."""
