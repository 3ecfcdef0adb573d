"""The distribution API: pulling from and pushing to registries."""
