"""A client of a running hub's native API: what the command line and users' own programs import.

It speaks HTTP and nothing else; it knows no table, no service and no connector.
"""

from trunkline.client.hub import Trunkline
from trunkline.client.wire import error_from

__all__ = ["Trunkline", "error_from"]
