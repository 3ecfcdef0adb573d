"""Reports of ``check-policy``: one module for each format."""
