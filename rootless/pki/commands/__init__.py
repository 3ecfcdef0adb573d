"""``rootless pki``: one module for each group of verbs, with ``main(arguments)`` for each."""
