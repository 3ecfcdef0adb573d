"""``check-policy --running``: the policy against what the kernel shows of running containers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from rootless.client.api import Client
from rootless.errors import InvalidInput
from rootless.model.spec import ContainerSpec
from rootless.policy.inputs.body import container_spec
from rootless.policy.inputs.engine import inspect_units
from rootless.policy.inputs.read import InputDocument, NotUnderstood
from rootless.policy.judge import Judge
from rootless.policy.kernel import KernelView, body_as_seen, drifts, look, weaker
from rootless.policy.paths import MountTable
from rootless.policy.references import Reference
from rootless.policy.reports.model import NOT_UNDERSTOOD, Entry, Place, Result, verdict_of

DRIFT = "running.drift"
_LOOKS = 20
_PAUSE = 0.05
"""Seconds between two looks at processes that may more than the container."""
_FIX = "find out who changed it, and start the container anew"
_REFERENCES = (Reference("nist-800-190", "4.4.3"),)


def judge_running(judge: Judge, names: Sequence[str], host: str | None) -> list[Result]:
    """A result for each running container (those that are named, or all).

    Raises RootlessError when the daemon cannot be reached or has no such container.
    """
    client = Client(host)
    if not client.endpoint.path:
        raise InvalidInput(
            f"{client.endpoint.host} is another machine, whose kernel cannot be asked",
            hint="run check-policy --running where the containers run",
        )
    try:
        wanted = list(names) or [item["Id"] for item in client.get("/containers/json")]
        records = [client.get(f"/containers/{quote(name, safe='')}/json") for name in wanted]
    finally:
        client.close()
    return [_result(judge, record) for record in records]


def _result(judge: Judge, record: dict[str, Any]) -> Result:
    name = str(record.get("Name") or record["Id"][:12]).lstrip("/")
    title = f"container:{name}"
    pid = int((record.get("State") or {}).get("Pid") or 0)
    try:
        if not pid:
            raise NotUnderstood("the container does not run")
        recorded = container_spec(record)
        seen = _settled(pid, recorded)
    except (OSError, NotUnderstood, KeyError, ValueError) as error:
        reason = error.message if isinstance(error, NotUnderstood) else f"/proc/{pid}: {error}"
        entry = Entry(
            NOT_UNDERSTOOD, "high", "enforce", reason, "start it, or ask as its owner", (),
            Place(title, 1, 1),
        )  # fmt: skip
        return Result(title, 0, "Running", name, "not-understood", (entry,))
    document = _document(record, seen)
    [unit] = inspect_units(document)
    listening = {"listening": " ".join(map(str, seen.listening))}
    containers = tuple(
        replace(c, declared=False, observed={**c.observed, **listening}) for c in unit.containers
    )
    judged = judge.result(replace(unit, kind="Running", containers=containers), title)
    found = (*_drift_entries(document, title, recorded, seen), *judged.findings)
    return replace(judged, findings=found, verdict=verdict_of(found))


def _settled(pid: int, recorded: ContainerSpec) -> KernelView:
    """What the kernel shows, without processes that only were on their way into the container.

    An exec enters it first and gives up its rights then; what it may is told when it
    still may it after a while.
    """
    names = [name for name, _ in recorded.sysctls]
    paths = (*recorded.masked_paths, *recorded.readonly_paths)
    seen = look(pid, paths, names)
    suspects = set(weaker(recorded, seen))
    for _ in range(_LOOKS):
        if not suspects:
            break
        time.sleep(_PAUSE)
        seen = look(pid, paths, names)
        suspects &= set(weaker(recorded, seen))
    kept = tuple(one for one in seen.companions if one.pid in suspects)
    return replace(seen, companions=kept)


def _document(record: dict[str, Any], seen: KernelView) -> InputDocument:
    body = body_as_seen(record, seen)
    return InputDocument(0, body, text=json.dumps(body, indent=4))


def _drift_entries(
    document: InputDocument, title: str, recorded: Any, seen: KernelView
) -> list[Entry]:
    entries = []
    for drift in drifts(recorded, seen, os.getuid(), MountTable.read()):
        path = tuple(drift.field.split("."))
        line, column = document.place(path)
        message = f"{drift.field}: recorded is {drift.recorded}, the kernel shows {drift.found}"
        place = Place(title, line, column, drift.field)
        entries.append(Entry(DRIFT, "critical", "enforce", message, _FIX, _REFERENCES, place))
    return entries
