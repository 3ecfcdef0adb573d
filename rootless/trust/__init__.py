"""``rootless image sign``, ``verify`` and ``generate-key-pair``: without the daemon.

A private key is read where the user is, and never goes to a daemon.
"""
