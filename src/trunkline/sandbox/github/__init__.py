"""The fake GitHub: repositories, issues, pull requests and commits of one user in memory, and its webhooks."""

from trunkline.sandbox.github.fake import GitHub

__all__ = ["GitHub"]
