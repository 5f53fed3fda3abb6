"""Read what came in: from a request of the inbox to events of the log, by the connector's rules; and again, when asked."""
