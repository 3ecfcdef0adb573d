"""The resolver of containers on bridge networks."""
