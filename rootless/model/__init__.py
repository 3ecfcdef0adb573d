"""The engine's vocabulary as frozen dataclasses; standard library only."""
