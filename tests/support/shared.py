"""Where the external tables are (Docker's API description, Pod Security fixtures …)."""

from __future__ import annotations

import os
from pathlib import Path


def shared_root() -> Path:
    """The directory, which may not exist."""
    named = os.environ.get("ROOTLESS_SHARED_DATA")
    root = Path(__file__).resolve().parent.parent.parent
    return Path(named) if named else root.parent / "shared" / "data"


def api_description() -> Path | None:
    """Docker's description of its API, or ``None`` where it is not at hand."""
    path = shared_root() / "docker-api" / "swagger-v1.51.yaml"
    return path if path.is_file() else None
