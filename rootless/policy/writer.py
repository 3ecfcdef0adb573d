"""A merged policy as a document that loads to the same policy."""

from __future__ import annotations

from typing import Any

from rootless.policy.policy import Policy

API_VERSION = "rootless.dev/v1alpha1"


def document(policy: Policy) -> dict[str, Any]:
    """The policy's value as a document; without what it was made from."""
    spec: dict[str, dict[str, Any]] = {}
    for key, value in sorted(policy.constraints.items()):
        area, name = key.split(".")
        shown = sorted(value) if isinstance(value, frozenset) else value
        if area == "landlock":
            name, shown = _landlock(name, shown)
        spec.setdefault(area, {})[name] = shown
    result: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "Policy",
        "metadata": {"name": _name(policy)},
        "extends": "none",
        "mode": policy.mode,
    }
    if policy.rule_modes:
        result["rules"] = {rule: {"mode": mode} for rule, mode in sorted(policy.rule_modes.items())}
    if spec:
        result["spec"] = spec
    return result


def _landlock(name: str, value: Any) -> tuple[str, Any]:
    """The field as it is written: what can be written can be read as well."""
    written = {"read": "readOnly", "write": "readWrite"}.get(name, name)
    ports = name in {"connectTcp", "bindTcp"}
    return written, sorted(map(int, value)) if ports else value


def _name(policy: Policy) -> str:
    words = "-".join(sorted(policy.names)).replace("@", "-").replace(".", "-")
    return words[:63].rstrip("-") or "merged"


def as_yaml(policy: Policy) -> str:
    """The document as YAML that the strict reader accepts."""
    import yaml

    text: str = yaml.safe_dump(document(policy), sort_keys=False, width=100)
    return text
