"""What ci/test and ci/quickstart share; standard library only, for a bare machine's Python."""
