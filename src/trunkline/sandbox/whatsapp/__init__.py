"""The fake WhatsApp: the Cloud API of one business number, and what Meta sends about its messages."""

from trunkline.sandbox.whatsapp.fake import WhatsApp

__all__ = ["WhatsApp"]
