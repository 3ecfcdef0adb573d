"""Policy rules, one module per topic."""
