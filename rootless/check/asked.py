"""``check-policy --daemon`` and ``--image``: what the daemon tells of itself and of an image."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from rootless.check.policies import home
from rootless.client.api import Client
from rootless.model.image import ImageFacts, Voucher
from rootless.policy.inputs.body import container_spec
from rootless.policy.inputs.read import InputDocument, NotUnderstood, Path, read_documents
from rootless.policy.inputs.unit import Container, FieldPath, Unit
from rootless.policy.judge import Judge, policy_place
from rootless.policy.references import parse_references
from rootless.policy.reports.model import Entry, Place, Result, verdict_of
from rootless.policy.rules.cis import KEY
from rootless.policy.rules.cis_daemon import CHECKS, DaemonCheck

IMAGE_RULES = frozenset(
    "user.root user.uid env.forbidden env.secret labels.required health.required images.allowed "
    "images.digest images.tag images.age images.size images.trust privileges.setuid-files "
    "cis-docker.4.1 cis-docker.5.27 pss.runAsNonRoot "
    "pss.runAsUser".split()
)
"""Rules that an image alone can break: what it is called, says of itself, and has in it."""


def _get(target: str, host: str | None) -> Any:
    client = Client(host)
    try:
        return client.get(target)
    finally:
        client.close()


def judge_daemon(judge: Judge, host: str | None) -> Result:
    """This engine's configuration under the daemon checks that the policy requires.

    Raises RootlessError when the daemon cannot be reached.
    """
    info = _get("/info", host)
    document = InputDocument(0, info, text=json.dumps(info, indent=4), file="daemon:info")
    config = _config()
    found = tuple(_daemon_entries(judge, document, config))
    return Result("daemon", 0, "Daemon", str(info.get("Name", "")), verdict_of(found), found)


def _config() -> InputDocument:
    """daemon.json, or an empty document where there is none."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home(), ".config")
    path = os.path.join(base, "rootless", "daemon.json")
    try:
        with open(path, "rb") as file:
            [document] = read_documents(file.read(1 << 20))
    except (FileNotFoundError, NotUnderstood, ValueError):
        return InputDocument(0, {}, text="{}", file=path)
    value = document.value if isinstance(document.value, dict) else {}
    return replace(document, value=value, file=path)


def _daemon_entries(judge: Judge, info: InputDocument, config: InputDocument) -> Iterator[Entry]:
    for check in CHECKS:
        if check.number not in (judge.policy.names_of(KEY) or ()):
            continue
        problem = check.find(info.value, config.value)
        if problem:
            yield Entry(
                check.rule.id,
                check.rule.severity,
                judge.policy.mode_of(check.rule.id),
                f"{problem}; the benchmark asks: {check.title}",
                check.rule.remediation,
                parse_references(check.rule.references),
                _place(check, info, config),
                policy_place(judge.policy, KEY),
            )


def _place(check: DaemonCheck, info: InputDocument, config: InputDocument) -> Place:
    document, path = (
        (config, (check.key,)) if check.key in config.value or not check.info
        else (info, check.info)
    )  # fmt: skip
    line, column = document.place(path)
    return Place(document.file, line, column, ".".join(path))


def judge_image(judge: Judge, reference: str, host: str | None) -> Result:
    """An image that the daemon has, under the rules that an image alone can break.

    Raises RootlessError when there is no such image.
    """
    record = _get(f"/images/{quote(reference, safe='')}/json", host)
    config = {**(record.get("Config") or {}), "Image": reference}
    body = {"Config": config, "HostConfig": {}}
    document = InputDocument(0, body, text=json.dumps(body, indent=4))
    title = f"image:{reference}"
    places: dict[FieldPath, Path] = {(f"Config.{key}",): ("Config", key) for key in config}
    try:
        container = Container(
            "", container_spec(body), ("Config",), places, declared=False,
            image=_facts(reference, host),
        )  # fmt: skip
        unit = Unit(document, "Image", reference, (container,))
    except NotUnderstood as problem:
        unit = Unit(document, "Image", reference, problems=(problem,))
    return replace(judge, only=IMAGE_RULES).result(unit, title)


def _facts(reference: str, host: str | None) -> ImageFacts:
    """What the daemon knows of an image, and which signatures it verified."""
    found = _get(f"/rootless/images/{quote(reference, safe='')}", host)
    return ImageFacts(
        found["Name"],
        found["CreatedNano"],
        found["Size"],
        tuple(Voucher(v["Key"], v["Digest"], v["Repository"]) for v in found["Vouchers"]),
        tuple(found["SetuidFiles"]),
    )
