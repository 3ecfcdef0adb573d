"""The process that holds the engine's network namespace: bridges, rules, resolvers."""
