"""``build`` of a compose service: what its image is made from, and what the steps can reach."""

from __future__ import annotations

import os
from typing import Any

from rootless.model.build import BuildSpec
from rootless.policy.inputs.dockerfile import MAX_DOCKERFILE, Dockerfile, read_dockerfile
from rootless.policy.inputs.read import NotUnderstood, Path
from rootless.policy.inputs.unit import FieldPath
from rootless.policy.inputs.values import flag, pairs, text, texts
from rootless.policy.rules.images import full_name

_KNOWN = frozenset(
    "additional_contexts args cache_from cache_to context dockerfile dockerfile_inline "
    "entitlements extra_hosts isolation labels network no_cache no_cache_filter platforms "
    "privileged provenance pull sbom secrets shm_size ssh tags target ulimits".split()
)


def rooted(build: Any, directory: str | None) -> Any:
    """The long form of ``build``, with its context where the file that says so means it.

    Of standard input nobody knows where that is.
    """
    if isinstance(build, str):
        build = {"context": build}
    if not isinstance(build, dict) or directory is None:
        return build
    context = build.get("context", ".")
    if isinstance(context, str) and not _is_remote(context):
        path = os.path.abspath(os.path.join(directory, context))
        return {**build, "context": path}
    return build


def _is_remote(context: str) -> bool:
    return "://" in context or context.startswith(("git@", "github.com/"))


def build_spec(
    name: str, build: Any, home: Path, places: dict[FieldPath, Path]
) -> BuildSpec | None:
    """A service's build, None where its image is not built; ``home`` is where it stands."""
    if build is None:
        return None
    if not isinstance(build, dict):
        raise NotUnderstood("build must be a path or a mapping", path=home)
    for key in build:
        if key not in _KNOWN and not key.startswith("x-"):
            raise NotUnderstood(f"a build has no {key!r}", path=(*home, key))
    for field, key in (
        ("From", "dockerfile_inline" if "dockerfile_inline" in build else "dockerfile"),
        ("Network", "network"),
        ("Secrets", "secrets"),
        ("Ssh", "ssh"),
        ("Args", "args"),
        ("Insecure", "privileged" if build.get("privileged") else "entitlements"),
    ):
        places[f"Build.{field}",] = (*home, key)
    try:
        return _spec(name, build, home, places)
    except NotUnderstood as problem:
        raise NotUnderstood(problem.message, path=problem.path or home) from problem


def _spec(name: str, build: dict[str, Any], home: Path, places: dict[FieldPath, Path]) -> BuildSpec:
    args = pairs(build.get("args"), "args")
    for argument in args:
        places["Build.Args", argument] = (*home, "args", argument)
    found = _dockerfile(build, args)
    entitlements = texts(build.get("entitlements"), "entitlements")
    networks = [text(build.get("network"), "network") or "default"]
    networks += found.networks if found else []
    networks += ["host"] if "network.host" in entitlements else []
    insecure = flag(build.get("privileged"), "privileged") or "security.insecure" in entitlements
    return BuildSpec(
        name=name,
        bases=tuple(dict.fromkeys(map(full_name, found.bases))) if found else None,
        networks=tuple(dict.fromkeys(networks)),
        secrets=tuple(_secrets(build.get("secrets"))),
        ssh=tuple(pairs(build.get("ssh"), "ssh")),
        args=tuple(f"{key}={value}" for key, value in args.items()),
        insecure=insecure or (found is not None and found.insecure),
    )


def _secrets(written: Any) -> list[str]:
    """By what they are, whatever steps call them."""
    if written is not None and not isinstance(written, list):
        raise NotUnderstood("secrets must be a list")
    found = []
    for entry in written or ():
        name = entry.get("source") if isinstance(entry, dict) else entry
        if not isinstance(name, str):
            raise NotUnderstood("a secret must have a name")
        found.append(name)
    return found


def _dockerfile(build: dict[str, Any], args: dict[str, str]) -> Dockerfile | None:
    """What its Dockerfile says; None where that is on no disk of this machine."""
    contexts = pairs(build.get("additional_contexts"), "additional_contexts")
    inline = build.get("dockerfile_inline")
    if inline is not None:
        return read_dockerfile(text(inline, "dockerfile_inline"), args, contexts)
    context = text(build.get("context"), "context")
    if not os.path.isabs(context):
        return None
    path = os.path.join(context, text(build.get("dockerfile"), "dockerfile") or "Dockerfile")
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            data = file.read(MAX_DOCKERFILE + 1)
    except OSError:
        return None
    if len(data) > MAX_DOCKERFILE:
        raise NotUnderstood(f"{path} has more than {MAX_DOCKERFILE} bytes")
    try:
        return read_dockerfile(data.decode("utf-8-sig"), args, contexts)
    except UnicodeDecodeError:
        raise NotUnderstood(f"{path} is not UTF-8") from None
    except NotUnderstood as problem:
        raise NotUnderstood(f"{path}: {problem.message}") from problem
