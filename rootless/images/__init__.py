"""References, registries, the content store, unpacking and archives."""
