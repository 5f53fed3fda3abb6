"""Which wire format a request speaks: by host, by prefix, by marks at the root. Pure; builds nothing."""
