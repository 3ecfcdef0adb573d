"""One module per kind of sandbox step."""
