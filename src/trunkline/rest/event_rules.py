"""Event rules of a connector, compiled: from a webhook's payload and headers to events."""
