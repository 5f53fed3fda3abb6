"""Send claimed deliveries to what their routes name: a chat channel, an endpoint, a signed webhook."""
