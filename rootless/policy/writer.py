"""A merged policy as a document that loads to the same policy."""

from __future__ import annotations

from typing import Any

from rootless.policy import grants, trust
from rootless.policy.clauses import word
from rootless.policy.documents import InvalidPolicy
from rootless.policy.kinds import Constraint
from rootless.policy.policy import Policy

API_VERSION = "rootless.dev/v1alpha1"


def document(policy: Policy) -> dict[str, Any]:
    """The policy's value as a document; without what it was made from.

    Raises InvalidPolicy for what one document cannot say.
    """
    if policy.layers:
        names = ", ".join(sorted({n for layer in policy.layers for n in layer.policy.names}))
        problem = "a selector or exceptions are for one file's own rules, and cannot be merged"
        raise InvalidPolicy([f"{names}: {problem} into one document"])
    spec: dict[str, dict[str, Any]] = {}
    for key, value in sorted(policy.constraints.items()):
        area, name = key.split(".")
        shown: Any = sorted(value) if isinstance(value, frozenset) else value
        if key == trust.KEY:
            shown = [trust.document(text) for text in shown]
        if area == "landlock":
            name, shown = _landlock(name, shown)
        if key == "api.grants":
            assert isinstance(value, frozenset)
            name, shown = grants.write(value)
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
    if policy.defaults:
        result["defaults"] = {
            name: _default(name, value) for name, value in sorted(policy.defaults.items())
        }
    return result


def _default(name: str, value: Constraint) -> Any:
    if name == "capDrop":
        assert isinstance(value, frozenset)
        return sorted(value)
    if name == "cpus":
        return f"{int(value) / 10**9:g}" if isinstance(value, int) else value
    return word(value) if isinstance(value, frozenset) else value


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
