"""The files an operator starts from: compose, Prometheus' configuration, locks, Makefile."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.broker.jars import KAFKA_VERSION
from app.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
FILES = (["compose.yaml"], ["compose.yaml", "compose.three-brokers.yaml"])


def _need(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install {package})")
    return found


def _run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def _composed(files: list[str]) -> dict[str, Any]:
    program = _need("docker-compose", "docker-compose")
    chosen = [part for f in files for part in ("-f", str(COMPOSE / f))]
    composed: dict[str, Any] = yaml.safe_load(_run(program, *chosen, "config"))
    return composed


@pytest.mark.parametrize("files", FILES, ids=["one broker", "three brokers"])
def test_compose_files_validate(files: list[str]) -> None:
    services = _composed(files)["services"]
    assert {
        "kafka",
        "meter",
        "decide",
        "deliver",
        "project",
        "orchestrate",
        "archive",
        "gateway",
        "prometheus",
        "grafana",
        "postgres",
    } <= services.keys()
    for name, service in services.items():
        assert "build" in service or re.search(r":v?\d", service["image"]), f"{name}: an image without a version"
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), f"{name} is open to the network"


def test_three_brokers_replicate_and_survive_one() -> None:
    services = _composed(FILES[1])["services"]
    brokers = [s for s in services.values() if str(s.get("image", "")).startswith("apache/kafka")]
    assert len(brokers) == 3
    for broker in brokers:
        environment = broker["environment"]
        assert environment["KAFKA_DEFAULT_REPLICATION_FACTOR"] == "3"
        assert environment["KAFKA_MIN_INSYNC_REPLICAS"] == "2"
        assert environment["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == "2"
    assert len({b["environment"]["KAFKA_NODE_ID"] for b in brokers}) == 3
    for role in ("prepare", "meter", "decide", "deliver", "project", "orchestrate", "archive", "gateway"):
        assert services[role]["environment"]["UPTAKE_KAFKA"].count(",") == 2


def test_compose_speaks_of_settings_that_exist_and_of_the_same_kafka() -> None:
    known = {f"UPTAKE_{name.upper()}" for name in Settings.model_fields}
    text = "".join(
        (COMPOSE / name).read_text() for name in ("compose.yaml", "compose.three-brokers.yaml", "Dockerfile")
    )
    assert set(re.findall(r"UPTAKE_[A-Z_]+", text)) <= known
    assert set(re.findall(r"apache/kafka:([0-9.]+)", text)) == {KAFKA_VERSION}


def test_the_image_holds_every_package_and_runs_as_nobody_special() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    dockerfile = (COMPOSE / "Dockerfile").read_text()
    for package in packages:
        assert f"COPY {package} {package}\n" in dockerfile
    assert dockerfile.count("FROM ") == 2
    assert "USER 10001" in dockerfile.rsplit("FROM ", 1)[1]
    assert "HEALTHCHECK" in dockerfile
    for source in re.findall(r"^COPY ((?:(?!--)\S+ )+)\S+$", dockerfile, re.M):
        for name in source.split():
            assert (ROOT / name).exists(), f"{name} is copied and does not exist"


def test_alert_rules_hold_their_own_tests() -> None:
    promtool = _need("promtool", "prometheus")
    rules = COMPOSE / "prometheus" / "rules"
    _run(promtool, "check", "rules", "uptake.yaml", cwd=rules)
    assert "SUCCESS" in _run(promtool, "test", "rules", "uptake.test.yaml", cwd=rules)
    _run(promtool, "check", "config", str(COMPOSE / "prometheus" / "prometheus.yaml"))


@pytest.mark.parametrize(("lock", "extra"), [("requirements.lock", None), ("requirements-dev.lock", "dev")])
def test_locks_hold_what_the_project_asks_for_by_hash_and_name_no_host(lock: str, extra: str | None) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash)", text, re.M)
    pinned = {m[0]: m[1] for m in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", text, re.M)}
    for requirement in asked:
        name = re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0].lower().replace("_", "-")
        assert name in pinned, f"{requirement} is not in {lock}: run make lock"
        if exact := re.search(r"==([0-9.]+)", requirement.split(";")[0]):
            assert pinned[name] == exact[1]
    assert text.count("--hash=sha256:") >= len(pinned)


def test_locks_agree() -> None:
    def read(name: str) -> set[tuple[str, str]]:
        return set(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.M))

    runtime, dev = dict(read("requirements.lock")), dict(read("requirements-dev.lock"))
    shared = runtime.keys() & dev.keys()
    assert len(shared) > 50
    assert {n: runtime[n] for n in shared} == {n: dev[n] for n in shared}


def test_help_explains_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.M)
    assert targets
    said = _run(_need("make", "make"), "help")
    for target in targets[1].split():
        assert f"make {target} " in said


def test_ci_runs_make_test() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    for script in (ROOT / ".ci").iterdir():
        assert script.stat().st_mode & 0o111, f"{script.name} is not executable"
