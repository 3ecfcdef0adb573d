"""Tests of storage that need no namespace."""
