"""Webhook signatures: verify those of others over the raw bytes, make our own (Standard Webhooks)."""
