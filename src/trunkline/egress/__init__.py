"""The only way a byte leaves Trunkline: vetted, timed and measured. Knows no vendor and no secret."""

from trunkline.egress.client import Egress, Limits, Reply
from trunkline.egress.headers import check_header
from trunkline.egress.names import Resolver
from trunkline.egress.urls import check_url

__all__ = ["Egress", "Limits", "Reply", "Resolver", "check_header", "check_url"]
