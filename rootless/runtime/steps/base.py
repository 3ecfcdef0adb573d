"""The two kinds of steps."""

from __future__ import annotations

from dataclasses import dataclass

from rootless.model.plan import Step
from rootless.runtime.context import EngineContext, InitContext


@dataclass(frozen=True, slots=True)
class EngineStep(Step):
    """A step of the shim, inside the engine's namespaces."""

    def apply(self, ctx: EngineContext) -> None:
        """Do it; raises RootlessError."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class InitStep(Step):
    """A step of init, inside the container's namespaces."""

    def apply(self, ctx: InitContext) -> None:
        """Do it; raises RootlessError."""
        raise NotImplementedError
