"""Make the fixtures of `conftest_server` known here."""

from conftest_server import start_hub

__all__ = ["start_hub"]
