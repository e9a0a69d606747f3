"""The command line: `skillmoe` (or `python -m skillmoe_lib`) with a command, each a function below."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from skillmoe_lib import __version__
from skillmoe_lib.errors import SkillmoeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 if it failed, 2 if the request was wrong."""
    options = _parser().parse_args(arguments)
    # jsonschema, with which notebooks are checked, would compile 38 grammars of internet addresses on import.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # as with `| head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SkillmoeError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "error: interrupted; what was stored is kept; run the same command to continue",
            file=sys.stderr,
        )
        return 130


def _parser() -> argparse.ArgumentParser:
    prog = "skillmoe" if Path(sys.argv[0]).stem == "skillmoe" else "python -m skillmoe_lib"
    parser = argparse.ArgumentParser(prog=prog, description="Mixture of experts by skill.")
    parser.add_argument("--version", action="version", version=f"skillmoe {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:  # noqa: A002
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=command)
        return sub

    names = "stem in notebooks/, path, or `chain` for every numbered notebook in order"
    sub = add("run", _run, "execute notebooks into reports/, with parameters checked first")
    sub.add_argument("notebooks", nargs="+", metavar="NOTEBOOK", help=names)
    sub.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="such as -p k=3"
    )
    sub.add_argument("--skip", action="store_true", help="leave out what cannot be run, and go on")
    sub.add_argument("--help-parameters", action="store_true", help="list the parameters and run nothing")
    sub = add("plan", _plan, "what the chain would ask, load, take and cost; nothing is run")
    sub.add_argument("notebooks", nargs="+", metavar="NOTEBOOK", help="`chain`, or notebooks of it")
    sub.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="such as -p k=3"
    )
    sub.add_argument("--fresh", action="store_true", help="as if nothing were stored (rates are still read)")
    sub.add_argument("--json", action="store_true", help="for programs to read")
    sub = add("params", _params, "list the parameters of notebooks")
    sub.add_argument("notebooks", nargs="+", metavar="NOTEBOOK", help=names)
    sub = add("status", _status, "what the generation store holds")
    sub.add_argument("root", nargs="?", type=Path, help="default data/generations")
    sub = add("doctor", _doctor, "what is missing on this machine and how to get it")
    sub.add_argument("pool", nargs="?", help="whose models to look for (default: the chain's)")
    sub = add("report", _report, "write reports/NAME/index.html from what is there")
    sub.add_argument("name", metavar="NAME")
    sub = add("why", _why, "where a number of a report comes from, back to the generated texts")
    sub.add_argument("path", metavar="PATH", type=Path, help="a report folder, or a file of one")
    sub.add_argument("--method", default="", help="list this method's questions (its name or label)")
    sub.add_argument("--column", default="", help="explain this cell of the method's row")
    sub.add_argument("--question", default="", metavar="ID", help="show one question in full, or `all`")
    sub.add_argument("--benchmark", default="", help="which one, if the table has several")
    sub.add_argument("--seed", type=int, default=0, help="default 0")
    sub = add("import", _import, "read outputs that others recorded into data/recorded/NAME")
    sub.add_argument("files", nargs="+", type=Path, metavar="FILE", help="docs/recorded.md lists the formats")
    sub.add_argument("--as", dest="name", required=True, metavar="NAME", help="name of the recording")
    sub.add_argument("--format", default="", metavar="FORMAT", help="default: recognised from the content")
    sub.add_argument(
        "--column", action="extend", nargs="+", default=[], metavar="OURS=YOURS",
        help="your name of a column, such as question_id=qid",
    )  # fmt: skip
    sub.add_argument(
        "--where", action="extend", nargs="+", default=[], metavar="COLUMN=VALUE",
        help="only rows of a table with this value",
    )  # fmt: skip
    sub.add_argument("--questions", type=Path, metavar="FILE", help="a table of the questions' own columns")
    sub.add_argument("--expert", default="", help="the model's name, if the file does not say it")
    sub.add_argument("--metric", default="", help="the score that decides what is right")
    sub.add_argument("--filter", default="", help="the answer filter of lm-evaluation-harness")
    sub.add_argument(
        "--repeats", action="store_true", help="several answers of one expert to one question are repeats"
    )
    sub = add(
        "migrate",
        _migrate,
        "add to older generations what prompt each was given to, where it can be found out",
    )
    sub.add_argument("root", metavar="STORE", nargs="?", type=Path, help="default data/generations")
    sub.add_argument("--pool", default="", help="the pool whose folder holds the models, if it has its own")
    sub = add("pin", _pin, "fill in the revisions that a pool leaves open (needs the hub)")
    sub.add_argument("pool", metavar="POOL")
    sub = add("new", _new, "write a commented pool or benchmark to start from")
    sub.add_argument("kind", choices=["pool", "benchmark"])
    sub.add_argument(
        "name", metavar="NAME", help="in data/pools or data/benchmarks, or a path to a .yaml file"
    )
    sub = add("assignments", _assignments, "make the students' versions of the solution notebooks")
    sub.add_argument("action", choices=["build"])
    sub.add_argument("--source", type=Path, metavar="DIR", help="default notebooks/assignments/source")
    sub.add_argument("--to", type=Path, metavar="DIR", help="default notebooks/assignments/student")
    sub = add("grade", _grade, "grade a folder of submissions into grades.csv and pages of feedback")
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="holds a folder for each student")
    sub.add_argument("--assignment", default="", metavar="NAME", help="default: all that were handed in")
    sub.add_argument("--source", type=Path, metavar="DIR", help="default notebooks/assignments/source")
    sub.add_argument("--to", type=Path, metavar="DIR", help="default reports/grades-FOLDER")
    sub.add_argument(
        "--time-limit", type=float, default=300.0, metavar="S", help="of a notebook, default 300"
    )
    sub.add_argument("--parallel", type=int, metavar="N", help="default: one for each processor")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.help_parameters:
        return _params(options)
    from skillmoe_lib.cli import notebooks
    from skillmoe_lib.cli.report import write_index
    from skillmoe_lib.evaluation.cautions import cautions

    given = pairs(options.parameters, "parameter")
    if options.skip:
        given["skip"] = "true"
    jobs = notebooks.make_jobs(notebooks.find_notebooks(options.notebooks), given)
    code = 0
    try:
        notebooks.execute(jobs)
    except notebooks.NotebookFailed as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        code = 1
    finally:  # after an interrupt too: the page shows what exists
        for folder in dict.fromkeys(job.report_dir for job in jobs):
            if folder.is_dir():
                found = cautions(folder)
                for text in found:
                    print(f"warning: {text}", file=sys.stderr)
                where = notebooks.relative(write_index(folder))
                n = f" ({len(found)} warning{'s' if len(found) > 1 else ''} at its top)" if found else ""
                print(f"report: {where}{n}")
    return code


def _plan(options: argparse.Namespace) -> int:
    from skillmoe_lib.cli.plan import plan

    given = pairs(options.parameters, "parameter")
    print(plan(options.notebooks, given, fresh=options.fresh, as_json=options.json))
    return 0


def _params(options: argparse.Namespace) -> int:
    from skillmoe_lib.cli.notebooks import find_notebooks
    from skillmoe_lib.cli.parameters import describe_parameters

    print("\n".join(map(describe_parameters, find_notebooks(options.notebooks))))
    return 0


def _status(options: argparse.Namespace) -> int:
    from skillmoe_lib.cli.status import status
    from skillmoe_lib.paths import project_root

    print(status(options.root or project_root() / "data" / "generations"))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from skillmoe_lib.cli import doctor
    from skillmoe_lib.cli.notebooks import find_notebooks
    from skillmoe_lib.cli.parameters import read_parameters

    pool = options.pool
    if pool is None:
        chain = [read_parameters(path).get("pool") for path in find_notebooks(["chain"])]
        pool = next((parameter.default for parameter in chain if parameter), "pocket")
    checks = doctor.check_machine(pool)
    print("\n".join(map(str, checks)))
    return 0 if all(check.ok or not check.needed for check in checks) else 1


def _report(options: argparse.Namespace) -> int:
    from skillmoe_lib.cli.report import write_index
    from skillmoe_lib.errors import unknown
    from skillmoe_lib.paths import project_root

    reports = project_root() / "reports"
    known = sorted(path.name for path in reports.glob("*") if path.is_dir())
    if options.name not in known:
        raise unknown("report", options.name, known)
    print(write_index(reports / options.name))
    return 0


def _why(options: argparse.Namespace) -> int:
    from skillmoe_lib.cli.why import why

    names = ("method", "column", "question", "benchmark", "seed")
    print(why(options.path, **{name: getattr(options, name) for name in names}))
    return 0


def _migrate(options: argparse.Namespace) -> int:
    from skillmoe_lib.cli.migrate import migrate
    from skillmoe_lib.paths import project_root

    print(migrate(options.root or project_root() / "data" / "generations", pool=options.pool))
    return 0


def _import(options: argparse.Namespace) -> int:
    from skillmoe_lib.cli.recordings import import_recording

    print(import_recording(options))
    return 0


def _pin(options: argparse.Namespace) -> int:
    from skillmoe_lib.hub import pin

    pin(options.pool)
    return 0


def _new(options: argparse.Namespace) -> int:
    from skillmoe_lib.cli.new import write_new

    for path in write_new(options.kind, options.name):
        print(f"wrote {path}")
    return 0


def pairs(given: Sequence[str], what: str) -> dict[str, str]:
    """NAME=VALUE texts of a command line as a mapping; an error of one line for anything else."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise SkillmoeError(f"a {what} must be given as NAME=VALUE, got {text!r}")
        if name in found:
            raise SkillmoeError(f"{what} {name!r} is given twice: {found[name]!r} and {value!r}")
        found[name] = value
    return found


def _assignments(options: argparse.Namespace) -> int:
    from skillmoe_lib.classroom.course import build
    from skillmoe_lib.paths import project_root

    folder = project_root() / "notebooks" / "assignments"
    for path in build(options.source or folder / "source", options.to or folder / "student"):
        print(f"wrote {path}")
    return 0


def _grade(options: argparse.Namespace) -> int:
    import time

    from skillmoe_lib.classroom.grading import Mark, grade
    from skillmoe_lib.classroom.sandbox import Limits, weakness
    from skillmoe_lib.paths import project_root

    def tell(mark: Mark) -> None:
        points = f"{mark.score:g}/{mark.max_score:g}"
        print(f"{mark.assignment}  {mark.student_id}  {points}  {mark.reason}".rstrip(), flush=True)

    if options.time_limit <= 0 or (options.parallel is not None and options.parallel < 1):
        raise SkillmoeError("--time-limit must be above 0 and --parallel at least 1")
    if weak := weakness():
        print(f"warning: {weak}", file=sys.stderr)
    root = project_root()
    target = options.to or root / "reports" / f"grades-{options.folder.resolve().name}"
    started = time.monotonic()
    marks = grade(
        options.folder,
        options.source or root / "notebooks" / "assignments" / "source",
        target,
        assignment=options.assignment,
        limits=Limits(time_s=options.time_limit),
        n_parallel=options.parallel,
        tell=tell,
    )
    print(f"{len(marks)} marks in {time.monotonic() - started:.0f} s: {target / 'grades.csv'}")
    return 0


def _one_line(error: SkillmoeError) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
