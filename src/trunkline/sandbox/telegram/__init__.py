"""The fake Telegram: methods of the Bot API over chats in memory, and updates as its webhook brings them."""

from trunkline.sandbox.telegram.fake import Telegram

__all__ = ["Telegram"]
