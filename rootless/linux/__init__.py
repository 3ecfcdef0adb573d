"""System calls and kernel files: the only ctypes in the tree."""
