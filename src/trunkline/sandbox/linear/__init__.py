"""The fake Linear: a GraphQL API over teams, issues, labels and comments in memory, and its webhooks."""

from trunkline.sandbox.linear.fake import Linear

__all__ = ["Linear"]
