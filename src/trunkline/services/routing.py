"""Routes: which events go where. Reads on from the event log and plans deliveries."""
