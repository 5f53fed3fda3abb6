"""The fake Slack: Web API methods over channels and messages in memory, and what Slack sends by itself."""

from trunkline.sandbox.slack.fake import Slack

__all__ = ["Slack"]
