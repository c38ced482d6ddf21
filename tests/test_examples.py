"""Every example of the README and of each command's --help is run as it stands, so that none can rot.

Only hosts and the numbers of runs and results are replaced: ``example.org`` and the like by the scripted origin, port
8000 by a server of the test's.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
from django.core.management.base import BaseCommand
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from fetcher.demo.origin import Origin, ThreadedOrigin
from fetcher.management import commands
from jobs.management import commands as job_commands
from tests.support.commands import call
from tests.support.databases import using_database
from tests.support.granian import running_project
from tests.support.processes import ROOT, unavailable

FILES = {
    "urls.txt": "https://example.org/\nhttps://example.com/feed.xml\n",
    "items.csv": "url,label\nhttps://example.org/items/1,first\n",
    "feeds.opml": '<opml><body><outline title="A" xmlUrl="https://example.com/feed.xml"/></body></opml>',
    "items.jsonl": '"https://example.org/items/3"\n',
    "sitemap.xml": "<urlset><url><loc>https://example.org/</loc></url></urlset>",
    "query.json": '{"q": 1}',
}
"""What the examples of --help find in the folder."""
ELSEWHERE = (
    r"make \w+",  # the gate runs these
    r"\. \.venv/bin/activate",
    r"(?:python )?manage\.py cluster status",  # exits 1 where no cluster works; tests/jobs/management/test_cluster.py
    r"(?:python )?manage\.py qcluster",  # tests/cluster/
    r"(?:python )?manage\.py serve",  # it runs already; tests/fetcher/management/commands/test_serve.py
)
"""Examples that are run elsewhere."""
TOOLS = ("curl", "jq")

_URL = re.compile(r"https?://(?:\w+\.)?example\.(?:org|com|net)(?:/[\w./?=-]*)?")


def readme_examples() -> list[str]:
    """Return the commands of the README, in order, each with the lines of its here-document."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        found += [part.strip("\n") for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part.strip()]
    return [example for example in found if not re.match("|".join(ELSEWHERE), example)]


def help_examples() -> list[tuple[str, str]]:
    """Return the command and each example of the --help of all our commands."""
    found = []
    for package in (commands, job_commands):
        for module in iter_modules(package.__path__):
            command = import_module(f"{package.__name__}.{module.name}").Command()
            epilog = command.create_parser("manage.py", module.name).epilog or ""
            if match := re.search(r"^examples:\n((?:  .*\n?)+)", epilog, re.MULTILINE):
                lines = match[1].replace("\\\n", " ").splitlines()
                found += [(module.name, line.strip()) for line in lines]
    return [(name, example) for name, example in found if not re.match("|".join(ELSEWHERE), example)]


def only_in_help() -> list[tuple[str, str]]:
    """Return the examples of --help that the README does not have as well."""
    known = {example.removeprefix("python ") for example in readme_examples()}
    return [(name, example) for name, example in help_examples() if example not in known]


@dataclass
class Reader:
    """Somebody who types the examples, one after the other, in one folder."""

    directory: Path
    origin: Origin
    server: str
    urls: dict[str, str] = field(default_factory=dict)
    interrupted: str = ""

    def typed(self, text: str) -> str:
        """Return an example with its hosts replaced; the same URL becomes the same everywhere."""
        text = _URL.sub(lambda match: self._url(match[0]), text).replace("http://127.0.0.1:8000", self.server)
        # The first run, and its first result.
        text = re.sub(r"(?<!\w)(export_run|show|--run|--retry-failed) 12\b", r"\1 1", text)
        text = re.sub(r"\bresult 52224\b", "result 1024", text)
        text = re.sub(r"(--resume|runs cancel) 12\b", rf"\1 {self.interrupted}", text)
        return re.sub(r"(?<!python )\bmanage\.py ", "python manage.py ", text)

    def interrupt(self) -> None:
        """Begin a run in this process, on the reader's database, and stop it before it has a result."""
        url = self.origin.url("/slow/1?ms=1000")
        with using_database(database_url(self.directory)), override_settings(FETCHER_GRACE=0.1):
            threading.Thread(target=self._stop_what_asks, args=[len(self.origin.log)]).start()
            stopped = call("fetch_urls", url, "--allow-network", "127.0.0.0/8", "--progress", "none")
        assert stopped.returncode == 130, stopped.stderr
        self.interrupted = stopped.stderr.split()[-1]

    def _stop_what_asks(self, seen: int) -> None:
        end = time.monotonic() + 20
        while len(self.origin.log) == seen and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    def _url(self, url: str) -> str:
        return self.urls.setdefault(url, self.origin.url(f"/ok/{len(self.urls)}"))

    def run(self, example: str) -> None:
        """Run an example in a shell; fails with all that it said."""
        if "--resume" in example or "runs cancel" in example:
            self.interrupt()
        done = subprocess.run(
            ["bash", "-c", f"set -eo pipefail\n{self.typed(example)}"],
            cwd=self.directory,
            env=environment(self.directory),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{example}\nended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


def database_url(directory: Path) -> str:
    return f"sqlite:///{directory}/db.sqlite3"


def environment(directory: Path) -> dict[str, str]:
    """Return the environment of a shell in which the README's set-up was done."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DJANGO_SETTINGS_MODULE": "settings.dev",
        "DATABASE_URL": database_url(directory),
        "MEDIA_ROOT": str(directory / "media"),
        "FETCHER_ALLOWED_NETWORKS": "127.0.0.0/8",
        "API_TOKEN": "Bearer secret",
        "API_LOGIN": "reader:secret",
    }


@contextlib.contextmanager
def running_cluster(directory: Path) -> Iterator[None]:
    """Have a cluster fetch what is handed over, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "qcluster"],
        cwd=directory,
        env={**environment(directory), "CLUSTER_WORKERS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Iterator[Reader]:
    directory = tmp_path_factory.mktemp("reader")
    (directory / "manage.py").symlink_to(ROOT / "manage.py")
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=ROOT, env=environment(directory), check=True
    )
    with (
        ThreadedOrigin(listeners=3) as origin,
        running_project(directory, database_url(directory)) as server,
        running_cluster(directory),
        django_db_blocker.unblock(),  # for interrupt()
    ):
        reader = Reader(directory, origin, server)
        for name, text in FILES.items():
            (directory / name).write_text(reader.typed(text))
        yield reader


@pytest.fixture
def run_example(reader: Reader) -> Callable[[str], None]:
    def run(example: str) -> None:
        for tool in TOOLS:
            if re.search(rf"\b{tool} ", example) and not which(tool):
                unavailable(f"{tool} is not installed, and an example uses it")
        reader.run(example)

    return run


def which(tool: str) -> bool:
    return subprocess.run(["bash", "-c", f"command -v {tool}"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("example", readme_examples())
def test_the_readme(run_example: Callable[[str], None], example: str) -> None:
    run_example(example)


@pytest.mark.parametrize(("command", "example"), only_in_help())
def test_the_help_of_each_command(run_example: Callable[[str], None], command: str, example: str) -> None:
    run_example(example)


def test_examples_in_the_help_of_a_command_call_it() -> None:
    assert [example for command, example in help_examples() if f"manage.py {command}" not in example] == []


def test_each_option_and_each_source_of_fetch_urls_has_an_example() -> None:
    examples = "\n".join([*readme_examples(), *(example for _, example in help_examples())])
    inherited = {option for action in BaseCommand().create_parser("", "")._actions for option in action.option_strings}
    parser = import_module(f"{commands.__name__}.fetch_urls").Command().create_parser("manage.py", "fetch_urls")
    # A switch that is on by default is shown by the one that turns it off.
    own = [action.option_strings[-1] for action in parser._actions if action.option_strings]
    words = examples.split()
    assert [option for option in own if option not in {*inherited, *words}] == []
    files = ("urls.txt", "items.csv", "items.jsonl", "sitemap.xml", "feeds.opml")
    assert [name for name in files if name not in words] == []


def test_there_are_examples_to_run() -> None:
    assert len(readme_examples()) >= 9
    assert {command for command, _ in help_examples()} >= {"fetch_urls", "job", "run_job"}
