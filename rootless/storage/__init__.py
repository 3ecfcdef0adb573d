"""Graph drivers, the layer store and volumes."""
