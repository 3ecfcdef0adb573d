"""From an admitted spec to a running process: planner, launcher, shim, init."""
