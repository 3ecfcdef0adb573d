"""Go's text/template: of ``--format``, and of log tags."""
