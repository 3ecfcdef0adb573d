"""What hostile inputs, policies and profiles are made of: good ones, and bytes to bend them."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
POLICIES = [p.read_bytes() for p in sorted((_ROOT / "policies").rglob("*.yaml"))]
PROFILES = [
    b'{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW",'
    b'"args":[{"index":0,"value":1,"op":"SCMP_CMP_NE"}],"includes":{"caps":["CAP_X"]}}]}',
    b'{"handledAccessFs":["execute"],"pathRules":[{"path":"/a","accessFs":["execute"]}]}',
]
INPUTS = [
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
TOKENS = [
    b"null", b"[]", b"{}", b"-1", b"1" * 25, b"true", b'"x"', b"1e400", b"*a", b"&a ", b"<<: ",
    b"!!str ", b"!reset ", b"${X", b"\n", b"  ", b":", b"- ", b"\xff", b"\0", b'"', b"'", b".inf",
    b"0x", b"~", b"22:22", b"? ", b"\xf0\x9f\x98\x80", b",", b"}", b"]",
]  # fmt: skip


def mutated(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for place, gone, new in edits:
        at = int(place * len(data))
        data = data[:at] + new + data[at + gone :]
    return data
