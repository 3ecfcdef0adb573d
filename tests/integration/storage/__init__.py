"""Tests of graph drivers, layers, volumes and file operations on the real kernel."""
