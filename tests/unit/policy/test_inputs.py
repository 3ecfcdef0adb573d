"""Inputs: what is in them, where it is, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.policy.inputs.body import container_spec
from rootless.policy.inputs.compose import units_of as compose_units
from rootless.policy.inputs.detect import form_of, units_of
from rootless.policy.inputs.interpolate import interpolate
from rootless.policy.inputs.read import NotUnderstood, read_documents, scalar
from rootless.policy.inputs.read import Path as DocPath
from rootless.policy.inputs.unit import Container, Unit
from rootless.policy.judge import Judge
from rootless.policy.load import load_named
from rootless.units import parse_quantity
from tests.unit.policy.cases import HOME


def units(text: str, directory: str | None = None) -> list[Unit]:
    return list(units_of(read_documents(text.encode()), None, directory))


def service(body: str, head: str = "") -> Container:
    [unit] = units(f"{head}services:\n  web:\n    image: x\n{body}")
    assert not unit.problems, unit.problems
    [container] = unit.containers
    return container


def problem(text: str, directory: str | None = None) -> tuple[str, tuple[int, int]]:
    [unit] = [unit for unit in units(text, directory) if unit.problems]
    found = unit.problems[0]
    return found.message, found.place or unit.document.place(found.path or ())


@pytest.mark.parametrize(
    ("text", "value"),
    [("22:22", "22:22"), ("yes", "yes"), ("on", "on"), ("true", True), ("010", 8), ("0o10", 8),
     ("0x1f", 31), ("1_000", 1000), ("1.5", 1.5), ("~", None), ("", None), ("-", "-"), (".", "."),
     ("1e3", 1000.0), ("08", 8), ("2024-01-01", "2024-01-01"), ("=", "="), ("-5", -5)],
)  # fmt: skip
def test_plain_scalars_are_those_of_go(text: str, value: Any) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_places_in_yaml_and_json() -> None:
    yaml = "a:\n  - b: 1\n    c: {d: 2}\n"
    [document] = read_documents(yaml.encode())
    assert document.place(("a", 0, "c", "d")) == (3, 9)
    assert document.place(("a", 0, "absent")) == (2, 5)
    text = '{"a\\"": [1,\n {"b": "}", "c": {"d": [true, -2.5e3]}}]}'
    [document] = read_documents(text.encode())
    assert document.value == json.loads(text)
    assert document.place(('a"', 1, "c", "d", 1)) == (2, 31)
    assert document.place(('a"', 1, "b", "nothing")) == (2, 3)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def paths(value: Any, path: DocPath = ()) -> list[DocPath]:
    found = [path]
    if isinstance(value, dict):
        for key, child in value.items():
            found += paths(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            found += paths(child, (*path, index))
    return found


@given(_json, st.sampled_from([None, 2]))
def test_every_place_in_json_is_where_the_value_is(value: Any, indent: int | None) -> None:
    text = json.dumps({"top": value}, indent=indent)
    [document] = read_documents(text.encode())
    assert document.value == {"top": value}
    for path in paths(document.value)[1:]:
        line, column = document.place(path)
        rest = text.splitlines()[line - 1][column - 1 :]
        last = path[-1]
        wanted = json.dumps(last) if isinstance(last, str) else rest[:1]
        assert rest.startswith(wanted)
        assert rest


def test_merge_keys_and_duplicates() -> None:
    text = "base: &b {privileged: true, a: 1}\nx:\n  <<: *b\n  a: 2\n"
    [document] = read_documents(text.encode())
    assert document.value["x"] == {"a": 2, "privileged": True}
    assert document.place(("x", "privileged")) == (1, 11)
    with pytest.raises(NotUnderstood, match="'a' appears twice") as caught:
        read_documents(b"a: 1\na: 2\n")
    assert caught.value.place == (2, 1)
    with pytest.raises(NotUnderstood, match="appears twice"):
        read_documents(b'{"a": 1, "a": 2}')


def test_forms_are_told_apart() -> None:
    assert form_of({"apiVersion": "v1", "kind": "Pod"}) == "pod"
    assert form_of({"services": {}}) == "compose"
    assert form_of({"ociVersion": "1.0"}) == "oci"
    assert form_of([{"HostConfig": {}}]) == "inspect"
    assert form_of({"a": 1}) is None


def test_lists_and_kinds_without_containers() -> None:
    spec = {"containers": [{"name": "c"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    several = {"apiVersion": "v1", "kind": "List", "items": [pod, {**pod, "kind": "Job"}]}
    found = units(json.dumps(several))
    assert [unit.kind for unit in found] == ["Pod", "Job"]
    assert found[1].problems[0].path == ("items", 1)
    assert [u.kind for u in units(f"{json.dumps(service)}{json.dumps(pod)}")] == ["Pod"]
    assert units(json.dumps(service))[0].problems


@pytest.mark.parametrize(
    "spec",
    ["{containers: 1}", "{containers: [1]}", "{containers: [{securityContext: []}]}",
     "{hostNetwork: 'yes', containers: []}", "{containers: [{name: 5}]}", "{container: []}",
     "{containers: [{name: a, securityContext: {privileged: 1}}]}", "[]", "x",
     "{containers: [{name: a, securityContext: {capabilities: {add: SYS_ADMIN}}}]}",
     "{containers: [{name: a, resources: {limits: {memory: much}}}]}"],
)  # fmt: skip
def test_pods_of_wrong_types_are_no_pass(spec: str) -> None:
    [unit] = units(f"apiVersion: v1\nkind: Pod\nspec: {spec}\n")
    judge = Judge(load_named("builtin:pss-baseline", home=HOME, where="t"))
    assert judge.result(unit, "x").verdict == "not-understood"


def test_quantities() -> None:
    assert parse_quantity("100m") == pytest.approx(0.1)
    assert parse_quantity("1.5Gi") == 1.5 * (1 << 30)
    assert parse_quantity("2e3") == 2000
    assert parse_quantity("1E") == 1e18
    assert parse_quantity("much") is None
    assert parse_quantity("5x") is None


@pytest.mark.parametrize(
    ("written", "wanted"),
    [('"80"', (80, "", 0)), ('"8080:80"', (80, "", 8080)),
     ('"127.0.0.1::80"', (80, "127.0.0.1", 0)),
     ('"[::1]:8080:80/udp"', (80, "::1", 8080)), ("8080:80", (80, "", 8080)), ("80", (80, "", 0)),
     ('"127.0.0.1:5000-5010:5000-5010"', (5000, "127.0.0.1", 5000)),
     ("{target: 80, published: 8080, host_ip: 10.0.0.1}", (80, "10.0.0.1", 8080)),
     ("22:22", (22, "", 22))],
)  # fmt: skip
def test_compose_ports(written: str, wanted: tuple[int, str, int]) -> None:
    [port] = service(f"    ports: [{written}]\n").spec.network.ports
    assert (port.container_port, port.host_ip, port.host_port) == wanted


@pytest.mark.parametrize(
    ("written", "kind", "source"),
    [("/etc:/x", "bind", "/etc"), ("data:/x", "volume", ""), ("./a:/x:ro", "bind", "./a"),
     ("{type: bind, source: /etc, target: /x}", "bind", "/etc"),
     ("{type: tmpfs, target: /x}", "tmpfs", ""), ("host:/x", "bind", "/srv/d")],
)  # fmt: skip
def test_compose_volumes(written: str, kind: str, source: str) -> None:
    head = "volumes: {host: {driver_opts: {o: bind, device: /srv/d}}, data: {}}\n"
    container = service(f"    volumes: [{written}]\n", head)
    [mount] = container.spec.mounts
    assert (mount.type, mount.source, mount.target) == (kind, source, "/x")


def test_compose_fields() -> None:
    container = service(
        '    privileged: "yes"\n    user: 0\n    pid: service:db\n    cap_add: [net_admin]\n'
        "    sysctls: [net.core.somaxconn=1]\n    mem_limit: 64m\n    pids_limit: 5\n"
        "    deploy: {resources: {limits: {cpus: '0.5'}}}\n    restart: on-failure:5\n"
        "    use_api_socket: true\n    devices: ['/dev/kvm:/dev/x:r']\n"
    )
    spec = container.spec
    assert spec.privileges.privileged
    assert spec.process.user == "0"
    assert spec.namespaces.pid == "container:db"
    assert spec.sysctls == (("net.core.somaxconn", "1"),)
    assert (spec.resources.memory, spec.resources.pids_limit) == (64 << 20, 5)
    assert spec.resources.nano_cpus == 5 * 10**8
    assert spec.restart.maximum_retry_count == 5
    assert spec.mounts[0].source == "/var/run/docker.sock"
    assert spec.devices[0].source == "/dev/kvm"


@pytest.mark.parametrize(
    ("body", "line"),
    [("    bogus: 1\n", 4), ("    ports: 80\n", 4), ("    ports: [x]\n", 4),
     ("    volumes: {a: b}\n", 4), ("    cap_add: {a: b}\n", 4), ("    mem_limit: lots\n", 4),
     ("    restart: sometimes\n", 4), ("    deploy: [1]\n", 4), ("    privileged: maybe\n", 4),
     ("    user: ${X:?must}\n", 4), ("    user: ${X\n", 4), ("    healthcheck: 5\n", 4),
     ("    extends: {service: nobody}\n", 4), ("    extends: {service: web}\n", 4)],
)  # fmt: skip
def test_compose_files_that_are_wrong_have_a_place(body: str, line: int) -> None:
    message, place = problem(f"services:\n  web:\n    image: x\n{body}")
    assert message
    assert place[0] == line


def test_hooks_of_a_service_may_what_they_ask_for() -> None:
    text = (
        "services:\n  web:\n    image: app:1\n    user: '1000'\n    post_start:\n"
        "      - command: x\n        privileged: 'true'\n    pre_stop:\n"
        "      - {command: y, user: root}\n    pre_start:\n      - image: other:latest\n"
    )
    judge = Judge(load_named("builtin:restricted", home=HOME, where="t"))
    [unit] = units(text)
    found = {(e.rule, e.at.path) for e in judge.result(unit, "f").findings}
    assert ("privileges.privileged", "services.web.post_start[0].privileged") in found
    assert ("user.root", "services.web.pre_stop[0].user") in found
    assert ("images.tag", "services.web.pre_start[0].image") in found
    for bad in ("post_start: x", "pre_stop: [x]", "post_start: [{privileged: perhaps}]"):
        message, place = problem(f"services:\n  web:\n    image: x\n    {bad}\n")
        assert place[0] == 4, message


def test_a_part_of_a_compose_file_is_one_and_no_pass() -> None:
    text = (
        "volumes:\n  data:\n    driver: local-persist\n    driver_opts:\n"
        "      mountpoint: /var/data\n  other:\n"
    )
    [unit] = units_of(read_documents(text.encode()), None, None)
    result = Judge(load_named("builtin:cis-docker", home=HOME, where="t")).result(unit, "f")
    assert (result.kind, result.verdict) == ("Compose", "not-understood")
    assert ("cis-docker.5.6", 5) in [(entry.rule, entry.at.line) for entry in result.findings]
    for other in ("volumes: []", "volumes: {a: {}}\nother: 1", "name: x", "volumes: {}\nkind: 1"):
        [unit] = units_of(read_documents(other.encode()), None, None)
        assert unit.kind == "Unknown"


def test_compose_networks_are_known_by_name_and_egress_list(tmp_path: Path) -> None:
    text = (
        "services:\n"
        "  plain: {image: x}\n"
        "  both:\n    image: x\n    networks:\n      front:\n"
        "      ci: {driver_opts: {egress: 'a.test:443'}}\n"
        "  inner: {image: x, networks: [back, theirs]}\n"
        "  alone: {image: x, network_mode: none, extra_hosts: {h: host-gateway}}\n"
        "  old: {image: x, network_mode: bridge}\n"
        "networks:\n"
        "  front: {name: shop-front}\n"
        "  ci: {driver_opts: {egress: 'a.test b.test'}}\n"
        "  back: {internal: true}\n"
        "  theirs: {external: true}\n"
    )
    where = tmp_path / "My.Shop"
    (unit,) = compose_units(read_documents(text.encode())[0], str(where))
    assert not unit.problems
    found = {c.name: c.spec.network for c in unit.containers}
    assert found["plain"].ways_out == [("myshop_default", ())]
    assert found["both"].ways_out == [
        ("shop-front", ()), ("myshop_ci", (("a.test", "b.test"), ("a.test:443",)))
    ]  # fmt: skip
    assert found["inner"].ways_out == [("theirs", ())]
    assert [a.network for a in found["inner"].attachments] == ["myshop_back", "theirs"]
    assert (found["alone"].mode, found["alone"].attachments) == ("none", ())
    assert [a.network for a in found["old"].attachments] == ["bridge"]
    at = {c.name: c.places for c in unit.containers}
    assert at["both"]["HostConfig.NetworkMode", "myshop_ci"][2:] == ("networks", "ci")
    host = next(c.spec.request.host for c in unit.containers if c.name == "alone")
    assert host.extra_hosts == ("h:host-gateway",)
    (named,) = compose_units(read_documents(f"name: own\n{text}".encode())[0], str(where))
    assert named.containers[0].spec.network.ways_out == [("own_default", ())]


def test_a_policy_about_networks_judges_the_default_one() -> None:
    policy = load_named("builtin:default", home=HOME, where="t")
    rule = {"network.allowNetworks": frozenset({"front"})}
    judge = Judge(replace(policy, constraints={**policy.constraints, **rule}))
    for host, denied in (
        ({}, "bridge"), ({"NetworkMode": "default"}, "bridge"), ({"NetworkMode": "front"}, ""),
        ({"NetworkMode": "back"}, "back"), ({"NetworkMode": "none"}, ""),
    ):  # fmt: skip
        (unit,) = units(json.dumps({"Config": {"Image": "x"}, "HostConfig": host}))
        told = [e.message for e in judge.result(unit, "x").findings if e.rule == "network.name"]
        assert [denied in text for text in told] == ([True] if denied else []), host


def test_extends_and_include_are_followed(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "services:\n  base: {image: x, privileged: true, cap_add: [SYS_ADMIN]}\n"
    )
    (tmp_path / "more.yaml").write_text("services: {other: {image: y, pid: host}}\n")
    text = (
        "include: [more.yaml]\nservices:\n  web:\n    extends: {service: base, file: base.yaml}\n"
        "    cap_add: [NET_ADMIN]\n"
    )
    found = list(compose_units(read_documents(text.encode())[0], str(tmp_path)))
    assert not [unit.problems for unit in found if unit.problems]
    web, other = found[0].containers[0].spec, found[1].containers[0].spec
    assert web.privileges.privileged
    assert web.request.host.cap_add == ("SYS_ADMIN", "NET_ADMIN")
    assert other.namespaces.pid == "host"
    assert found[1].document.file == str(tmp_path / "more.yaml")
    (tmp_path / "more.yaml").write_text("include: [again.yaml]\nservices: {other: {image: y}}\n")
    (tmp_path / "again.yaml").write_text("include: [more.yaml]\nservices: {third: {image: z}}\n")
    round_about = list(compose_units(read_documents(text.encode())[0], str(tmp_path)))
    assert [c.name for unit in round_about for c in unit.containers] == ["web", "other", "third"]
    # From standard input nothing beside it can be read: no pass.
    assert "standard input" in problem(text)[0]
    missing = text.replace("more.yaml", "https://example.com/compose.yaml")
    assert "not a local file" in problem(missing, str(tmp_path))[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [("$A", ""), ("${A}", ""), ("${A:-x}", "x"), ("${A-x}", "x"), ("${A:+x}", ""), ("$$A", "$A"),
     ("${A:-${B:-y}}z", "yz"), ("a$", "a$"), ("$1", "$1")],
)  # fmt: skip
def test_variables(text: str, value: str) -> None:
    assert interpolate({"k": [text]}, ()) == {"k": [value]}


def test_an_oci_configuration() -> None:
    config: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}},
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/x", "type": "bind", "source": "/etc", "options": ["rbind", "rw"]},
        ],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
    }
    [unit] = units(json.dumps(config))
    [container] = unit.containers
    spec = container.spec
    assert spec.privileges.capabilities == ("CAP_SYS_ADMIN",)
    assert spec.namespaces.network == "host"
    assert spec.namespaces.pid == "private"
    assert [mount.source for mount in spec.mounts] == ["/etc"]
    assert spec.seccomp.kind == "unconfined"
    assert not spec.privileges.no_new_privileges
    found = Judge(load_named("builtin:default", home=HOME, where="t")).result(unit, "c")
    assert found.verdict == "fail"
    del config["linux"]
    assert units(json.dumps(config))[0].problems


def test_the_examples_of_the_oci_specification(shared_data: Path) -> None:
    judge = Judge(load_named("builtin:default", home=HOME, where="t"))
    files = sorted((shared_data / "oci" / "runtime").rglob("*.json"))
    configs = [path for path in files if b'"ociVersion"' in path.read_bytes()]
    for path in configs:
        try:
            documents = read_documents(path.read_bytes())
        except NotUnderstood:
            continue
        for unit in units_of(documents, "oci", None):
            judge.result(unit, str(path))


@given(_json)
def test_no_input_makes_a_traceback(value: Any) -> None:
    judge = Judge(load_named("builtin:cis-docker", home=HOME, where="t"))
    for wrapped in (
        {"apiVersion": "v1", "kind": "Pod", "spec": value},
        {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"securityContext": value}]}},
        {"services": value},
        {"services": {"a": value}},
        {"services": {"a": {"ports": value, "volumes": value}}},
        {"HostConfig": value},
        {"HostConfig": {"Mounts": value, "PortBindings": value}},
        {"ociVersion": "1", "process": value, "linux": value},
        {"x": value},
        [value],
    ):
        for unit in units(json.dumps(wrapped)):
            judge.result(unit, "x")


def test_items_of_a_list_of_one_kind_need_not_say_theirs() -> None:
    items = "items:\n- spec: {hostPID: true, containers: [{name: a, image: b}]}\n"
    for kind in ("PodList", "List"):
        found = units(f"apiVersion: v1\nkind: {kind}\n{items}")
        assert [(unit.kind, bool(unit.problems)) for unit in found] == [
            ("Pod", False) if kind == "PodList" else ("", True)
        ]
    other = "apiVersion: v1\nkind: SecretList\nitems: [{data: {}}, {data: {}}]\n"
    assert [unit.problems[0].message for unit in units(other)] == [
        "nothing in it starts a container"
    ]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("./logic:/a", "./logic/:/b", True),
        ("./logic:/a", "./x/../logic:/b:ro", True),
        ("/srv/a:/a", "/srv//a/:/b", True),
        (".:/a", "./:/b", True),
        ("../a:/a", "./../a:/b", True),
        ("~/a:/a", "~/a/:/b", True),
        ("data:/a", "data:/b", True),
        ("./a:/a", "../a:/a", False),
        ("/srv/a:/a", "/srv/ab:/a", False),
        ("/a", "/a", False),
        ("./data:/a", "data:/a", False),
    ],
)
def test_what_two_services_share(one: str, other: str, shared: bool) -> None:  # a case
    pairs = (("a", one), ("b", other))
    services = "".join(f"  {name}: {{image: x, volumes: ['{entry}']}}\n" for name, entry in pairs)
    [unit] = units(f"services:\n{services}volumes: {{data: {{}}}}\n")
    assert not unit.problems
    assert len(unit.remarks) == 2 * shared


def test_a_key_that_is_not_understood_hides_nothing_of_the_others() -> None:
    text = (
        "services:\n"
        "  web:\n"
        "    image: x\n"
        "    privilegd: true\n"
        "    privileged: true\n"
        "    security_opt:\n"
        "      - apparmor: false\n"
        "    mem_limit: much\n"
        "    deploy: [a]\n"
        "    volumes: /etc\n"
        "    ports: ['80:80']\n"
        "  db: {image: y, privileged: true}\n"
    )
    [unit] = units(text)
    found = Judge(load_named("builtin:cis-docker", home=HOME, where="test")).result(unit, "f")
    assert found.verdict == "not-understood"
    rules = {(entry.rule, entry.at.line) for entry in found.findings}
    assert {line for rule, line in rules if rule == "input.not-understood"} == {4, 6, 8, 9, 10}
    assert {("cis-docker.5.5", 5), ("cis-docker.5.5", 12), ("cis-docker.5.8", 11)} <= rules
    assert ("cis-docker.5.26", 6) in rules


@pytest.mark.parametrize("hooks", ["text", "[text]", "{a: 1}", "[{image: [x]}]", "[{user: [0]}]"])
def test_hooks_that_are_none(hooks: str) -> None:
    [unit] = units(f"services:\n  web:\n    image: x\n    pre_start: {hooks}\n")
    assert unit.problems


@pytest.mark.parametrize(
    ("bound", "addresses"),
    [
        ([{"HostIp": "127.0.0.1", "HostPort": "80"}], {"127.0.0.1"}),
        ([{"HostIp": "0.0.0.0", "HostPort": "80"}, {"HostIp": "::", "HostPort": "80"}],
         {"0.0.0.0", "::"}),
        (None, {""}),
    ],
)  # fmt: skip
def test_a_port_without_an_address_is_where_it_is_bound(
    bound: list[dict[str, str]] | None, addresses: set[str]
) -> None:
    spec = container_spec({
        "Image": "x",
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "80"}]}},
        "NetworkSettings": {"Ports": {"80/tcp": bound}},
    })  # fmt: skip
    assert {port.host_ip for port in spec.network.ports} == addresses
