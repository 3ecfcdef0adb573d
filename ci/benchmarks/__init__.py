"""Benchmarks against Podman, crun and bubblewrap; the standard library only."""
