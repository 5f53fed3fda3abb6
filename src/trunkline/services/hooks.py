"""A webhook address per integration: made, found by its token, replaced."""
