"""Seccomp profiles (OCI and Docker JSON) and their compilation to kernel filters."""
