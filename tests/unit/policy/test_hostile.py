"""Bytes that nobody meant: every input, policy and profile is judged or refused, never a crash."""

from __future__ import annotations

import contextlib
from functools import reduce
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rootless.check.inputs import units_of_text
from rootless.errors import InvalidInput
from rootless.policy.documents import InvalidPolicy
from rootless.policy.judge import Judge
from rootless.policy.load import BUILTINS, builtin, load_policy
from rootless.policy.policy import meet
from rootless.policy.profiles import landlock, seccomp
from tests.unit.policy.cases import HOME

_ROOT = Path(__file__).resolve().parents[3]
_POLICIES = [p.read_bytes() for p in sorted((_ROOT / "policies").rglob("*.yaml"))]
_PROFILES = [
    b'{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW",'
    b'"args":[{"index":0,"value":1,"op":"SCMP_CMP_NE"}],"includes":{"caps":["CAP_X"]}}]}',
    b'{"handledAccessFs":["execute"],"pathRules":[{"path":"/a","accessFs":["execute"]}]}',
]
_INPUTS = [
    b"apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {b: c}}\nspec:\n  hostNetwork: true\n"
    b"  securityContext: {runAsUser: 0, sysctls: [{name: a, value: b}]}\n  containers:\n"
    b"  - name: a\n    image: b\n    ports: [{containerPort: 80, hostPort: 80}]\n"
    b"    securityContext: {privileged: true, capabilities: {add: [X], drop: [ALL]}}\n"
    b"    volumeMounts: [{name: v, mountPath: /x}]\n"
    b"    resources: {limits: {memory: 1Gi, cpu: 1}}\n"
    b"  volumes: [{name: v, hostPath: {path: /}}]\n",
    b"services:\n  a:\n    image: x\n    ports: ['127.0.0.1:80:80', {target: 1}]\n    extends: b\n"
    b"    volumes: ['/a:/b:ro', {type: bind, source: $X, target: /c}]\n    restart: on-failure:3\n"
    b"    deploy: {resources: {limits: {cpus: '0.5', memory: 1g}}}\n  b: {privileged: true}\n",
    b'[{"Name":"/a","State":{"Health":{}},"Config":{"User":"0"},"HostConfig":{"Binds":["/:/x"],'
    b'"PortBindings":{"80/tcp":[{"HostIp":"::","HostPort":"80"}]},"Memory":1,"CapAdd":null}}]',
    b'{"ociVersion":"1","process":{"user":{"uid":0},"capabilities":{"bounding":[]}},"linux":'
    b'{"namespaces":[{"type":"pid"}],"resources":{"memory":{"limit":5}}},"mounts":[]}',
    b"docker run -v /:/x --privileged -p 80:80 --memory 5m alpine sh",
]
_TOKENS = [
    b"null", b"[]", b"{}", b"-1", b"1" * 25, b"true", b'"x"', b"1e400", b"*a", b"&a ", b"<<: ",
    b"!!str ", b"!reset ", b"${X", b"\n", b"  ", b":", b"- ", b"\xff", b"\0", b'"', b"'", b".inf",
    b"0x", b"~", b"22:22", b"? ", b"\xf0\x9f\x98\x80", b",", b"}", b"]",
]  # fmt: skip
_edit = st.tuples(
    st.floats(0, 1), st.integers(0, 20), st.sampled_from(_TOKENS) | st.binary(max_size=4)
)


def mutated(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for place, gone, new in edits:
        at = int(place * len(data))
        data = data[:at] + new + data[at + gone :]
    return data


_edits = st.lists(_edit, min_size=1, max_size=6)
_EVERY = Judge(reduce(meet, [builtin(name, HOME) for name in BUILTINS]), engine=True)
_FORMS = st.sampled_from([None, "pod", "compose", "oci", "inspect", "run"])


@given(st.sampled_from(_INPUTS), _edits, _FORMS)
def test_inputs(seed: bytes, edits: list[tuple[float, int, bytes]], form: str | None) -> None:
    for unit in units_of_text(mutated(seed, edits), form):
        result = _EVERY.result(unit, "x")
        assert all(entry.at.line >= 1 and entry.at.column >= 1 for entry in result.findings)


@given(st.sampled_from(_POLICIES), _edits)
def test_policies(seed: bytes, edits: list[tuple[float, int, bytes]]) -> None:
    try:
        load_policy(mutated(seed, edits).decode(errors="replace"), "f", home=HOME)
    except InvalidPolicy as error:
        complaints = error.context["complaints"]
        assert isinstance(complaints, list)
        assert all(line.startswith(("f:", "/", "command line")) for line in complaints)


@given(st.sampled_from(_PROFILES), _edits, st.booleans())
def test_profiles(seed: bytes, edits: list[tuple[float, int, bytes]], union: bool) -> None:
    text = mutated(seed, edits).decode(errors="replace")
    with contextlib.suppress(InvalidInput):
        seccomp.merge([seccomp.parse(text, "f")] * 2, union=union)
    with contextlib.suppress(InvalidInput):
        landlock.merge([landlock.parse(text, "f")] * 2, union=union)
