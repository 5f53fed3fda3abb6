"""The wire formats of other products: spelling only, over the same services."""
