"""The fake Sentry: issues, events, projects and releases of one organization in memory, and its webhooks."""

from trunkline.sandbox.sentry.fake import Sentry

__all__ = ["Sentry"]
