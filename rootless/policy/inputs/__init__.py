"""Inputs of ``check-policy``: manifests, compose files, OCI and inspect documents."""
