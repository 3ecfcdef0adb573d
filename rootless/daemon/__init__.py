"""rootlessd: composition root, configuration, activation and logging."""
