"""The roles that the built-in policies know."""

from __future__ import annotations

ROLES = ("admin", "auditor", "ci", "developer", "operator", "viewer")
"""Each has a policy ``builtin:role-NAME``, which the built-in default extends."""
ADMIN = "admin"
"""The role of administrators."""
