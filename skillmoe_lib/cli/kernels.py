"""The kernels that notebooks run in: of this interpreter, one a notebook, started one notebook ahead.

Each takes seconds to start and to import the library, which pass while the notebook before it runs.
"""

import contextlib
import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import AsyncKernelManager
from nbclient.util import run_sync

from skillmoe_lib.cli.parameters import Value
from skillmoe_lib.paths import project_root
from skillmoe_lib.progress import Mirror

# As ipykernel_launcher, but ipykernel's echo of what C code writes (it is in the notebook already) goes to a
# file, so that it does not interrupt the progress bars.
_LAUNCHER = """
import os
log = os.open(os.environ["SKILLMOE_KERNEL_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 1), os.dup2(log, 2)
from ipykernel import kernelapp
kernelapp.launch_new_instance()
"""
# What nearly every notebook imports; no name is left behind.
_AHEAD = (
    "[__import__(f'skillmoe_lib.{name}') for name in ('pipeline', 'evaluation.standard_tables')] and None"
)


@contextlib.contextmanager
def own_kernel(folder: Path, mirror: Mirror, given: Mapping[str, Value]) -> Iterator[str]:
    """A kernelspec of this interpreter, under a unique name, in a folder that Jupyter searches first."""
    name = f"skillmoe-{uuid.uuid4().hex[:12]}"
    environment = {
        "IPYTHONDIR": str(folder / "ipython"),  # no start-up files of the user's
        "PYTHONSTARTUP": "",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "SKILLMOE_KERNEL_LOG": str(folder / "kernel.log"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "SKILLMOE_HOME": str(project_root()),
        "SKILLMOE_GIVEN": json.dumps(given),  # what the other notebooks got, for the plan in the first one
        **mirror.environment,
    }
    argv = [sys.executable, "-P", "-c", _LAUNCHER, "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python", "env": environment}
    (folder / "kernels" / name).mkdir(parents=True)
    (folder / "kernels" / name / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    before = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(folder), *([before] if before else [])])
    try:
        yield name
    finally:
        if before is None:
            del os.environ["JUPYTER_PATH"]
        else:
            os.environ["JUPYTER_PATH"] = before


class Kernel(AsyncKernelManager):
    """A kernel that is started when it is made, and imports the library while it waits for its notebook.

    Raises what `start_kernel` raises if the process cannot be started.
    """

    def __init__(self, name: str) -> None:
        super().__init__(kernel_name=name)
        run_sync(self.start_kernel)()
        # A client of its own session: of two in one session, one gets no reply.
        waiting = BlockingKernelClient(connection_file=self.connection_file)
        waiting.load_connection_file()
        waiting.start_channels()
        waiting.execute(_AHEAD, silent=True, store_history=False, allow_stdin=False)
        self.clients: list[Any] = [waiting]

    def client(self, **settings: Any) -> Any:
        """A client as of `AsyncKernelManager`; `stop` closes it."""
        self.clients.append(super().client(**settings))
        return self.clients[-1]

    def stop(self, *, at_once: bool = False) -> None:
        """End the process, if it still runs, after its exit handlers unless `at_once`."""
        for client in self.clients:
            client.stop_channels()
        if run_sync(self.is_alive)():
            run_sync(self.shutdown_kernel)(now=at_once)
        run_sync(self.cleanup_resources)()
