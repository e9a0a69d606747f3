"""The strict notebook runner: parameters checked before anything runs, then papermill, on our own kernel.

`parameters` defines what a parameter may be. An executed notebook goes to `reports/<report>/notebooks/`,
where `report` is the notebook's own parameter; a failed one stays there as the report of its failure.
"""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from skillmoe_lib.cli.parameters import Value, check_each, check_together, convert, read_parameters
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.paths import project_files, project_root
from skillmoe_lib.progress import Mirror

if TYPE_CHECKING:
    from skillmoe_lib.cli.kernels import Kernel

_PATIENCE_S = 180  # for a kernel to start, and for its last output, on a busy machine


class NotebookFailed(SkillmoeError):
    """A notebook raised; its executed copy is the report."""


@dataclass(frozen=True)
class Job:
    """A notebook and the parameters given for it (the others keep their defaults)."""

    path: Path
    given: Mapping[str, Value]
    report_dir: Path

    @property
    def output(self) -> Path:
        """Where the executed notebook goes."""
        return self.report_dir / "notebooks" / self.path.name


def find_notebooks(names: Sequence[str]) -> list[Path]:
    """Notebooks by stem or path, or `chain`: every numbered one of the chain, in order. Each once.

    Those in `notebooks/` are named by their stem, or by their path in it if the stem is not unique.
    """
    found_below = project_files("notebooks", "**/*.ipynb")
    by_path = {name: path for name, path in found_below.items() if ".ipynb_checkpoints" not in path.parts}
    stems = Counter(path.stem for path in by_path.values())
    by_stem = {path.stem: path for path in by_path.values() if stems[path.stem] == 1}
    chain = [path for name, path in by_path.items() if re.fullmatch(r"(chain/)?\d\d_[^/]*", name)]
    found: list[Path] = []
    for name in names:
        stem = name.removesuffix(".ipynb")
        if name == "chain":
            if not chain:
                folder = project_root() / "notebooks"
                raise SkillmoeError(f"there is no numbered notebook (such as 01_questions.ipynb) in {folder}")
            found += chain
        elif path := by_stem.get(stem) or by_path.get(stem):
            found.append(path)
        elif name.endswith(".ipynb") and Path(name).is_file():
            found.append(Path(name).resolve())
        else:
            known = [path.stem if path.stem in by_stem else name for name, path in by_path.items()]
            raise unknown("notebook", name, ["chain", *known])
    return list(dict.fromkeys(found))


def make_jobs(notebooks: Sequence[Path], given: Mapping[str, str]) -> list[Job]:
    """Check every parameter against every notebook, before anything runs.

    A parameter goes to the notebooks that have it; at least one must. Defaults are checked too: a value
    given to one notebook may not fit another's default.
    """
    known = {path: read_parameters(path) for path in notebooks}
    for name in given:
        if not any(name in parameters for parameters in known.values()):
            stems = " ".join(path.stem for path in notebooks) if len(notebooks) < 4 else "these notebooks"
            raise unknown(
                f"parameter of {stems}", name, {n for parameters in known.values() for n in parameters}
            )
    jobs, together = [], dict[str, Value]()
    for path, parameters in known.items():
        values = {n: convert(parameters[n], text, path.stem) for n, text in given.items() if n in parameters}
        all_values = {name: parameter.default for name, parameter in parameters.items()} | values
        name = str(all_values.get("report", path.stem))
        if "{table}" in name:  # a report for each table that one notebook makes
            name = name.replace("{table}", str(all_values.get("table", "")))
            values["report"] = all_values["report"] = name
        check_each(all_values, path.stem)
        together |= all_values
        jobs.append(Job(path, values, project_root() / "reports" / name))
    outputs = [job.output for job in jobs]
    for job in jobs:
        if outputs.count(job.output) > 1 or job.output == job.path:
            raise SkillmoeError(f"{job.path.name} would replace another notebook at {relative(job.output)}")
    check_together(together, given)
    for folder in dict.fromkeys(job.report_dir for job in jobs):
        _check_writable(folder)
    return jobs


def _check_writable(folder: Path) -> None:
    """Refuse a report folder that cannot be written to before anything is generated."""
    there = next(path for path in (folder / "notebooks", *(folder / "notebooks").parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise SkillmoeError(f"cannot write reports to {relative(folder)}: {reason}: {there}") from error


def execute(jobs: Sequence[Job], *, stderr: TextIO | None = None) -> None:
    """Execute notebooks one after another, in the project's own environment; stop at the first failure.

    Raises
    ------
    NotebookFailed
        With one line: the text of a `SkillmoeError`, or the exception's name and where the report is.
    """
    from skillmoe_lib.cli.kernels import Kernel, own_kernel

    terminal = stderr or sys.stderr
    with tempfile.TemporaryDirectory(prefix="skillmoe-") as folder:
        mirror = Mirror(Path(folder) / "progress", terminal)
        given = {name: value for job in jobs for name, value in job.given.items()}
        with (
            own_kernel(Path(folder), mirror, given) as name,
            contextlib.chdir(project_root()),
            contextlib.ExitStack() as ends,
        ):
            waiting: list[Kernel] = []
            for number, job in enumerate(jobs, start=1):
                while len(waiting) < min(2, len(jobs) - number + 1):  # the next one's starts meanwhile
                    waiting.append(Kernel(name))
                    ends.callback(waiting[-1].stop, at_once=True)
                with mirror.showing(f"[{number}/{len(jobs)}] {job.path.stem} ..."):
                    kernel = waiting.pop(0)
                    _execute(job, kernel)
                    kernel.stop()


def _execute(job: Job, kernel: "Kernel") -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    for name in ("asyncio", "papermill", "nbclient", "traitlets"):  # they log what they also raise
        logging.getLogger(name).setLevel(logging.CRITICAL)
    where = relative(job.output)
    try:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        papermill.execute_notebook(
            # papermill formats paths; relative ones keep this machine's folders out of the report.
            relative(job.path).replace("{", "{{").replace("}", "}}"),
            where.replace("{", "{{").replace("}", "}}"),
            dict(job.given),
            kernel_name=kernel.kernel_name,
            km=kernel,
            language="python",
            progress_bar=False,
            start_timeout=_PATIENCE_S,
            iopub_timeout=_PATIENCE_S,
        )
    except PapermillExecutionError as error:
        lines = str(error.evalue).strip().splitlines() or [""]
        if error.ename == SkillmoeError.__name__:
            raise NotebookFailed(" ".join(lines)) from error
        raise NotebookFailed(f"{error.ename}: {lines[0]} (see {where})") from error
    except OSError as error:
        raise NotebookFailed(f"cannot write {where}: {error.strerror or error}") from error
    except DeadKernelError as error:
        reason = "the kernel died, most often because memory ran out"
        _mark_stopped(job.output, reason)
        raise NotebookFailed(f"{job.path.stem}: {reason} (see {where})") from error
    except RuntimeError as error:  # the kernel did not start
        _mark_stopped(job.output, str(error))
        raise NotebookFailed(f"{job.path.stem}: {str(error).partition(chr(10))[0]} (see {where})") from error
    except KeyboardInterrupt:
        _mark_stopped(job.output, "interrupted")
        raise


def _mark_stopped(output: Path, reason: str) -> None:
    """Mark an executed notebook as unfinished; papermill marks all its cells as completed."""
    import nbformat

    with contextlib.suppress(OSError, ValueError):  # half written: that is plain to see
        notebook = nbformat.read(output, as_version=4)  # type: ignore[no-untyped-call]
        notebook.metadata.papermill["exception"] = True
        note = nbformat.v4.new_markdown_cell(  # type: ignore[no-untyped-call]
            f"**This run did not finish:** {reason}.", metadata={"tags": ["stopped"]}
        )
        notebook.cells.insert(0, note)
        nbformat.write(notebook, output)  # type: ignore[no-untyped-call]


def relative(path: Path) -> str:
    """The path relative to the project root."""
    return Path(os.path.relpath(path, project_root())).as_posix()
