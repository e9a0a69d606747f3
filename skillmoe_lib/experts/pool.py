"""Experts and pools. An expert is a model *and* how it is asked: two experts may share weights.

A pool is a YAML file under `data/pools/`; adding an expert touches no code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from skillmoe_lib import hub
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.experts import model_files
from skillmoe_lib.generation import Model, Sampling
from skillmoe_lib.paths import project_files
from skillmoe_lib.presets import Conventions

DEFAULT_CONTEXT = 4096  # tokens, where neither the pool nor its pins nor the model's files say
_POOL_KEYS = {
    "name", "description", "sampling", "keyword_model", "experts", "aggregators", "baselines", "trim",
}  # fmt: skip
TRIM = 0.05  # the paper's (METHOD 1.5)
_SAMPLING_KEYS = {"temperature", "top_p", "max_tokens", "stop"}
_EXPERT_KEYS = {
    "name", "model", "revision", "template", "examples", "dtype", "max_tokens", "max_model_len",
    "temperature", "stop", "reasoning", "price", "licence", "note", "served_by",
}  # fmt: skip
_PRICE_KEYS = {"input", "output", "currency", "per_tokens", "dated", "source"}
_NUMBERS: Mapping[str, tuple[int, Any]] = {
    "temperature": (0, (int, float)),
    "top_p": (0, (int, float)),
    "max_tokens": (1, (int,)),
    "max_model_len": (1, (int,)),
    "trim": (0, (int, float)),
}


@dataclass(frozen=True)
class Expert:
    """A model and how it is asked.

    `examples` are worked (question, answer) turns put before every question; `sampling.max_tokens`
    counts new tokens; `reasoning` marks models that write a `<think>` block first; `price` is what a
    paid service asks (see `data/pools/paper16.yaml`), empty for local weights.
    """

    name: str
    model: Model
    sampling: Sampling
    examples: tuple[tuple[str, str], ...] = ()
    reasoning: bool = False
    price: Mapping[str, Any] = field(default_factory=dict, compare=False)
    conventions: Conventions = field(default_factory=Conventions)


@dataclass(frozen=True)
class Pool:
    """Experts by name in file order, the model that names skills, the candidates for aggregating,
    and the larger models that serve as baselines only. `trim` is the share of all slots below which an
    expert is not worth a load (`SkillRouter`); it depends on how narrow a pool's experts are."""

    name: str
    experts: Mapping[str, Expert]
    keyword_expert: Expert
    aggregators: tuple[str, ...] = ()
    baselines: Mapping[str, Expert] = field(default_factory=dict)
    trim: float = TRIM

    def under(self, conventions: Conventions) -> "Pool":
        """The pool with all experts asked and read by these conventions (see `presets`)."""

        def bound(experts: Mapping[str, Expert]) -> dict[str, Expert]:
            return {name: replace(expert, conventions=conventions) for name, expert in experts.items()}

        return replace(self, experts=bound(self.experts), baselines=bound(self.baselines))

    def subset(self, names: Sequence[str]) -> "Pool":
        """The pool with these experts only."""
        for name in names:
            if name not in self.experts:
                raise unknown("expert", name, self.experts)
        kept = {name: self.experts[name] for name in names}
        return replace(self, experts=kept, aggregators=tuple(a for a in self.aggregators if a in kept))


def load_pool(name: str, *, locate: bool = True) -> Pool:
    """Read a pool, by its name under `data/pools/` or by the path of a YAML file.

    With `locate`, every expert's model is found on this machine (unpacked where it comes as a
    package), and its revision filled in; without, only what the file says is read.

    Raises
    ------
    SkillmoeError
        Unknown pool; a misspelt or missing key; a name twice; a model that is not there.
    """
    path = Path(name)
    if not (name.endswith((".yaml", ".yml")) and path.is_file()):
        known = {
            stem: path for stem, path in project_files("data/pools", "*.yaml").items() if "." not in stem
        }
        if name not in known:
            raise unknown("pool", name, known)
        path = known[name]
    if locate:
        load_pool(name, locate=False)  # what is wrong in the file is told before a model is unpacked
    pool = _read_yaml(path)
    _check_keys(pool, _POOL_KEYS, {"name", "sampling", "keyword_model", "experts"}, str(path.name))
    _check_keys(pool["sampling"], _SAMPLING_KEYS, {"max_tokens"}, f"{path.name}: sampling")
    _check_numbers({"trim": pool.get("trim", TRIM)}, path.name)
    pinned = hub.read_pins(hub.lock_path(path))

    def expert(entry: Mapping[str, Any], where: str) -> Expert:
        _check_keys(entry, _EXPERT_KEYS, {"name", "model"}, where)
        _check_keys(entry.get("price") or {}, _PRICE_KEYS, set(), f"{where}: price")
        sampling = {
            key: value for key, value in {**pool["sampling"], **entry}.items() if key in _SAMPLING_KEYS
        }
        sampling["stop"] = tuple(_entries(sampling.get("stop"), f"{where}: stop"))
        _check_numbers({"max_model_len": entry.get("max_model_len") or 1, **sampling}, where)
        template = entry.get("template", "chat")
        if template not in ("chat", "plain"):
            raise unknown(f"template of expert {entry['name']!r}", template, ["chat", "plain"])
        pin = pinned.get(entry["model"])
        revision = entry.get("revision") or (pin.revision if pin else "")
        files = (
            model_files.locate(entry["model"], revision) if locate and not entry.get("served_by") else None
        )
        model = Model(
            source=entry["model"],
            revision=files.revision if files else revision,
            template=template,
            max_model_len=entry.get("max_model_len")
            or (pin and pin.context_tokens)
            or (files and model_files.context_tokens(files.path))
            or DEFAULT_CONTEXT,
            dtype=entry.get("dtype", "auto"),
            path=str(files.path) if files else "",
        )
        return Expert(
            entry["name"],
            model,
            Sampling(**sampling),
            examples=read_examples(entry["examples"]) if entry.get("examples") else (),
            reasoning=bool(entry.get("reasoning", False)),
            price=entry.get("price") or {},
        )

    def named(key: str) -> dict[str, Expert]:
        found: dict[str, Expert] = {}
        for i, entry in enumerate(_entries(pool.get(key), f"{path.name}: {key}"), start=1):
            made = expert(entry, f"{path.name}: {key}[{i}]")
            if made.name in found:
                raise SkillmoeError(
                    f"{path.name}: {key} has the name {made.name!r} twice; names must be unique"
                )
            found[made.name] = made
        return found

    experts = named("experts")
    if not experts:
        raise SkillmoeError(f"{path.name}: the pool has no experts; it must list at least one")
    for aggregator in pool.get("aggregators") or ():
        if aggregator not in experts:
            raise unknown(f"aggregator in {path.name}", aggregator, experts)
    where = f"{path.name}: keyword_model"
    _check_keys(pool["keyword_model"], _EXPERT_KEYS, {"model"}, where)
    keyword_model = expert({"name": "keywords", **pool["keyword_model"]}, where)
    aggregators = tuple(pool.get("aggregators") or experts)
    return Pool(pool["name"], experts, keyword_model, aggregators, named("baselines"), pool.get("trim", TRIM))


def read_examples(name: str) -> tuple[tuple[str, str], ...]:
    """Worked examples from `data/examples/NAME.yaml`: a list of `{question, answer}`."""
    known = project_files("data/examples", "*.yaml")
    if name not in known:
        raise unknown("examples file", name, known)
    path = known[name]
    turns = _entries(_read_yaml(path), path.name)
    for i, turn in enumerate(turns, start=1):
        _check_keys(turn, {"question", "answer"}, {"question", "answer"}, f"{path.name}[{i}]")
    return tuple((str(turn["question"]).strip(), str(turn["answer"]).strip()) for turn in turns)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SkillmoeError(f"{path.name} is not readable as YAML: {' '.join(str(error).split())}") from error


def _entries(value: Any, where: str) -> list[Any]:
    if not isinstance(value or [], list):
        raise SkillmoeError(f"{where}: it must be a list; got {value!r}")
    return value or []


def _check_numbers(values: Mapping[str, Any], where: str) -> None:
    """YAML reads `1e-3` and `4,096` as text, which only the engine would trip over."""
    for key, (low, kinds) in _NUMBERS.items():
        value: Any = values.get(key, 1)
        if type(value) not in kinds or value < low:  # a truth value is no number
            kind = "number" if float in kinds else "whole number"
            raise SkillmoeError(f"{where}: {key} must be a {kind} of at least {low}; got {value!r}")


def _check_keys(entry: Any, allowed: set[str], required: set[str], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise SkillmoeError(
            f"{where}: it must be a mapping with the keys {', '.join(sorted(allowed))}; got {entry!r}"
        )
    for key in entry:
        if key not in allowed:
            raise unknown(f"key in {where}", key, allowed)
    for key in sorted(required):
        if entry.get(key) is None:
            raise SkillmoeError(f"{where}: the key {key!r} is missing")


def pool_table(pool: Pool) -> pd.DataFrame:
    """The pool's experts and keyword model as a frame, for showing."""
    return pd.DataFrame(
        {
            "expert": expert.name,
            "model": expert.model.source,
            "revision": expert.model.revision,
            "asked": f"{expert.model.template}, {len(expert.examples)} worked examples",
            "max_tokens": expert.sampling.max_tokens,
            "max_model_len": expert.model.max_model_len,
            "aggregates": expert.name in pool.aggregators,
        }
        for expert in (*pool.experts.values(), pool.keyword_expert)
    )
