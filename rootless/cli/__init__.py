"""The rootless command."""
