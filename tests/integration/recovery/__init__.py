"""Recovery: every process of the engine may die at any moment."""
