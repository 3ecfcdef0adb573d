"""Signatures: who vouches for what, and everything that proves nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import InvalidInput
from rootless.images.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from rootless.images.signatures import attached, payload
from rootless.images.signatures.attached import ANNOTATION, Signed
from rootless.images.signatures.verify import examine, holds
from tests.support import signing
from tests.support.signing import Signer, body_of, ecdsa, ed, manifest_of

D = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
NAME = "registry.example/team/app"
BOTH = pytest.mark.parametrize("signer", [ecdsa(), ed()], ids=["ecdsa", "ed25519"])


@BOTH
def test_a_good_signature(signer: Signer) -> None:
    signed = signer.signed(NAME, D)
    done = examine([signed], {D, OTHER}, [ecdsa("other").public, signer.public])
    [found] = done.verified
    assert (found.key, found.claim.digest) == (signer.public.fingerprint, D)
    assert found.claim.repository == NAME
    assert done.problems == ()


@BOTH
def test_another_key(signer: Signer) -> None:
    for other in (ecdsa("other"), ed("other")):
        done = examine([signer.signed(NAME, D)], {D}, [other.public])
        assert done.verified == ()
        assert "none of the wanted keys" in done.problems[0]
    assert examine([signer.signed(NAME, D)], {D}, []).verified == ()


@BOTH
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_one_bit_of_the_payload_or_the_signature(signer: Signer, at: int, bit: int) -> None:
    good = signer.signed(NAME, D)
    for name in ("payload", "signature"):
        data = bytearray(getattr(good, name))
        data[at % len(data)] ^= 1 << bit
        bad = Signed(
            bytes(data) if name == "payload" else good.payload,
            bytes(data) if name == "signature" else good.signature,
        )
        assert not holds(signer.public, bad)
        assert examine([bad], {D}, [signer.public]).verified == ()


@BOTH
def test_of_another_image(signer: Signer) -> None:
    done = examine([signer.signed(NAME, OTHER)], {D}, [signer.public])
    assert done.verified == ()
    assert OTHER in done.problems[0]


@pytest.mark.parametrize("bad", [b"", b"\x30", b"\x30\x06\x02\x01\x01\x02\x01\x01", b"\0" * 64])
@BOTH
def test_what_is_no_signature(signer: Signer, bad: bytes) -> None:
    assert not holds(signer.public, Signed(signer.signed(NAME, D).payload, bad))


def _der(r: bytes, s: bytes, *, tail: bytes = b"", long: bool = False) -> bytes:
    body = b"".join(b"\x02" + bytes([len(n)]) + n for n in (r, s))
    size = bytes([0x81, len(body)]) if long else bytes([len(body)])
    return b"\x30" + size + body + tail


def _minimal(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1)


def test_der_must_be_canonical() -> None:
    """One signature has one form: nothing can be hidden in another."""
    signer = ecdsa()
    good = signer.signed(NAME, D)
    r, s = map(_minimal, decode_dss_signature(good.signature))
    assert _der(r, s) == good.signature
    for bad in (
        _der(b"\0" + r, s),
        _der(r, b"\0" + s),
        _der(r, s, tail=b"\0"),
        _der(r, s, long=True),
        good.signature + good.signature,
    ):
        assert not holds(signer.public, Signed(good.payload, bad))


def _changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    body = body_of(D)
    change(body)
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not understood"),
        (b"null", "no object"),
        (b"[]", "no object"),
        (b"\xff\xfe", "not understood"),
        (b"[" * 50_000, "not understood"),
        (b" " * 70_000, "more than"),
        (_changed(lambda b: b.pop("critical")), "critical"),
        (_changed(lambda b: b.update(more=1)), "more"),
        (_changed(lambda b: b["critical"].update(more=1)), "more"),
        (_changed(lambda b: b["critical"].update(type="atomic container signature")), "type"),
        (_changed(lambda b: b["critical"].update(type=None)), "type"),
        (_changed(lambda b: b["critical"]["image"].update(more=1)), "more"),
        (_changed(lambda b: b["critical"]["image"].clear()), "docker-manifest-digest"),
        (_changed(lambda b: b["critical"]["identity"].clear()), "docker-reference"),
        (_changed(lambda b: b["critical"]["identity"].update({"docker-reference": 1})), "text"),
        (_changed(lambda b: b.update(optional=[])), "optional"),
        (_changed(lambda b: b["critical"]["image"].update(
            {"docker-manifest-digest": "sha512:" + "a" * 128})), "sha256"),
        (_changed(lambda b: b["critical"]["image"].update({"docker-manifest-digest": [D]})), "sha"),
        (json.dumps(body_of(D)).replace('"optional"', '"critical": {}, "optional"').encode(),
         "twice"),
        (json.dumps(body_of(OTHER)).replace(
            '"docker-manifest-digest"', f'"docker-manifest-digest": "{D}", '
            '"docker-manifest-digest"').encode(), "twice"),
        (b'{"critical": NaN, "optional": null}', "no JSON"),
    ],
)  # fmt: skip
def test_payloads_in_another_form(data: bytes, reason: str) -> None:
    """Signed by the right key, and still nothing: it might be read in two ways."""
    signer = ecdsa()
    with pytest.raises(InvalidInput, match=reason):
        payload.parse(data)
    done = examine([signer.signed_body(data)], {D}, [signer.public])
    assert done.verified == ()
    assert done.problems


def test_the_form_of_cosign() -> None:
    """As cosign 2 writes it (facts of its specification)."""
    data = (
        b'{"critical":{"identity":{"docker-reference":"registry.example/team/app"},'
        b'"image":{"docker-manifest-digest":"' + D.encode() + b'"},'
        b'"type":"cosign container image signature"},"optional":null}'
    )
    assert payload.encode(NAME, D) == data
    assert payload.parse(data) == payload.Claim(D, NAME)
    more = payload.encode(NAME, D, {"z": "1", "a": "ü"})
    assert payload.parse(more).optional == (("a", "ü"), ("z", "1"))


@pytest.mark.parametrize(
    ("text", "repository"),
    [
        ("registry.example/team/app:1.0", NAME),
        (f"registry.example/team/app@{D}", NAME),
        ("busybox", "docker.io/library/busybox"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox"),
        ("", ""),
        ("!!", ""),
    ],
)
def test_the_name_that_the_signer_gave(text: str, repository: str) -> None:
    assert payload.parse(payload.encode(text, D)).repository == repository


# -- the object that holds signatures ----------------------------------------------------


def _parse(body: Any, media_type: str = OCI_MANIFEST) -> tuple[Signed, ...]:
    layers = attached.parse(json.dumps(body).encode(), media_type, "signatures")
    return tuple(Signed(b"", attached.signature_of(x)) for x in attached.signatures(layers))


def test_several_signatures() -> None:
    some = [ecdsa().signed(NAME, D), ed().signed(NAME, D)]
    assert [x.signature for x in _parse(manifest_of(*some))] == [x.signature for x in some]
    assert len(_parse(manifest_of(*some, media_type=DOCKER_MANIFEST), DOCKER_MANIFEST)) == 2


def test_what_is_composed_is_read() -> None:
    signed = [ecdsa().signed(NAME, D), ed().signed(NAME, D)]
    layers = tuple(attached.signature_layer(each) for each in signed)
    config, manifest = attached.compose(layers)
    assert attached.parse(manifest, OCI_MANIFEST, "x") == layers
    assert json.loads(config)["rootfs"]["diff_ids"] == [layer.digest for layer in layers]


@pytest.mark.parametrize(
    ("change", "media_type"),
    [
        (lambda b: b.update(mediaType=OCI_INDEX), OCI_INDEX),
        (lambda b: b.update(manifests=[]), OCI_MANIFEST),
        (lambda b: b.update(mediaType=DOCKER_MANIFEST), OCI_MANIFEST),
        (lambda b: b.update(schemaVersion=1), OCI_MANIFEST),
        (lambda b: b.update(layers={}), OCI_MANIFEST),
        (lambda b: b["layers"].append(7), OCI_MANIFEST),
        (lambda b: b["layers"][0].update(size="7"), OCI_MANIFEST),
        (lambda b: b["layers"][0].update(size=True), OCI_MANIFEST),
        (lambda b: b["layers"][0].update(digest="sha512:x"), OCI_MANIFEST),
        (lambda b: b["layers"][0].update(annotations={ANNOTATION: 1}), OCI_MANIFEST),
        (lambda b: b.update(layers=b["layers"] * 65), OCI_MANIFEST),
        (lambda b: b.pop("mediaType"), "text/html"),
    ],
)  # fmt: skip
def test_objects_in_another_form(change: Callable[[Any], object], media_type: str) -> None:
    body = manifest_of(ecdsa().signed(NAME, D))
    change(body)
    with pytest.raises(InvalidInput, match="refused"):
        _parse(body, media_type)


@pytest.mark.parametrize("data", [b"", b"\xff", b"{", b"null", b"[]", b'{"layers":[],"layers":[]}'])
def test_objects_that_are_none(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="refused"):
        attached.parse(data, OCI_MANIFEST, "signatures")


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.update(mediaType="application/octet-stream"),
        lambda x: x.pop("annotations"),
        lambda x: x.update(annotations={ANNOTATION: ""}),
        lambda x: x.update(annotations={ANNOTATION: "*"}),
        lambda x: x.update(annotations={ANNOTATION: "ü"}),
        lambda x: x.update(annotations={ANNOTATION: base64.b64encode(b"x" * 4096).decode()}),
        lambda x: x.update(size=payload.MAX_PAYLOAD + 1),
    ],
)
def test_layers_that_are_no_signatures(change: Callable[[Any], object]) -> None:
    """What else is in the object is nobody's signature, and takes nothing from the others."""
    good = ecdsa().signed(NAME, D)
    body = manifest_of(ed().signed(NAME, D), good)
    change(body["layers"][0])
    assert [x.signature for x in _parse(body)] == [good.signature]


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        payload.parse(data)
    with pytest.raises(InvalidInput):
        attached.parse(data, OCI_MANIFEST, "x")


def test_tags() -> None:
    assert attached.tag_of(D) == "sha256-" + "a" * 64 + ".sig"


def test_signatures_of_one_key_count_once_for_each() -> None:
    signer = signing.ecdsa()
    found = [signer.signed(NAME, D), signer.signed(NAME, D)]
    done = examine(found, {D}, [signer.public])
    assert {each.key for each in done.verified} == {signer.public.fingerprint}
