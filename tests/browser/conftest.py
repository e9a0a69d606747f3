"""A project in a temporary folder, JupyterLab on loopback, and headless Chromium.

`make test-browser` runs these tests; plain `make test` leaves the folder out (pyproject.toml). They need
Debian's `chromium`, or another one named by SKILLMOE_CHROMIUM; Playwright brings none that is used here.
Screenshots stay in `tests/browser/screenshots/`, which git ignores.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import recordings

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(__file__).parent / "screenshots"
START_S, PAGE_S, RUN_S = 180, 90, 180  # the machine may be busy
#: Errors of JupyterLab's own: what it looks for and may not find.
HARMLESS = re.compile(r"favicon|/api/workspaces|/lsp/status|Failed to load resource.*404", re.IGNORECASE)
CHROMIUM = os.environ.get("SKILLMOE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytest.importorskip("playwright")


class Lab(NamedTuple):
    """A running JupyterLab: its address, and the token that opens it."""

    url: str
    token: str

    def notebook(self, path: str) -> str:
        """Address of a notebook, alone in its window, in a workspace of its own."""
        return f"{self.url}/doc/workspaces/{secrets.token_hex(4)}/tree/{path}?token={self.token}&reset"


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the notebooks, the data that they need, and a made-up report."""
    folder = tmp_path_factory.mktemp("project")
    leave = shutil.ignore_patterns("generations", "pocket", "recorded", ".ipynb_checkpoints")
    for name in ("notebooks", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    recordings.write_report(folder, 420, 1680, 16)
    if not (folder / "data" / "quick_start" / "vllm").is_dir():  # nothing stored: made-up texts
        notebook = folder / "notebooks" / "quick_start.ipynb"
        text = notebook.read_text(encoding="utf-8").replace('\\"replay\\"  #', '\\"scripted\\"  #')
        notebook.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def lab(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab as `make lab` starts it, with settings and kernels of its own."""
    private = tmp_path_factory.mktemp("jupyter")
    kernel = private / "data" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    settings = {
        "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight stay in the page
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    }
    for name, values in settings.items():
        file = private / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SKILLMOE_HOME": str(project),
        "JUPYTER_PATH": str(private / "data"),
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
        "IPYTHONDIR": str(private / "ipython"),
        "JUPYTER_TOKEN": token,
    }
    environment.pop("MPLBACKEND", None)
    flags = [
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--expose-app-in-browser",  # window.jupyterapp: tests ask it whether the kernel is there
    ]
    flags += [f"--ServerApp.root_dir={project}", "--ServerApp.allow_root=True"]
    log = (private / "log").open("w", encoding="utf-8")
    command = [sys.executable, "-m", "jupyter", "lab", *flags]
    server = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/api/status?token={token}", server, private / "log")
        yield Lab(url, token)
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    if not CHROMIUM:
        pytest.skip("no chromium on the PATH: apt-get install chromium, or name one with SKILLMOE_CHROMIUM")
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not start as root in a container.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Watched(NamedTuple):
    """A page, and the errors that its console and its scripts reported."""

    page: Any
    errors: list[str]

    def shot(self, name: str) -> None:
        """Keep a screenshot."""
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def serious(self) -> list[str]:
        """The errors, without those of JupyterLab's own that say nothing about this project."""
        return [error for error in self.errors if not HARMLESS.search(error)]

    def open(self, notebook: str) -> Any:
        """Open a notebook (its address) and wait for its kernel; returns the page.

        JupyterLab shows an idle kernel before it is connected to one, and drops what it is given until then.
        """
        self.page.goto(notebook)
        self.page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", state="attached")
        self.page.wait_for_function(
            """() => {
                const opened = window.jupyterapp.shell.currentWidget?.sessionContext;
                const kernel = opened?.session?.kernel;
                const connected = kernel?.connectionStatus === 'connected';
                return opened?.isReady && connected && kernel.status === 'idle';
            }"""
        )
        return self.page

    def run_all(self, *, limit_s: float = RUN_S, past_errors: bool = False) -> float:
        """Run all cells from the menu, wait until all have run or one has failed; returns the seconds.

        `past_errors`: wait for all of them even then.
        """
        start = time.perf_counter()
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.page.wait_for_function(
            """pastErrors => {
                const all = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
                const cells = window.jupyterapp.shell.currentWidget.content.widgets;
                const outputs = cells.flatMap(cell => cell.model.outputs?.toJSON() ?? []);
                const failed = outputs.some(output => output.output_type === 'error');
                const done = all.length && all.every(prompt => /\\[\\d+\\]/.test(prompt.textContent));
                return done || (failed && !pastErrors);
            }""",
            arg=past_errors,
            timeout=1000 * limit_s,
        )
        return time.perf_counter() - start

    def red(self) -> list[str]:
        """Texts of tracebacks and of what was written to stderr."""
        found = self.page.locator('[data-mime-type="application/vnd.jupyter.stderr"]')  # both have it
        return [text for text in found.all_inner_texts() if text.strip()]


@pytest.fixture(scope="session")
def window(browser: Any) -> Iterator[Any]:
    """A browser window with one cache for all tests: JupyterLab's scripts are read once."""
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def watched(window: Any, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A new page whose errors are noted; what it showed last is kept as `last_TEST.png`.

    Its kernels are ended with it.
    """
    page, errors = window.new_page(), []
    page.set_viewport_size({"width": 1500, "height": 1100})
    page.set_default_timeout(1000 * PAGE_S)
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: (errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    made = Watched(page, errors)
    yield made
    made.shot(f"last_{re.sub(r'[^a-z0-9_]+', '_', request.node.name)}")
    page.evaluate("window.jupyterapp?.serviceManager.sessions.shutdownAll()")
    page.close()
