"""What policies look at in a build of an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """One build, as it is asked for and as its Dockerfile says."""

    name: str = ""
    """What the image is to be called, as it was written."""
    bases: tuple[str, ...] | None = None
    """Images that it starts from or takes files of, in full ('' for one whose name is not known
    before the build). None where nobody looked into the Dockerfile."""
    networks: tuple[str, ...] = ("default",)
    """Those that steps run on: ``default``, ``none``, ``host``, or a network's name."""
    secrets: tuple[str, ...] = ()
    """Ids of the secrets that steps can read."""
    ssh: tuple[str, ...] = ()
    """Ids of the agents and keys that steps can use."""
    args: tuple[str, ...] = ()
    """``NAME=VALUE``; they stay readable in the image's history."""
    insecure: bool = False
    """Whether steps may run without a sandbox."""
