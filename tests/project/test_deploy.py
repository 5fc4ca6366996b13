"""What deploys a server: read as its tools read it, and run as far as this machine can."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from vectable.cli.commands import _COMMANDS
from vectable.config import described_settings
from vectable.config.sources import NOT_SETTINGS
from vectable.server.metrics.families import PREFIX, Gauge, Histogram
from vectable.server.metrics.measure import Metrics
from vectable.server.metrics.sample import Sampler

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
VARIABLES = {f"VECTABLE_{name.upper()}" for name, _, _ in described_settings()} | NOT_SETTINGS


def known_series() -> dict[str, set[str]]:
    """Every series a server may tell, with its labels."""
    metrics = Metrics()
    Sampler(metrics)
    found: dict[str, set[str]] = {}
    for family in metrics.families:
        name, labels = PREFIX + family.name, {*family.labels, "instance"}
        if isinstance(family, Histogram):
            found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            found[name if isinstance(family, Gauge) else f"{name}_total"] = labels
    return found


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml", "vectable.service"])
def test_every_variable_named_is_one(file: str) -> None:
    named = set(re.findall(r"\bVECTABLE_[A-Z_]+", (DEPLOY / file).read_text("utf-8")))
    assert named - VARIABLES == set()
    assert named


def test_the_documentation_names_only_variables_and_flags_there_are() -> None:
    flags = {f"--{name.replace('_', '-')}" for name, _, _ in described_settings()}
    flags |= {"--json", "--db", "--role", "--table", "--expires", "--with-postgres", "--no-preload"}
    for page in ("configuration", "deployment", "monitoring", "troubleshooting", "tuning"):
        text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
        assert set(re.findall(r"\bVECTABLE_[A-Z_]+", text)) - VARIABLES <= {"VECTABLE_NAME"}, page
        told = {flag for line in re.findall(r"^vectable .*$", text, re.MULTILINE) for flag in line.split()}
        assert {flag for flag in told if flag.startswith("--")} <= flags, page


def test_the_dashboard_and_the_alerts_name_only_metrics_there_are() -> None:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += re.findall(
        r"^\| `([^`]*vectable_[^`]*)`", (ROOT / "docs" / "monitoring.md").read_text("utf-8"), re.M
    )
    series = known_series()
    used = set()
    for expression in asked:
        for name, selector in re.findall(r"(vectable_[a-z_]+)(?:\{([^}]*)\})?", expression):
            if name in series or expression != name:  # the reference itself lists histograms by their names
                assert name in series, expression
                assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= series[name], expression
                used.add(name)
        for group in re.findall(r"by \(([^)]*)\)", expression):
            labels = set(group.replace(" ", "").split(","))
            assert any(labels <= series[name] for name in re.findall(r"vectable_[a-z_]+", expression))
    assert len(used) > 15
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


def test_the_image_is_built_from_what_is_there() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, "it is not sent to the builder"
    extras = re.search(r"'\.\[([a-z,-]+)\]'", DOCKERFILE)
    assert extras
    declared = (ROOT / "pyproject.toml").read_text("utf-8")
    assert all(re.search(rf"^{extra} = \[", declared, re.MULTILINE) for extra in extras[1].split(","))
    assert re.search(r"^USER (?!0|root)", DOCKERFILE, re.MULTILINE)
    # It would win over the PORT that hosting platforms give.
    assert not re.search(r"\bVECTABLE_PORT=", DOCKERFILE)
    entry = json.loads(re.search(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)[1])  # type: ignore[index]
    command = json.loads(re.search(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[1])  # type: ignore[index]
    assert entry == ["vectable"] and command[0] in _COMMANDS


def test_images_stand_on_a_named_release() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(set(bases)) == 1 and re.fullmatch(r"python:3\.\d+-slim-[a-z]+", bases[0])
    others = [s["image"] for s in COMPOSE["services"].values() if "build" not in s]
    assert others and all(re.search(r":\d+\.\d+", image) for image in others)


def test_the_dockerfile_pleases_its_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_services_fit_each_other() -> None:
    services: dict[str, Any] = COMPOSE["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in COMPOSE["volumes"], name
        for needed in service.get("depends_on", {}):
            assert "healthcheck" in services[needed]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "published to this machine only, since it is insecure"
    for name in ("vectable", "vectable-postgres"):
        service = services[name]
        assert (ROOT / "deploy" / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        assert service["read_only"] is True and "/tmp" in service["tmpfs"]
        grace = int(service["environment"]["VECTABLE_SHUTDOWN_GRACE_MS"]) / 1_000
        assert grace < int(service["stop_grace_period"].removesuffix("s"))
    address = services["vectable-postgres"]["environment"]["VECTABLE_DB"]
    postgres = services["postgres"]["environment"]
    assert address == f"postgresql://{postgres['POSTGRES_USER']}@postgres/{postgres['POSTGRES_DB']}"


def test_the_unit_is_whole() -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((DEPLOY / "vectable.service").read_text("utf-8"))
    assert shlex.split(unit["Service"]["ExecStart"])[1] in _COMMANDS
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    assert int(unit["Service"]["LimitNOFILE"]) > 10_000, "each client holds one"
    if shutil.which("systemd-analyze"):
        command = ["systemd-analyze", "verify", "--man=no", str(DEPLOY / "vectable.service")]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60).stderr
        lines = [line for line in told.splitlines() if "vectable.service" in line]
        assert [line for line in lines if "is not executable" not in line] == []
