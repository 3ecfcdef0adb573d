"""The virtual-machine lane: a Debian under QEMU's software emulation, its image, its boot."""
