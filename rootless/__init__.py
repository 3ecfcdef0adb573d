"""rootless: a security-hardened container engine that needs no root."""

__version__ = "0.1.0"
