"""The parameters of notebooks and their allowed values, checked for all notebooks before the first one runs.

papermill reads the parameters cell (as its `inspect_notebook` does), but it only warns of unknown names and
accepts any value, so names, types and values are checked here. `ALLOWED` has the allowed values for every
name; `params` shows them beside the help, and `run` refuses anything else in one line.
"""

import ast
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.experts.pool import load_pool
from skillmoe_lib.inference.engines import ENGINES
from skillmoe_lib.inference.engines.vllm_options import read_given
from skillmoe_lib.inference.policies import POLICIES
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.method import N_TOP
from skillmoe_lib.paths import project_file, project_root
from skillmoe_lib.pipeline import check_question, preset_router
from skillmoe_lib.pocket.pool import KINDS, SCHOOLS, Pupil, check_pupil
from skillmoe_lib.presets import PRESETS
from skillmoe_lib.questions import benchmark as benchmarks
from skillmoe_lib.routing.skill_router import Formula, SkillRouter
from skillmoe_lib.studies import ablations, variants
from skillmoe_lib.studies.games import EXACT_UP_TO
from skillmoe_lib.studies.paper_tables import load_benchmarks
from skillmoe_lib.tables import KINDS as KINDS_OF_ANSWER

Value = bool | int | float | str
_TYPES: Mapping[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
_TRUTH = {"true": True, "false": False}


class Parameter(NamedTuple):
    """One line of a parameters cell: `name: type = default  # help`."""

    name: str
    type: str
    default: Value
    help: str


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook by name, from its cell tagged "parameters"; {} if it has none.

    Raises
    ------
    SkillmoeError
        No notebook that can be read; a line of the cell that is not `name: type = literal  # help`.
    """
    from papermill.iorw import load_notebook_node
    from papermill.translators import PythonTranslator
    from papermill.utils import find_first_tagged_cell_index

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its warnings are errors below
    try:
        node = load_notebook_node(str(notebook))
        at = find_first_tagged_cell_index(node, "parameters")
    except Exception as error:  # whatever nbformat and papermill raise for a broken file
        reason = " ".join(str(error).split())
        raise SkillmoeError(f"{notebook.name} is not a notebook that can be read: {reason}") from error
    found: dict[str, Parameter] = {}
    if at < 0:
        return found
    inspected = {p.name: p._asdict() for p in PythonTranslator.inspect(node.cells[at])}
    lines = [line for line in node.cells[at].source.splitlines() if line.strip()]
    for line in sorted(lines, key=lambda line: "=" in line):  # papermill joins a line without "=" to the last
        name = line.partition(":")[0].strip()
        found[name] = _parameter(inspected.get(name, {}), line, notebook.stem)
    return found


def _parameter(inspected: Mapping[str, Any], line: str, stem: str) -> Parameter:
    """The parameter that papermill found in a line, with its default as a value of the type named there."""
    kind = inspected.get("inferred_type_name", "")
    try:
        default = ast.literal_eval(inspected["default"])
        if kind in _TYPES and (type(default) is _TYPES[kind] or (kind, type(default)) == ("float", int)):
            return Parameter(inspected["name"], kind, default, inspected["help"])
    except (KeyError, ValueError, SyntaxError):
        pass
    raise SkillmoeError(
        f"the parameters cell of {stem} must have lines such as `k: int = 3  # help` with "
        f"type {', '.join(_TYPES)}; it has {line!r}"
    )


def describe_parameters(notebook: Path) -> str:
    """The parameters of a notebook as text, one per line, each with its allowed values."""
    rows = []
    for p in read_parameters(notebook).values():
        says = ALLOWED[p.name].says if p.name in ALLOWED else p.help
        allowed = "" if says in p.help else f" [{says}]"
        rows.append((f"{p.name}: {p.type} = {p.default!r}", p.help + allowed))
    width = max((len(left) for left, _ in rows if len(left) <= 48), default=0)
    lines = [f"  {left:<{width}}  {right}".rstrip() for left, right in rows] or ["  (no parameters)"]
    return "\n".join([notebook.stem, *lines])


def convert(parameter: Parameter, text: str, stem: str) -> Value:
    """A value given as text, in the parameter's type."""
    try:
        match parameter.type:
            case "int":
                return int(text)
            case "float" if math.isfinite(number := float(text)):
                return number
            case "bool":
                return _TRUTH[text.lower()]
            case "str":
                return text
    except (ValueError, KeyError):
        pass
    kind = {"bool": "true or false", "float": "a finite float"}.get(parameter.type, f"an {parameter.type}")
    raise SkillmoeError(
        f"parameter {parameter.name!r} of {stem} must be {kind} (default {parameter.default!r}), got {text!r}"
    )


# -- what each may be ------------------------------------------------------------------------------


class Rule(NamedTuple):
    """The allowed values of a parameter, in words that follow "must be", and the check of a value."""

    says: str
    holds: Callable[[Any], bool]


def one_of(names: Iterable[str]) -> Rule:
    """One of these words."""
    known = tuple(names)
    return Rule(f"{', '.join(known[:-1])} or {known[-1]}", lambda value: value in known)


def within(low: float, high: float, also: str = "") -> Rule:
    """A number from low to high, both included."""
    return Rule(f"{low:,} to {high:,}{also}", lambda value: low <= value <= high)


def _plain(value: str) -> bool:
    return re.fullmatch(r"\w[\w.-]*", value) is not None


_ANY_FOLDER = Rule("a folder, relative to the project's", lambda value: bool(value.strip()))
_THERE = Rule("a folder that is there", lambda value: (project_root() / value).is_dir())
#: Allowed values of every notebook parameter, by name. For rules about several values together
#: (a method and the pool it needs), see `check_together`.
ALLOWED: Mapping[str, Rule] = {
    "report": Rule("a plain folder name (letters, digits, . _ -)", _plain),
    "pool": Rule("under data/pools, or the path of a YAML file", lambda value: bool(value)),
    "benchmark": Rule("under data/benchmarks, or the path of a YAML file", lambda value: bool(value)),
    "benchmarks": Rule(
        "names under data/benchmarks, or paths of YAML files, separated by commas",
        lambda value: bool(value.strip(" ,")),
    ),
    "engine": one_of(ENGINES),
    "engine_options": Rule("a JSON object of options of vLLM, or empty", lambda _: True),
    "store": _ANY_FOLDER,
    "limit": within(0, 10_000_000),
    "seed": within(0, 2**31 - 1),
    "seeds": within(1, 100),
    "n_seeds": within(1, 100),
    "votes": within(1, 100),
    "min_votes": within(1, 100, ", and no more than votes"),
    "max_chars": within(1, 200),
    "k": within(1, 64),
    "skip": Rule("true or false", lambda _: True),
    "plan_first": Rule("true or false", lambda _: True),
    "run_time": Rule("true or false", lambda _: True),
    "preset": one_of(PRESETS),
    "formula": one_of(["preset", *get_args(Formula)]),
    "temperature": Rule("above 0, to 100, or -1 for the preset's", lambda v: v == -1 or 0 < v <= 100),
    "trim": Rule("0 to below 1, or -1 for the preset's", lambda value: value == -1 or 0 <= value < 1),
    "budget": within(1, 1000),
    "prior": within(0, 10_000),
    "threshold": within(-1, 1),
    "methods": Rule("all, or names of methods separated by commas", lambda value: bool(value.strip())),
    "baseline": Rule("the name of a method", lambda value: bool(value)),
    "explain": Rule("the id of a test question, or empty", lambda _: True),
    "n_draws": within(2, 100_000),
    "n_one_by_one": within(1, 100_000),
    "table": one_of(variants.TABLES),
    "vary": one_of([*SkillRouter().get_params(), *ablations.OTHER_KINDS]),
    "values": Rule("values of `vary`, separated by commas", lambda value: bool(value.strip())),
    "aggregator": Rule(
        f"{', '.join(variants.AGGREGATORS)} or an expert of the pool", lambda value: bool(value)
    ),
    "data_dir": _THERE,
    "from_folder": _THERE,
    "name": Rule("a plain name (letters, digits, . _ -)", _plain),
    "families": Rule("names of task families, separated by commas", lambda value: bool(value.strip())),
    "school": one_of(SCHOOLS),
    "kind": one_of(KINDS),
    "hidden": Rule("0, or a multiple of 32 up to 4,096", lambda value: value in range(0, 4097, 32)),
    "budget_tokens": within(1000, 1_000_000_000),
    "n_questions": within(0, 1_000_000),
    "n_held_out": within(1, 100_000),
    "of_report": Rule("the name of a finished report, or empty", lambda value: not value or _plain(value)),
    "recording": Rule("the name of a recording, or empty", lambda _: True),
    "n_validation": within(0, 1_000_000),
    "experts": Rule("names separated by commas, mid_strength, or empty for all", lambda _: True),
    "method": one_of(EXACT_UP_TO),
    "rivals": Rule("names of experts separated by commas", lambda value: bool(value.strip(" ,"))),
    "file": Rule("a CSV file that is there, or empty", lambda value: not value or Path(value).is_file()),
    "text": Rule("the name of a column", lambda value: bool(value)),
    "gold": Rule("the name of a column", lambda value: bool(value)),
    "choices": Rule("names of columns separated by commas, or empty", lambda _: True),
    "subject": Rule("the name of a column, or empty", lambda _: True),
    "answer_kind": one_of(KINDS_OF_ANSWER),
    "validation_share": Rule("above 0 and below 1", lambda value: 0 < value < 1),
    "policies": Rule(
        f"{', '.join(POLICIES)}, separated by commas",
        lambda value: bool(value.strip(" ,")) and {name.strip() for name in value.split(",")} <= {*POLICIES},
    ),
    "load_s": within(0, 100_000),
}


def check_each(values: Mapping[str, Value], stem: str) -> None:
    """Raise `SkillmoeError` for the first value of a notebook that its rule does not allow."""
    for name, value in values.items():
        if name == "data_dir" and values.get("of_report"):
            continue  # a finished report is studied instead of that folder
        if name in ALLOWED and not ALLOWED[name].holds(value):
            raise SkillmoeError(f"parameter {name!r} of {stem} must be {ALLOWED[name].says}, got {value!r}")


def check_together(values: Mapping[str, Any], given: Iterable[str]) -> None:
    """Raise `SkillmoeError` if values do not fit each other, or the files that they name.

    `values` are those of all notebooks of a run; `given` the names that the user set: the rows of a
    benchmark, which may take seconds to make, are only read if the user named one.
    """
    given = set(given)
    if "votes" in values and values.get("min_votes", 1) > values["votes"]:
        raise SkillmoeError(f"min_votes must be at most votes={values['votes']}, got {values['min_votes']}")
    read_given(values.get("engine_options", ""), values.get("engine", "vllm"))
    if "store" in values:
        _check_store(values["store"], values.get("engine", ""))
    if "pool" in values:
        _check_methods(values, given)
    if "benchmark" in given or ("explain" in given and "benchmark" in values):
        asked = benchmarks.load(values["benchmark"], limit=values.get("limit", 0))
        if values.get("explain"):
            check_question(values["explain"], asked.loc[asked["split"] == "test", "question_id"])
    if "benchmarks" in given:
        load_benchmarks(values["benchmarks"], limit=values.get("limit", 0))
    if "vary" in values:
        _check_ablation(values)
    if "families" in values:
        check_pupil(Pupil(_names(values["families"]), values["school"], values["kind"]))


def _check_store(name: str, engine: str) -> None:
    """A store to replay must exist; otherwise it must be writable."""
    store, kept = project_root() / name, project_file(name) / "vllm"
    if engine == "replay" and not kept.is_dir():
        raise SkillmoeError(f"engine=replay needs stored generations, and there are none in {kept}")
    there = next(folder for folder in (store, *store.parents) if folder.exists())
    if engine != "replay" and not (there.is_dir() and os.access(there, os.W_OK)):
        raise SkillmoeError(f"store must be a folder that can be written to, got {store}")


def _check_methods(values: Mapping[str, Any], given: set[str]) -> None:
    """Methods and the baseline are known, allowed by the pool, and run together."""
    reasons = lineup.available(load_pool(values["pool"], locate=False), k=values.get("k", N_TOP))
    names = _names(values.get("methods", "all"))
    for name in [] if names == ("all",) else names:
        if name not in reasons:
            raise unknown("method", name, ["all", *reasons])
        if reasons[name]:
            raise SkillmoeError(f"method {name!r} {reasons[name]}")
    baseline, known = values.get("baseline", "symbolic_moe"), [*reasons, *lineup.BOUNDS]
    if baseline not in known:
        raise unknown("baseline", baseline, known)
    if "baseline" in given and names != ("all",) and baseline not in (*names, *lineup.BOUNDS):
        raise SkillmoeError(f"baseline {baseline!r} is not among methods={','.join(names)}")


def _check_ablation(values: Mapping[str, Any]) -> None:
    pool = load_pool(values["pool"], locate=False)
    router = preset_router(values["preset"], k=values["k"])
    found = ablations.settings(
        values["vary"], values["values"], pool, router, votes=values["votes"], aggregator=values["aggregator"]
    )
    for value in found[1:]:
        check_each({values["vary"]: value}, "ablation (values)")


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
