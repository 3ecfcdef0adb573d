"""Merging seccomp and Landlock profiles so that one does what all of them stacked would do."""
