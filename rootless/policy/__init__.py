"""The policy: documents, rules and the one admission function."""
