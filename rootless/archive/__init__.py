"""Tar archives: extraction that trusts nothing, and creation from trees."""
