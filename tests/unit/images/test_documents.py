"""Manifests, indexes, configs, platforms and --change."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import InvalidInput, NotFound, RootlessError
from rootless.images import changes, config, manifest, platform
from rootless.images.manifest import Index, Manifest
from rootless.model.request import ContainerConfig

D = "sha256:" + "a" * 64
CONFIG = {"mediaType": manifest.OCI_CONFIG, "digest": D, "size": 10}
LAYER = {"mediaType": manifest.OCI_LAYER_GZIP, "digest": D, "size": 20}
GOOD: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": manifest.OCI_MANIFEST,
    "config": CONFIG,
    "layers": [LAYER],
}


def _parse(body: object, media_type: str = "") -> Manifest | Index:
    return manifest.parse(json.dumps(body).encode(), media_type)


def _without(key: str) -> dict[str, Any]:
    return {k: v for k, v in GOOD.items() if k != key}


def test_manifest_round_trip() -> None:
    found = _parse({**GOOD, "annotations": {"a": "b"}, "unknown": [1]})
    assert isinstance(found, Manifest)
    assert found.layers[0].size == 20
    assert manifest.parse(manifest.encode(found)) == found
    assert manifest.references(found) == (D, D)


def test_docker_schema_2_by_content_type() -> None:
    body = _without("mediaType")
    body["config"] = {**CONFIG, "mediaType": manifest.DOCKER_CONFIG}
    body["layers"] = [{**LAYER, "mediaType": manifest.DOCKER_LAYER_GZIP}]
    found = _parse(body, manifest.DOCKER_MANIFEST + "; charset=utf-8")
    assert found.media_type == manifest.DOCKER_MANIFEST


@pytest.mark.parametrize(
    ("body", "media_type", "message"),
    [
        ([], "", "Expected `object`"),
        ({**GOOD, "schemaVersion": 1}, "", "version 1 is not supported"),
        ({"schemaVersion": 1, "fsLayers": []}, "", "version 1 is not supported"),
        (GOOD, "application/vnd.docker.distribution.manifest.v1+prettyjws", "version 1"),
        ({**GOOD, "schemaVersion": 3}, "", "unknown schema version 3"),
        ({**GOOD, "manifests": []}, "", "a manifest and an index at once"),
        (GOOD, manifest.OCI_INDEX, "was served as"),
        (_without("mediaType"), manifest.OCI_INDEX, "does not fit its media type"),
        ({**GOOD, "mediaType": "text/html"}, "", "unsupported media type"),
        (_without("config"), "", "names no config"),
        ({**GOOD, "config": {**CONFIG, "digest": "sha256:zz"}}, "", "not a sha256 digest"),
        ({**GOOD, "config": {**CONFIG, "digest": "../../etc/passwd"}}, "", "not a sha256 digest"),
        ({**GOOD, "config": {**CONFIG, "size": -1}}, "", "negative size"),
        ({**GOOD, "config": {**CONFIG, "size": "1"}}, "", "Expected `int`"),
        ({**GOOD, "config": {**CONFIG, "mediaType": "helm"}}, "", "not a container image"),
        ({**GOOD, "layers": [{**LAYER, "mediaType": "x"}]}, "", "unsupported media type"),
        ({**GOOD, "layers": [LAYER] * 600}, "", "more than 512 layers"),
    ],
)
def test_manifests_that_are_refused(body: object, media_type: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        _parse(body, media_type)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'"x"', b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        manifest.parse(data)
    with pytest.raises(InvalidInput):
        config.parse(data)


def test_size_bounds() -> None:
    with pytest.raises(InvalidInput, match="larger than"):
        manifest.parse(b" " * (manifest.MAX_MANIFEST + 1))
    with pytest.raises(InvalidInput, match="larger than"):
        config.parse(b" " * (config.MAX_CONFIG + 1))


KEYS = (
    "schemaVersion config layers manifests mediaType digest rootfs diff_ids history created "
    "Env Cmd Healthcheck"
).split()
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
)


@given(documents)
def test_any_json_is_a_document_or_invalid_input(body: object) -> None:
    for parse in (manifest.parse, config.parse):
        with contextlib.suppress(InvalidInput):
            parse(json.dumps(body).encode())


def _entry(text: str, **more: Any) -> dict[str, Any]:
    os, arch, *variant = text.split("/")
    body = {"os": os, "architecture": arch, **({"variant": variant[0]} if variant else {})}
    digest = "sha256:" + text.encode().hex().ljust(64, "0")[:64]
    return {
        "mediaType": manifest.OCI_MANIFEST,
        "digest": digest,
        "size": 5,
        "platform": body,
        **more,
    }


def _index(*entries: dict[str, Any]) -> Index:
    found = _parse(
        {"schemaVersion": 2, "mediaType": manifest.OCI_INDEX, "manifests": list(entries)}
    )
    assert isinstance(found, Index)
    assert manifest.parse(manifest.encode(found)) == found
    return found


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64/v8"),
        ("linux/aarch64", "linux/arm64/v8"),
        ("linux/arm/v8", "linux/arm/v7"),
        ("arm/v6", "linux/arm/v6"),
        ("linux/amd64/v3", "linux/amd64"),
    ],
)
def test_choice_of_platform(wanted: str, chosen: str) -> None:
    index = _index(
        _entry("unknown/unknown", annotations={"vnd.docker.reference.type": "attestation"}),
        _entry("linux/arm/v6"),
        _entry("linux/arm/v7"),
        _entry("linux/arm64/v8"),
        _entry("linux/amd64"),
    )
    found = manifest.choose(index, platform.parse(wanted))
    assert found.digest == _entry(chosen)["digest"]


def test_no_platform_fits() -> None:
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x") as caught:
        manifest.choose(_index(_entry("linux/amd64")), platform.parse("linux/s390x"))
    assert caught.value.hint == "available: linux/amd64"


@pytest.mark.parametrize("text", ["a/b/c/d", "linux//x", "linux/am d64", "/", "l\u00efnux/x"])
def test_invalid_platforms(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid platform"):
        platform.parse(text)


def test_one_word_is_a_system_or_an_architecture() -> None:
    assert str(platform.parse("ARM64")) == "linux/arm64"
    assert platform.parse("windows").os == "windows"
    with pytest.raises(InvalidInput, match='"foo": unknown operating system or architecture'):
        platform.parse("foo")


def test_config_as_docker_writes_it() -> None:
    body = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-05-06T07:08:09.123456789Z",
        "config": {
            "Env": ["PATH=/bin"],
            "Cmd": "sh",
            "Entrypoint": None,
            "ExposedPorts": {"80/tcp": {}},
            "Volumes": {"/data": {}},
            "Labels": None,
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5},
            "StopTimeout": 0,
            "SomethingNew": {"a": 1},
        },
        "rootfs": {"type": "layers", "diff_ids": [D]},
        "history": [{"created_by": "x", "empty_layer": True}, {}],
    }
    found = config.parse(json.dumps(body).encode())
    assert found.created_ns == 1714979289123456789
    assert found.config.cmd == ("sh",)
    assert found.config.exposed_ports == ("80/tcp",)
    assert found.config.entrypoint is None
    assert found.config.stop_timeout == 0
    assert found.config.healthcheck is not None
    assert found.config.healthcheck.interval == 5
    assert found.history[0].empty_layer
    assert config.parse(config.encode(found)) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("2024-01-01T00:00:00+01:00", 1704063600 * 10**9),
        ("0001-01-01T00:00:00Z", 0),
        ("2024-13-01T00:00:00Z", 0),
        ("yesterday", 0),
        (None, 0),
    ],
)
def test_times(text: str | None, expected: int) -> None:
    assert config.parse_time(text) == expected


def test_config_without_rootfs_or_with_odd_diff_ids() -> None:
    with pytest.raises(InvalidInput, match="no rootfs"):
        config.parse(b"{}")
    with pytest.raises(InvalidInput, match="is not a diff id"):
        config.parse(b'{"rootfs":{"type":"layers","diff_ids":["../x"]}}')


def test_changes() -> None:
    found = changes.apply(
        ContainerConfig(env=("A=1", "B=2"), working_dir="/srv"),
        [
            'CMD ["a", "b c"]',
            "entrypoint run it",
            "ENV A=x C='with space' D=a\\ b",
            "ENV OLD style value",
            "EXPOSE 80 8000-8002/udp",
            'LABEL a=1 "b c"="d e"',
            "ONBUILD RUN make",
            "USER me:us",
            'VOLUME ["/v1", "/v 2"]',
            "VOLUME /v3",
            "WORKDIR sub/../dir",
            "STOPSIGNAL SIGUSR1",
            "HEALTHCHECK --interval=5s --retries=2 CMD curl x",
            'SHELL ["/bin/ash", "-ec"]\nCMD exit 1',
        ],
    )
    assert found.cmd == ("/bin/ash", "-ec", "exit 1")
    assert found.entrypoint == ("/bin/sh", "-c", "run it")
    assert found.env == ("A=x", "B=2", "C=with space", "D=a b", "OLD=style value")
    assert found.exposed_ports == ("80/tcp", "8000/udp", "8001/udp", "8002/udp")
    assert found.labels == (("a", "1"), ("b c", "d e"))
    assert found.on_build == ("RUN make",)
    assert found.user == "me:us"
    assert found.volumes == ("/v 2", "/v1", "/v3")
    assert found.working_dir == "/srv/dir"
    assert found.stop_signal == "SIGUSR1"
    assert found.healthcheck is not None
    assert found.healthcheck.test == ("CMD-SHELL", "curl x")
    assert (found.healthcheck.interval, found.healthcheck.retries) == (5 * 10**9, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN rm -rf /", "run is not a valid change command"),
        ("CMD", "CMD requires an argument"),
        ("ENV x", "ENV must have two arguments"),
        ("ENV a=1 b", "is not key=value"),
        ("ENV a='1", "unbalanced quote"),
        ("EXPOSE 99999", "invalid containerPort: 99999"),
        ("EXPOSE 5-3", "invalid containerPort"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("ONBUILD FROM x", "isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK RUN x", "unknown type 'RUN' in HEALTHCHECK"),
        ("HEALTHCHECK --interval=5 CMD x", "invalid duration"),
        ("HEALTHCHECK --nope=5s CMD x", "unknown flag '--nope'"),
        ('VOLUME [""]', "can not be an empty string"),
        ("SHELL bash", "in JSON form"),
    ],
)
def test_changes_that_are_refused(change: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        changes.apply(ContainerConfig(), [change])


@given(st.text(max_size=80))
def test_any_change_is_applied_or_refused(text: str) -> None:
    for word in ("CMD", "ENV", "LABEL", "EXPOSE", "HEALTHCHECK", "VOLUME", "WORKDIR"):
        with contextlib.suppress(RootlessError):
            changes.apply(ContainerConfig(), [f"{word} {text}"])
