"""What kind of input a document is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rootless.policy.inputs import compose, engine, kubernetes
from rootless.policy.inputs.read import MAX_DOCUMENTS, InputDocument, NotUnderstood
from rootless.policy.inputs.unit import Unit

FORMS = ("pod", "compose", "oci", "inspect", "run")


def form_of(value: Any) -> str | None:
    """The form a document has, None when it is none of them."""
    for form, test in (
        ("pod", kubernetes.is_manifest),
        ("oci", engine.is_oci),
        ("inspect", engine.is_inspect),
        ("compose", compose.is_compose),
    ):
        if test(value):
            return form
    return None


def units_of(
    documents: list[InputDocument], form: str | None, directory: str | None
) -> Iterator[Unit]:
    """Everything in an input that is judged; what is not understood is a unit with problems."""
    count = -1
    for count, unit in enumerate(_units(documents, form, directory)):
        if count == MAX_DOCUMENTS:
            problem = NotUnderstood(f"more than {MAX_DOCUMENTS} things to judge", path=())
            yield Unit(unit.document, "Unknown", "", problems=(problem,))
            return
        yield unit
    if count < 0:
        problem = NotUnderstood("nothing in it starts a container", path=())
        yield Unit(documents[0], "Unknown", "", problems=(problem,))


def _units(
    documents: list[InputDocument], form: str | None, directory: str | None
) -> Iterator[Unit]:
    manifests = sum(1 for document in documents if kubernetes.is_manifest(document.value))
    for document in documents:
        found = form or form_of(document.value)
        if found is None or not isinstance(document.value, dict | list):
            problem = NotUnderstood(
                "this is no pod or workload, compose file, OCI config.json or inspect document",
                path=(),
            )
            yield Unit(document, "Unknown", "", problems=(problem,))
        elif found == "inspect":
            yield from engine.inspect_units(document)
        elif not isinstance(document.value, dict):
            problem = NotUnderstood(f"a document of form {found} is an object", path=())
            yield Unit(document, "Unknown", "", problems=(problem,))
        elif found == "pod":
            yield from kubernetes.units_of(document, lenient=manifests > 1)
        elif found == "oci":
            yield from engine.oci_units(document)
        else:
            yield from compose.units_of(document, directory)
