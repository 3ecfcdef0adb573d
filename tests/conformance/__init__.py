"""The engine against descriptions that others wrote."""
