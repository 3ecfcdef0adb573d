"""Joins storage, network, images, policy and runtime into containers and images."""
