"""SELinux labels: composed, checked, shared, left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rootless.engine import resolve_labels
from rootless.engine.resolve_labels import (
    LabelOptions,
    SelinuxHost,
    choose_categories,
    label_mounts,
    parse_options,
)
from rootless.errors import Exhausted, HostUnsupported, InvalidInput
from rootless.model.mounts import MountSpec, RootfsMount
from rootless.model.request import HostConfig
from rootless.model.spec import SelinuxSpec

OWN = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"
HOST = SelinuxHost(OWN, lambda label: "nowhere_t" not in label and ":unknown_r:" not in label)
LABELS = SelinuxSpec(
    "unconfined_u:unconfined_r:container_t:s0:c1,c2",
    "unconfined_u:object_r:container_file_t:s0:c1,c2",
)
PLAIN = HostConfig()
ROOTFS = RootfsMount("overlay", ("/l",), "/u", "/w")


def _labels(
    *options: str,
    host: HostConfig = PLAIN,
    selinux: SelinuxHost | None = HOST,
    enabled: bool = True,
    shared_with: SelinuxSpec | None = None,
) -> SelinuxSpec:
    return resolve_labels.resolve_labels(
        parse_options(options),
        host,
        selinux,
        enabled=enabled,
        categories="c1,c2",
        shared_with=shared_with,
    )


def test_a_container_gets_the_type_and_its_pair() -> None:
    assert _labels() == LABELS


def test_options_replace_parts() -> None:
    found = _labels("type:my_t", "level:s0:c5", "user:system_u", "role:system_r", enabled=False)
    assert found.process == "system_u:system_r:my_t:s0:c5"
    assert found.mount == "system_u:object_r:container_file_t:s0:c5"


def test_a_role_that_may_not_have_the_type_is_replaced() -> None:
    host = SelinuxHost(OWN, lambda label: ":unconfined_r:" not in label)
    assert _labels(selinux=host).process == "unconfined_u:system_r:container_t:s0:c1,c2"


@pytest.mark.parametrize(
    ("options", "host", "enabled"),
    [
        (("disable",), HostConfig(), True),
        ((), HostConfig(), False),
        ((), HostConfig(privileged=True), True),
        ((), HostConfig(pid_mode="host"), True),
        ((), HostConfig(ipc_mode="host"), True),
    ],
)
def test_no_labels(options: tuple[str, ...], host: HostConfig, *, enabled: bool) -> None:
    assert _labels(*options, host=host, enabled=enabled) == SelinuxSpec()


def test_who_shares_processes_shares_the_labels() -> None:
    other = replace(LABELS, process="x")
    assert _labels(shared_with=other) == other
    assert _labels("level:s0:c9", shared_with=other).process.endswith(":s0:c9")


def test_without_selinux_a_label_is_an_error_and_its_absence_none() -> None:
    assert _labels("disable", selinux=None) == SelinuxSpec()
    for option in ("type:container_t", "nested"):
        with pytest.raises(HostUnsupported, match="which this host does not run"):
            _labels(option, selinux=None)


def test_a_label_that_the_policy_does_not_know_is_an_error() -> None:
    with pytest.raises(HostUnsupported, match=r"does not know the label .*:nowhere_t:"):
        _labels("type:nowhere_t")
    with pytest.raises(HostUnsupported, match="has no levels"):
        _labels(selinux=SelinuxHost("user_u:user_r:user_t", lambda _: True))


@pytest.mark.parametrize("option", ["", "type", "type:", "kind:x", "type:a\0b", "nested:yes"])
def test_an_unknown_option_is_an_error(option: str) -> None:
    with pytest.raises(InvalidInput, match="invalid --security-opt"):
        parse_options([option])


def test_pairs_are_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve_labels, "_CATEGORIES", 3)
    monkeypatch.setattr(resolve_labels, "_PAIRS", 3)
    used = {"s0:c0,c1", "s0:c1,c2"}
    assert choose_categories(used) == "c0,c2"
    with pytest.raises(Exhausted, match="every pair"):
        choose_categories({*used, "s0:c0,c2"})


def test_mounts_are_labelled_as_they_are_shared() -> None:
    mounts = (
        MountSpec("bind", "/plain", "/a"),
        MountSpec("bind", "/z", "/a"),
        MountSpec("bind", "/Z", "/a"),
        MountSpec("volume", "/v", "/v"),
        MountSpec("volume", "/vz", "/v"),
        MountSpec("tmpfs", "/t"),
        MountSpec("image", "/i", "/l", layers=ROOTFS),
    )
    modes = {"/z": "z", "/Z": "Z", "/vz": "Z"}
    found = {mount.target: mount.label for mount in label_mounts(mounts, modes, LABELS)}
    common = "unconfined_u:object_r:container_file_t:s0"
    assert found == {
        "/plain": "", "/z": common, "/Z": LABELS.mount, "/v": common, "/vz": LABELS.mount,
        "/t": LABELS.mount, "/i": "",
    }  # fmt: skip
    layers = label_mounts(mounts, modes, LABELS)[-1].layers
    assert layers is not None
    assert layers.label == LABELS.mount
    assert label_mounts(mounts, modes, SelinuxSpec()) == mounts


def test_nested_shows_the_policy() -> None:
    (found,) = label_mounts((), {}, replace(LABELS, nested=True))
    assert (found.source, found.target) == ("/sys/fs/selinux", "/sys/fs/selinux")


def test_fuse_overlayfs_keeps_no_labels_and_that_is_said() -> None:
    fuse = replace(ROOTFS, driver="fuse-overlayfs")
    assert resolve_labels.label_rootfs(fuse, LABELS) == fuse
    assert resolve_labels.label_rootfs(ROOTFS, LABELS).label == LABELS.mount
    (warning,) = resolve_labels.warnings_of(LABELS, fuse, enabled=True)
    assert "keeps no labels" in warning
    assert not resolve_labels.warnings_of(LABELS, ROOTFS, enabled=True)
    assert resolve_labels.warnings_of(SelinuxSpec(), ROOTFS, enabled=True)


def test_only_options_that_need_one_ask_for_a_label() -> None:
    assert not LabelOptions({}, disable=True).asked
    assert LabelOptions({}, nested=True).asked
