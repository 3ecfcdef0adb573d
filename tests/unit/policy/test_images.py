"""Rules on images: where they come from, whose they are, how old and how large."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rootless.check import diff, show
from rootless.check import merge as merging
from rootless.check.main import main as check
from rootless.errors import Denied
from rootless.model.image import ImageFacts, Voucher
from rootless.policy.admission import admit, admit_pull, preview
from rootless.policy.documents import InvalidPolicy
from rootless.policy.load import PolicyFiles, PolicyStore, load_policy
from rootless.policy.policy import Policy
from rootless.policy.writer import as_yaml
from tests.support.signing import Signer, ecdsa, ed
from tests.unit.policy.cases import FACTS, IDENTITY, PATHS, SPEC, policy, spec

DAY = 86_400 * 10**9
NAME = "registry.example/team/app"
D = "sha256:" + "a" * 64
A, B, C = ecdsa("a"), ed("b"), ecdsa("c")


def facts(*signers: Signer, name: str = f"{NAME}:1.0", signed_as: str = NAME) -> ImageFacts:
    """An image made yesterday, 10 MiB, signed by these."""
    vouchers = tuple(Voucher(s.public.fingerprint, D, signed_as) for s in signers)
    return ImageFacts(name, time.time_ns() - DAY, 10 << 20, vouchers)


def denied(image: ImageFacts, by: Policy) -> set[str]:
    decision = preview(IDENTITY, SPEC, by, FACTS, PATHS, image_facts=(image,))
    return {finding.rule for finding in decision.findings if finding.action == "deny"}


def trusting(
    *signers: Signer, more: str = "", repositories: str = "registry.example/team/*"
) -> Any:
    keys = [signer.public.pem for signer in signers]
    item: dict[str, Any] = {"repositories": [repositories], "keys": keys}
    item |= yaml.safe_load(more) if more else {}
    return policy(f"  images: {yaml.safe_dump({'trust': [item]}, default_flow_style=True)}")


# -- whose ------------------------------------------------------------------------------


def test_a_signature_is_required() -> None:
    by = trusting(A)
    assert denied(facts(A), by) == set()
    assert denied(facts(A, B), by) == set()
    for image in (facts(), facts(B), facts(B, C), replace(facts(A), vouchers=None)):
        assert denied(image, by) == {"images.trust"}


def test_only_for_the_repositories_it_is_about() -> None:
    by = trusting(A)
    assert denied(facts(name="docker.io/library/busybox:latest"), by) == set()
    assert denied(facts(name="registry.example/teamster/app:1"), by) == set()
    assert denied(facts(name=f"{NAME}@{D}"), by) == {"images.trust"}
    assert denied(facts(A, name=f"{NAME}@{D}"), by) == set()
    every = trusting(A, repositories="*")
    for name in ("docker.io/library/busybox:latest", "sha256:" + "0" * 64):
        assert denied(facts(A, name=name), every) == {"images.trust"}


def test_a_signature_under_another_name() -> None:
    """One that was copied along with an image proves nothing of the copy's name."""
    for signed_as in ("registry.example/team/other", "", NAME + "x"):
        assert denied(facts(A, signed_as=signed_as), trusting(A)) == {"images.trust"}
    copies = trusting(A, more="signedAs: [quay.io/team/*]")
    assert denied(facts(A, signed_as="quay.io/team/app"), copies) == set()
    assert denied(facts(A), copies) == {"images.trust"}
    nameless = facts(A, name="sha256:" + "0" * 64, signed_as="")
    assert denied(nameless, trusting(A, repositories="*")) == {"images.trust"}


def test_more_than_one_signature() -> None:
    by = trusting(A, B, C, more="minimum: 2")
    assert denied(facts(A, C), by) == set()
    assert denied(facts(A, A, A), by) == {"images.trust"}
    assert denied(facts(B), by) == {"images.trust"}


def test_requirements_add_up() -> None:
    pems = [yaml.safe_dump(s.public.pem, default_style='"').strip() for s in (A, B)]
    items = ", ".join(f"{{repositories: ['*'], keys: [{pem}]}}" for pem in pems)
    both = policy(f"  images: {{trust: [{items}]}}\n")
    assert denied(facts(A, B), both) == set()
    for image in (facts(A), facts(B), facts()):
        assert denied(image, both) == {"images.trust"}


def test_mounted_images_are_judged_as_well() -> None:
    with pytest.raises(Denied, match=r"images\.trust: Config\.Image=registry\.example/team/b:1"):
        admit(
            IDENTITY, SPEC, trusting(A), FACTS, PATHS,
            image_facts=(facts(A), facts(name="registry.example/team/b:1")),
        )  # fmt: skip


def test_the_denial_says_what_to_do() -> None:
    with pytest.raises(Denied) as caught:
        admit_pull(IDENTITY, facts(B), trusting(A))
    assert A.public.fingerprint in caught.value.message
    assert "rootless image sign" in caught.value.message
    [finding] = caught.value.context["findings"]  # type: ignore[misc]  # context holds any value
    assert str(finding["source"]).startswith("test.yaml:")
    with pytest.raises(Denied, match=r"under another name: quay\.io/x"):
        admit_pull(IDENTITY, facts(A, signed_as="quay.io/x"), trusting(A))


def test_a_requirement_can_warn_and_be_excused() -> None:
    by = trusting(A)
    warning = replace(by, mode="warn")
    assert denied(facts(), warning) == set()
    [finding] = preview(IDENTITY, SPEC, warning, FACTS, PATHS, image_facts=(facts(),)).findings
    assert (finding.rule, finding.action) == ("images.trust", "warn")


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        ("{repositories: [nginx], keys: [K]}", "a repository in full"),
        ("{repositories: [library/nginx], keys: [K]}", "a repository in full"),
        ("{repositories: [docker.io/nginx], keys: [K]}", "a repository in full"),
        ("{repositories: ['registry.example/a:1'], keys: [K]}", "a repository in full"),
        ("{repositories: [registry.example/], keys: [K]}", "a repository in full"),
        ("{repositories: ['registry.example/Team'], keys: [K]}", "a repository in full"),
        ("{repositories: [], keys: [K]}", "minlength"),
        ("{repositories: ['*'], keys: []}", "minlength"),
        ("{repositories: ['*']}", "'keys' is missing"),
        ("{keys: [K]}", "'repositories' is missing"),
        ("{repositories: ['*'], keys: [nowhere.pub]}", "nowhere.pub: No such file"),
        ("{repositories: ['*'], keys: [rsa.pub]}", "a key of the kind RSA"),
        ("{repositories: ['*'], keys: ['-----BEGIN X-----']}", "not one PEM block"),
        ("{repositories: ['*'], keys: [K], minimum: 0}", "minimum"),
        ("{repositories: ['*'], keys: [K, K], minimum: 2}", "1 different keys"),
        ("{repositories: ['*'], keys: [K], signedAs: []}", "minlength"),
        ("{repositories: ['*'], keys: [K], signedas: ['*']}", "did you mean 'signedAs'"),
        ("7", "must be of type mapping"),
    ],
)
def test_what_is_wrong_with_a_requirement(tmp_path: Path, item: str, complaint: str) -> None:
    (tmp_path / "K.pub").write_text(A.public.pem)
    (tmp_path / "rsa.pub").write_text(_rsa())
    text = (
        "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: t}\nextends: none\n"
        f"spec:\n  images:\n    trust:\n      - {item.replace('K', 'K.pub')}\n"
    )
    with pytest.raises(InvalidPolicy) as caught:
        load_policy(text, str(tmp_path / "p.yaml"), home="/h")
    complaints = caught.value.context["complaints"]
    assert isinstance(complaints, list)
    assert any(complaint in line for line in complaints), complaints
    assert all(line.startswith(f"{tmp_path}/p.yaml:8:") for line in complaints)


def _rsa() -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = rsa.generate_private_key(65537, 2048).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    "pattern",
    ["*", "docker.io*", "docker.io/*", "docker.io/library/nginx", "localhost/x", "127.0.0.1:5000/*",
     "registry.example:5000/team/app", "[::1]:5000/x", "reg*", "docker.io/nginx*"],
)  # fmt: skip
def test_patterns_that_mean_something(pattern: str) -> None:
    assert trusting(A, repositories=pattern).names_of("images.trust")


def test_key_files_are_beside_their_policy_and_count_when_they_change(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    key = tmp_path / "keys/team.pub"
    key.write_text(A.public.pem)
    file = tmp_path / "policy.yaml"
    file.write_text(
        "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: t}\nextends: none\n"
        "spec: {images: {trust: [{repositories: ['*'], keys: [keys/team.pub]}]}}\n"
    )
    store = PolicyStore(PolicyFiles(file, admin=tmp_path / "none"), home="/h")
    assert denied(facts(A), store.current()) == set()
    before = store.current().digest
    key.write_text(B.public.pem)
    assert denied(facts(A), store.current()) == {"images.trust"}
    assert denied(facts(B), store.current()) == set()
    assert store.current().digest != before
    key.unlink()
    for _ in range(2):
        with pytest.raises(InvalidPolicy, match=r"team\.pub: No such file"):
            store.current()
    key.write_text(B.public.pem)
    assert denied(facts(B), store.current()) == set()


def test_merged_policies_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = trusting(A, more="minimum: 1"), trusting(B, more="signedAs: ['quay.io/*']")
    assert load_policy(as_yaml(one), "x.yaml", home="/h").constraints == one.constraints
    (tmp_path / "one.yaml").write_text(as_yaml(one))
    (tmp_path / "two.yaml").write_text(as_yaml(two))
    files = [str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")]
    assert merging.main(["--kind", "policy", *files]) == 0
    merged = load_policy(capsys.readouterr().out, "m.yaml", home="/h")
    assert merged.names_of("images.trust") == one.names_of("images.trust") | two.names_of(
        "images.trust"
    )
    assert merging.main(["--kind", "policy", "--union", *files]) == 0
    union = load_policy(capsys.readouterr().out, "m.yaml", home="/h")
    for image in (facts(A), facts(B, signed_as="quay.io/x")):
        assert denied(image, union) == set()
    assert denied(facts(C), union) == {"images.trust"}
    assert show.main(files) == 0
    shown = capsys.readouterr().out
    assert f"1-of:{A.public.fingerprint}" in shown
    assert "BEGIN PUBLIC KEY" not in shown
    diff.main(files)
    assert f"+ registry.example/team/*=1-of:{B.public.fingerprint}" in capsys.readouterr().out
    assert check(files) == 0


# -- how old, how large, from where ---------------------------------------------------------


def test_age() -> None:
    by = policy("  images: {maximumAge: 30d}\n")
    now = time.time_ns()
    for created, bad in (
        (now, False), (now - 29 * DAY, False), (now - 31 * DAY, True), (now + 7 * DAY, True),
        (0, True), (-5, True), (None, True),
    ):  # fmt: skip
        image = replace(facts(), created_ns=created)
        assert (denied(image, by) == {"images.age"}) is bad, created
        if bad:
            with pytest.raises(Denied, match=r"images\.age"):
                admit_pull(IDENTITY, image, by)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90d", 90 * 86400), ("2w", 14 * 86400), ("36h", 36 * 3600)]
)
def test_ages(text: str, seconds: int) -> None:
    found = policy(f"  images: {{maximumAge: {text}}}\n")
    assert found.number("images.maximumAge") == seconds
    again = load_policy(as_yaml(found), "x.yaml", home="/h")
    assert again.number("images.maximumAge") == seconds


@pytest.mark.parametrize("text", ["0", "0d", "-1d", "1y", "d", "x", "true", "99999999999d"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(InvalidPolicy):
        policy(f"  images: {{maximumAge: {text}}}\n")


def test_size() -> None:
    by = policy("  images: {maximumSize: 10m}\n")
    assert denied(facts(), by) == set()
    for size in (None, (10 << 20) + 1):
        assert denied(replace(facts(), size=size), by) == {"images.size"}


def test_registries() -> None:
    by = policy("  images: {allowRegistries: [registry.example, 'localhost:5000']}\n")
    assert denied(facts(), by) == set()
    assert denied(facts(name="localhost:5000/x:1"), by) == set()
    for name in ("registry.example.evil/x:1", "docker.io/library/busybox:latest", "sha256:" + "0"):
        assert denied(facts(name=name), by) == {"images.allowed"}
    for bad in ("nginx", "docker.io/library", "https://x.example"):
        with pytest.raises(InvalidPolicy, match="registry's host"):
            policy(f"  images: {{allowRegistries: [{bad!r}]}}\n")


@pytest.mark.parametrize("area", ["{maximumAge: 1h}", "{maximumSize: 1}", "{trust: []}"])
def test_a_file_cannot_show_them(
    area: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A compose file names images; how old they are is known where they are pulled."""
    file = tmp_path / "p.yaml"
    file.write_text(
        "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: t}\nextends: none\n"
        f"spec: {{images: {area}}}\n"
    )
    compose = tmp_path / "compose.yaml"
    compose.write_text("services: {web: {image: nginx}}\n")
    assert check([str(file), str(compose)]) == 0
    capsys.readouterr()


def test_selectors_see_an_image_by_its_full_name() -> None:
    """Whatever the user calls it: ``busybox`` is no way around a policy for docker.io."""
    only = "selector: {images: [docker.io/library/*]}\n"
    strict = policy("  user: {requireNonRoot: true}\n", more=only)
    for reference, name in (
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox", ""),
        ("f" * 12, "docker.io/library/busybox:latest"),
    ):
        case = spec(image=replace(SPEC.image, reference=reference, name=name))
        decision = preview(IDENTITY, case, strict, FACTS, PATHS)
        assert {finding.rule for finding in decision.findings} == {"user.root"}, reference


def test_rules_on_images_are_for_those_whom_the_selector_means() -> None:
    """By name or label of the container, which a pull does not know yet."""
    only = "selector: {names: [quiet*]}\n"
    by = policy("  images: {deny: ['registry.example/*']}\n", more=only)
    assert denied(facts(), by) == {"images.allowed"}
    other = preview(IDENTITY, spec(name="loud"), by, FACTS, PATHS, image_facts=(facts(),))
    assert other.allowed


def test_setuid_files() -> None:
    by = policy("  privileges: {denySetuidFiles: true}\n")
    assert denied(replace(facts(), setuid=()), by) == set()
    for files in (("/bin/su",), None):  # what nobody looked at is not taken for harmless
        assert denied(replace(facts(), setuid=files), by) == {"privileges.setuid-files"}
    assert denied(replace(facts(), setuid=("/bin/su",)), policy()) == set()
    many = replace(facts(), setuid=tuple(f"/{n}" for n in range(150)))
    decision = preview(IDENTITY, SPEC, by, FACTS, PATHS, image_facts=(many,))
    assert decision.findings[-1].value == "(50 more)"
