"""Kubernetes' Pod Security Standards, each revision as pod-security-admission evaluates it."""
