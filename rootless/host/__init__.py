"""Preparation of the host: what doctor checks and setup changes."""
