"""The files of ``deploy/`` are sound, and agree with each other and with the code that they run."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
import yaml
from django.core.management import get_commands
from django.urls import resolve

from fetcher.conf import Settings
from fetcher.engine.config import FetchConfig
from fetcher.engine.transport import ConnectionOptions
from fetcher.management.commands.serve import STOP_WITHIN
from fetcher.slices import LOOK, RESERVE, SLICE
from fetcher.store import leases
from tests.support.commands import database_url
from tests.support.processes import ROOT

DEPLOY = ROOT / "deploy"
UNITS = ("trawl-web.service", "trawl-cluster.service")
GRACE = 3 * (SLICE + FetchConfig().deadline) + RESERVE
"""Seconds: the slice that is worked on, and those of up to two messages that the cluster has taken already."""


def unit(name: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / name)
    return parser["Service"]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def example() -> dict[str, str]:
    lines = re.findall(r"^#?([A-Z][A-Z_]+)=(.*)$", (DEPLOY / "env.example").read_text(), re.MULTILINE)
    return dict(lines)


def page() -> str:
    return (DEPLOY / "README.md").read_text()


class TestUnits:
    @pytest.mark.parametrize("name", UNITS)
    def test_signal_the_main_process_and_come_back(self, name):
        found = unit(name)
        assert (found["KillMode"], found["Restart"]) == ("mixed", "always")
        assert "KillSignal" not in found, "SIGTERM, which is the default"

    def test_the_cluster_has_time_to_end_its_slices(self):
        assert int(unit("trawl-cluster.service")["TimeoutStopSec"]) >= GRACE

    def test_the_web_process_has_time_to_end_its_requests(self):
        assert int(unit("trawl-web.service")["TimeoutStopSec"]) > STOP_WITHIN

    @pytest.mark.parametrize("name", UNITS)
    def test_call_commands_that_exist(self, name):
        python, script, command, *_ = shlex.split(unit(name)["ExecStart"])
        assert python == f"{unit(name)['WorkingDirectory']}/.venv/bin/python"
        assert script == "manage.py"
        assert command in get_commands()

    @pytest.mark.parametrize("name", UNITS)
    def test_let_sqlite_write_beside_its_file_and_see_the_machine(self, name):
        found = unit(name)
        assert found["ReadWritePaths"] == found["WorkingDirectory"]
        assert "ProcSubset" not in found
        assert "AF_NETLINK" in found["RestrictAddressFamilies"], "name look-up asks for the machine's addresses"

    @pytest.mark.parametrize("name", UNITS)
    def test_begin_and_end_with_the_target(self, name):
        text = (DEPLOY / "systemd" / name).read_text()
        assert "\nWantedBy=trawl.target\n" in text
        assert "\nPartOf=trawl.target\n" in text
        target = (DEPLOY / "systemd" / "trawl.target").read_text()
        assert "Wants=" not in target, "a machine may be enabled for one of them"

    def test_are_understood_by_systemd(self, tmp_path):
        if not shutil.which("systemd-analyze"):
            pytest.skip("systemd-analyze is not installed")
        for name in (*UNITS, "trawl.target"):
            text = (DEPLOY / "systemd" / name).read_text()
            text = text.replace("/srv/trawl/.venv/bin/python", sys.executable).replace("/srv/trawl", str(ROOT))
            (tmp_path / name).write_text(re.sub(r"^(User|Group)=.*", r"\1=root", text, flags=re.MULTILINE))
        names = [str(tmp_path / name) for name in (*UNITS, "trawl.target")]
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, check=False
        )
        complaints = [line for line in done.stderr.splitlines() if "trawl" in line]
        assert (done.returncode, complaints) == (0, [])


class TestCompose:
    def test_has_the_services(self):
        assert set(compose()["services"]) == {"migrate", "web", "cluster", "postgres", "redis"}

    @pytest.mark.parametrize("service", ["migrate", "web", "cluster"])
    def test_calls_commands_that_exist_without_a_shell(self, service):
        found = compose()["services"][service]
        python, script, command, *_ = found["command"]
        assert (python, script, found["init"]) == ("python", "manage.py", True)
        assert command in get_commands()

    def test_gives_the_cluster_the_time_that_systemd_gives_it(self):
        grace = compose()["services"]["cluster"]["stop_grace_period"]
        assert grace == f"{unit('trawl-cluster.service')['TimeoutStopSec']}s"

    def test_begins_with_a_migrated_database(self):
        services = compose()["services"]
        for name in ("web", "cluster"):
            assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert services["migrate"]["restart"] == "no"

    def test_depends_on_what_can_tell_that_it_is_healthy(self):
        services = compose()["services"]
        for service in services.values():
            for name, wanted in service.get("depends_on", {}).items():
                assert wanted["condition"] != "service_healthy" or "healthcheck" in services[name]

    def test_declares_the_volumes_that_it_mounts(self):
        found = compose()
        mounted = {
            volume.split(":")[0] for service in found["services"].values() for volume in service.get("volumes", ())
        }
        assert mounted == set(found["volumes"])

    @pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
    def test_points_to_its_own_servers(self, variable):
        services = compose()["services"]
        url = re.sub(r"\$\{[^}]*\}", "secret", services["web"]["environment"][variable])
        host = re.search(r"//(?:\w+:\w+@)?(\w+):(\d+)/", url)
        assert host
        assert host[1] in services
        assert services["cluster"]["environment"] == services["web"]["environment"]

    @pytest.mark.django_db(transaction=True)
    def test_health_is_asked_of_an_address_that_answers(self, serve_project):
        kind, python, *arguments = compose()["services"]["web"]["healthcheck"]["test"]
        url = re.search(r"http://[^']+", arguments[-1])
        assert (kind, python) == ("CMD", "python")
        assert url
        assert resolve("/" + url[0].split("/", 3)[3]).url_name == "readyz"
        assert url[0].split("/")[2].split(":")[0] in example()["ALLOWED_HOSTS"].split(",")
        server = serve_project(database_url())
        code = arguments[-1].replace("http://127.0.0.1:8000", server)
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


class TestDockerfile:
    def test_installs_by_hash_and_copies_what_there_is(self):
        text = (DEPLOY / "Dockerfile").read_text()
        assert "--require-hashes" in text
        ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        for source in re.findall(r"^COPY (\S+) ", text, re.MULTILINE):
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored

    def test_starts_a_command_without_a_shell(self):
        command = re.search(r"^CMD (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
        assert command
        assert json.loads(command[1]) == compose()["services"]["web"]["command"]


class TestEnvironment:
    def test_names_what_the_settings_read(self):
        texts = [(ROOT / "settings" / name).read_text() for name in ("base.py", "production.py")]
        known = set(re.findall(r"""(?:environ(?:\.get\(|\[)|whole_number\()"([A-Z_]+)""", "".join(texts)))
        declared = (FetchConfig, Settings, ConnectionOptions)
        known |= {f"FETCHER_{field.name.upper()}" for cls in declared for field in fields(cls)}
        assert set(example()) - known == {"DJANGO_SETTINGS_MODULE"}

    def test_is_all_that_a_server_needs_with_a_secret(self):
        env = {**example(), "SECRET_KEY": "k" * 60}
        done = subprocess.run(
            [sys.executable, "manage.py", "check"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def test_is_explained_on_the_page(self):
        assert [name for name in example() if f"`{name}`" not in page() and name != "DJANGO_SETTINGS_MODULE"] == []


class TestPage:
    def test_names_commands_and_files_that_exist(self):
        commands = set(re.findall(r"(?:manage\.py|^\$ trawl) (\w+)", page(), re.MULTILINE))
        assert commands <= set(get_commands())
        links = re.findall(r"\]\(([^)]*)\)", page())
        paths = {path for path in re.findall(r"\bdeploy/[\w./*-]*[\w*]", page()) if path != "deploy/.env"}
        assert [link for link in links if not (DEPLOY / link).exists()] == []
        assert [path for path in paths if not list(ROOT.glob(path))] == []

    @pytest.mark.parametrize(
        "figure",
        [
            f"its leases last {leases.LEASE.total_seconds():.0f} s",
            f"(every {leases.RENEWAL:.0f} s)",
            f"seen them unchanged for {leases.OBSERVED:.0f} s",
            f"stops sending {leases.LEASE.total_seconds() * leases.SILENCE:.0f} s after its last renewal",
            f"within about {LOOK + 1:.0f} s",
            f"the requests in flight, {FetchConfig().deadline:.0f} s at most",
            f"a worker waits for up to {RESERVE / 2:.0f} s",
            f"After {GRACE:.0f} s systemd kills",
            f"`FETCHER_RUN_WORKERS` ({Settings().run_workers})",
        ],
    )
    def test_states_the_figures_of_the_code(self, figure):
        assert figure in " ".join(page().split())
