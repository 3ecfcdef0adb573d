"""A policy in force for some lines of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.engine import Engine

HEAD = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\nextends: none\n"


@contextmanager
def policy(engine: Engine, spec: str, *, head: str = HEAD) -> Iterator[None]:
    """``spec`` is the areas as YAML in braces, or ``head`` with whatever else."""
    path = engine.root / "c/rootless/policy.yaml"
    path.write_text(f"{head}spec: {spec}\n" if spec else head)
    try:
        yield
    finally:
        path.unlink()
