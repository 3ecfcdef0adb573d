"""``privileges.denySetuidFiles``: no image that has programs with rights of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.policy.forced import HEAD, policy
from tests.support import tarmaker
from tests.support.api import IMAGE
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
RULE = "{privileges: {denySetuidFiles: true}}"
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
"""A version 2 attribute: CAP_NET_RAW, permitted and effective (capabilities(7))."""


@pytest.fixture
def made(engine: Engine) -> Iterator[list[str]]:
    """Names of images that the test made; they are removed, the last one first."""
    names: list[str] = []
    yield names
    for name in reversed(names):
        engine.run("rmi", name)


def layer(engine: Engine, made: list[str], base: str, script: str) -> str:
    """An image on top of ``base`` with what a shell script did."""
    name = f"setuid/test:{len(made)}"
    container = engine.ok("create", "--network", "none", base, "sh", "-ec", script)
    engine.ok("start", "--attach", container)
    engine.ok("commit", container, name)
    engine.ok("rm", container)
    made.append(name)
    return name


def found(engine: Engine, image: str) -> str:
    """The values of the finding, '' without one."""
    done = engine.run("create", "--network", "none", image, "true")
    if done.returncode == 0:
        engine.ok("rm", done.stdout.strip())
        return ""
    assert "privileges.setuid-files: Config.Image=" in done.stderr, done.stderr
    return done.stderr.partition("Config.Image=")[2].partition(": files of")[0]


def test_what_an_image_shows_of_them(engine: Engine, made: list[str]) -> None:
    one = layer(
        engine, made, IMAGE,
        "mkdir -p /d/e /g; touch /d/e/user /d/group /d/plain; ln /d/e/user /link; "
        "chmod 4755 /d/e/user; chmod 2755 /d/group; chmod 2775 /g; mkfifo /p; ln -s /d/e/user /s",
    )  # fmt: skip
    gone = layer(engine, made, one, "chmod a-s /d/e/user; rm /d/group")
    again = layer(engine, made, gone, "touch /d/group; chmod g+s /d/group")
    replaced = layer(engine, made, one, "rm -r /d /link; mkdir /d; touch /d/group")
    linked = layer(engine, made, one, "mv /d /elsewhere; ln -s /elsewhere /d; rm /link")
    with policy(engine, RULE):
        assert found(engine, IMAGE) == ""
        assert found(engine, one) == "/d/e/user, /d/group, /link"
        # A hard link in a lower layer is a file of its own above it.
        assert found(engine, gone) == "/link"
        assert found(engine, again) == "/d/group, /link"
        assert found(engine, replaced) == ""
        assert found(engine, linked) == "/elsewhere/e/user, /elsewhere/group"
    assert found(engine, one) == ""


def test_capabilities_of_files_and_odd_names(engine: Engine, made: list[str]) -> None:
    archive = tarmaker.archive(
        tarmaker.file(b"ping", b"x", mode=0o755, xattrs={b"security.capability": CAPABILITY}),
        tarmaker.file(b"\xff\n", b"x", mode=0o4755),
        tarmaker.file(b"plain", b"x", mode=0o755),
    )
    name = "setuid/imported:1"
    engine.ok("import", "-", name, input=archive)
    made.append(name)
    with policy(engine, RULE):
        values = found(engine, name)
        assert values.endswith(", /ping")
        assert values.startswith("/")
        assert values.isprintable()


def test_a_layer_with_too_many(engine: Engine, made: list[str]) -> None:
    """What is not known one by one cannot be shown to be hidden."""
    many = layer(
        engine, made, IMAGE,
        "mkdir /m; cd /m; seq 1100 | xargs touch; find . -type f | xargs chmod u+s",
    )  # fmt: skip
    hidden = layer(engine, made, many, "rm -r /m")
    with policy(engine, RULE):
        assert "more)" in found(engine, many)
        assert "(one of more than 1000 files" in found(engine, hidden)


def test_starts_exceptions_and_mounts(engine: Engine, made: list[str]) -> None:
    name = layer(engine, made, IMAGE, "touch /su /sudo; chmod u+s /su /sudo")
    container = engine.ok("create", "--network", "none", name, "true")
    mount = ("--mount", f"type=image,src={name},dst=/m")
    with policy(engine, RULE):
        refused = engine.run("start", container)
        assert "/su, /sudo" in refused.stderr
        assert "/su, /sudo" in engine.run("run", "--rm", *mount, IMAGE, "true").stderr
    excuse = "exceptions: [{rules: [privileges.setuid-files], allow: [ALLOWED], reason: r, " \
        "approvedBy: a, expires: '2999-01-01'}]\n"  # fmt: skip
    with policy(engine, RULE, head=HEAD + excuse.replace("ALLOWED", "/su")):
        assert found(engine, name) == "/sudo"
    with policy(engine, RULE, head=HEAD + excuse.replace("ALLOWED", "/su, /sudo")):
        assert found(engine, name) == ""
        engine.ok("start", "--attach", container)
    engine.ok("rm", container)


def test_layers_are_looked_at_once(fresh_engine: Engine) -> None:
    engine = fresh_engine
    name = layer(engine, [], IMAGE, "touch /su; chmod u+s /su")
    records = [json.loads(path.read_text()) for path in engine.data.glob("layers/*/meta.json")]
    assert [record["privileged"] for record in records] == [None, None]
    with policy(engine, RULE):
        assert found(engine, name) == "/su"
        paths = list(engine.data.glob("layers/*/meta.json"))
        records = [json.loads(path.read_text()) for path in paths]
        assert sorted(record["privileged"] for record in records) == [[], ["su"]]
        # What an older version recorded has nothing of it; half a record is none.
        engine.kill()
        for path, record in zip(paths, records, strict=True):
            del record["privileged"]
            path.chmod(0o600)
            path.write_text(json.dumps(record))
            (path.parent / "meta.json.new").write_text("{")
        engine.start()
        assert found(engine, name) == "/su"
        engine.kill()
        engine.start()
        assert found(engine, name) == "/su"
