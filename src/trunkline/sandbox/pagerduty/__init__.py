"""The fake PagerDuty: REST API v2 and Events API v2 over incidents in memory."""

from trunkline.sandbox.pagerduty.fake import PagerDuty

__all__ = ["PagerDuty"]
