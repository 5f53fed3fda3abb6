"""The fake ServiceNow: Table API, Aggregate API, OAuth, over tables in memory."""

from trunkline.sandbox.servicenow.fake import ServiceNow

__all__ = ["ServiceNow"]
