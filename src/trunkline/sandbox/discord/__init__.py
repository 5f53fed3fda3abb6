"""The fake Discord: the HTTP API of one bot over channels in memory, and the interactions that Discord sends."""

from trunkline.sandbox.discord.fake import Discord

__all__ = ["Discord"]
