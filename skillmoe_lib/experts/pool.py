"""Experts and pools. An expert is a model *and* how it is prompted: two experts may share weights.

A pool is a YAML file under `data/pools/`, or anywhere else and given by its path; adding an expert
changes no code. Its keys are those of `PoolKeys` and `ExpertKeys` below. A model is `org/name` (a hub
id), `package:NAME` or `folder:PATH`, whose path is relative to the YAML file's folder or else to the
project's root.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from skillmoe_lib import hub
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.experts import devices, model_files
from skillmoe_lib.experts.servers import KNOWN, PREFIX, Server, find_server
from skillmoe_lib.generation import Model, Sampling
from skillmoe_lib.paths import project_files
from skillmoe_lib.presets import Conventions
from skillmoe_lib.settings import Count, Flag, Settings, Text, checked, read_yaml, told_as

DEFAULT_CONTEXT = 4096  # tokens, if neither the pool nor its pins nor the model's files name a length
TRIM = 0.05  # the paper's (docs/method.md 1.5)

Temperature = Annotated[
    float, Field(ge=0, le=2, allow_inf_nan=False), told_as("a number of at least 0 and at most 2")
]
Stop = Annotated[list[Annotated[str, Field(min_length=1)]], told_as("a list of texts, none of them empty")]
Share = Annotated[
    float, Field(gt=0, le=1, allow_inf_nan=False), told_as("a number above 0 and at most 1 (a share)")
]
AdapterName = Annotated[
    str, Field(pattern=r"^folder:\s*\S"), told_as("folder:PATH, text that names a folder with LoRA weights")
]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), told_as("a number of at least 0")]


class SamplingKeys(Settings):
    """How every expert of a pool is sampled, unless its own entry says otherwise."""

    temperature: Temperature = 0.7
    top_p: Annotated[
        float, Field(gt=0, le=1, allow_inf_nan=False), told_as("a number above 0 and at most 1")
    ] = 1.0
    max_tokens: Count
    stop: Stop | None = None


class PriceKeys(Settings):
    """What a paid service charges for `per_tokens` tokens; shown by `pool_table`."""

    input: Amount
    output: Amount
    currency: Text
    per_tokens: Count
    dated: Text | None = None
    source: Text | None = None


class ModelKeys(Settings):
    """The keyword model of a pool, or an expert; null means the pool's own setting."""

    name: Text | None = None
    model: Text
    revision: Text | None = None
    template: Literal["chat", "plain"] = "chat"
    examples: Text | None = None
    takes_examples: Flag = False
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: Count | None = None
    temperature: Temperature | None = None
    max_tokens: Count | None = None
    stop: Stop | None = None
    reasoning: Flag = False
    price: PriceKeys | None = None
    licence: Text | None = None
    note: Text | None = None
    served_by: Text | None = None
    quantization: Text | None = None
    adapter: AdapterName | None = None
    tensor_parallel_size: Count | None = None
    memory_share: Share | None = None


#: Keys about how the engine here holds a model: they say nothing of a model on a server.
OF_THIS_MACHINE = ("quantization", "adapter", "tensor_parallel_size", "memory_share")


class ExpertKeys(ModelKeys):
    """An expert of a pool."""

    name: Text


class PoolKeys(Settings):
    """A pool's YAML file."""

    name: Text
    description: Text | None = None
    sampling: SamplingKeys
    keyword_model: ModelKeys
    experts: list[ExpertKeys]
    aggregators: list[Text] | None = None
    baselines: list[ExpertKeys] | None = None
    servers: dict[Text, Server] | None = None
    trim: Annotated[
        float, Field(ge=0, lt=1, allow_inf_nan=False), told_as("a number of at least 0 and below 1 (a share)")
    ] = TRIM


class Example(Settings):
    """A worked example: a user turn and a model turn."""

    question: Text
    answer: Text


@dataclass(frozen=True)
class Expert:
    """A model and how it is prompted.

    `examples` are worked (question, answer) turns put before every question; `sampling.max_tokens`
    counts new tokens; `reasoning` marks models that write a `<think>` block first; `price` is what a
    paid service charges (see `data/pools/paper16.yaml`), empty for local weights. `takes_examples`: methods
    may show it worked examples of their own choice.
    """

    name: str
    model: Model
    sampling: Sampling
    examples: tuple[tuple[str, str], ...] = ()
    reasoning: bool = False
    price: Mapping[str, Any] = field(default_factory=dict, compare=False)
    conventions: Conventions = field(default_factory=Conventions)
    takes_examples: bool = False


@dataclass(frozen=True)
class Pool:
    """Experts by name in file order, the model that names skills, the candidates for aggregating,
    and the larger models that serve as baselines only. `trim` is the share of all slots below which an
    expert is dropped, if the preset leaves that to the pool (`presets`). `servers` are those that experts
    name as `served_by`."""

    name: str
    experts: Mapping[str, Expert]
    keyword_expert: Expert
    aggregators: tuple[str, ...] = ()
    baselines: Mapping[str, Expert] = field(default_factory=dict)
    trim: float = TRIM
    servers: Mapping[str, Server] = field(default_factory=dict)

    def under(self, conventions: Conventions) -> "Pool":
        """The pool with all experts prompted and read by these conventions (see `presets`)."""

        def bound(experts: Mapping[str, Expert]) -> dict[str, Expert]:
            return {name: replace(expert, conventions=conventions) for name, expert in experts.items()}

        return replace(self, experts=bound(self.experts), baselines=bound(self.baselines))

    def served(self) -> dict[str, Server]:
        """The servers that hold models of this pool, by name; empty if all its models are local."""
        members = (self.keyword_expert, *self.experts.values(), *self.baselines.values())
        paths = [expert.model.path for expert in members]
        return {name: server for name, server in self.servers.items() if f"{PREFIX}{name}" in paths}

    def with_options(self, options: str) -> "Pool":
        """The pool with these options of the engine (`Model.options`) for all models on this machine."""

        def given(experts: Mapping[str, Expert]) -> dict[str, Expert]:
            return {
                name: expert
                if expert.model.path.startswith(PREFIX)
                else replace(expert, model=replace(expert.model, options=options))
                for name, expert in experts.items()
            }

        (keyword_expert,) = given({"": self.keyword_expert}).values()
        return replace(
            self,
            experts=given(self.experts),
            keyword_expert=keyword_expert,
            baselines=given(self.baselines),
        )

    def subset(self, names: Sequence[str]) -> "Pool":
        """The pool reduced to these experts."""
        for name in names:
            if name not in self.experts:
                raise unknown("expert", name, self.experts)
        kept = {name: self.experts[name] for name in names}
        return replace(self, experts=kept, aggregators=tuple(a for a in self.aggregators if a in kept))


def load_pool(name: str, *, locate: bool = True) -> Pool:
    """Read a pool, by its name under `data/pools/` or by the path of a YAML file.

    With `locate`, every expert's model is found on this machine (unpacked if it comes as a
    package), and its revision and the number format that suits this machine (`devices`) are filled in;
    without it, only the file is read.

    Raises
    ------
    SkillmoeError
        Unknown pool; anything wrong in the file; a name twice; a model that is not there.
    """
    path = pool_file(name)
    if locate:
        load_pool(name, locate=False)  # report what is wrong in the file before a model is unpacked
    keys = checked(PoolKeys, read_yaml(path), path.name)
    if not keys.experts:
        raise SkillmoeError(f"{path.name}: experts: it must list at least one; got []")
    pins = hub.read_pins(hub.lock_path(path))
    servers = {**KNOWN, **(keys.servers or {})}
    for entry in [keys.keyword_model, *keys.experts, *(keys.baselines or ())]:
        if entry.served_by:
            find_server(entry.served_by, servers)
            for key in OF_THIS_MACHINE:
                if getattr(entry, key) is not None:
                    raise SkillmoeError(
                        f"{path.name}: {entry.name or 'keyword_model'}: {key} is for models on this machine; "
                        f"{entry.served_by!r} decides it for its own"
                    )

    def named(entries: Iterable[ExpertKeys], where: str) -> dict[str, Expert]:
        found: dict[str, Expert] = {}
        for entry in entries:
            if entry.name in found:
                raise SkillmoeError(
                    f"{path.name}: {where} has the name {entry.name!r} twice; names must be unique"
                )
            found[entry.name] = _expert(entry.name, entry, keys.sampling, pins, path, locate)
        return found

    experts = named(keys.experts, "experts")
    aggregators = keys.aggregators or list(experts)
    for i, aggregator in enumerate(aggregators):
        if aggregator not in experts:
            raise unknown(f"aggregator in {path.name}", aggregator, experts)
        if aggregator in aggregators[:i]:
            raise SkillmoeError(f"{path.name}: aggregators has the name {aggregator!r} twice")
    return Pool(
        name=keys.name,
        experts=experts,
        keyword_expert=_expert(
            keys.keyword_model.name or "keywords", keys.keyword_model, keys.sampling, pins, path, locate
        ),
        aggregators=tuple(aggregators),
        baselines=named(keys.baselines or (), "baselines"),
        trim=keys.trim,
        servers=servers,
    )


def pool_file(name: str) -> Path:
    """The YAML file of a pool, given by its name under `data/pools/` or by a path."""
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return Path(name)
    known = project_files("data/pools", "*.yaml")
    known = {stem: path for stem, path in known.items() if "." not in stem}
    if name not in known:
        raise unknown("pool", name, known)
    return known[name]


def _expert(
    name: str, keys: ModelKeys, pool: SamplingKeys, pins: Mapping[str, hub.Pin], path: Path, locate: bool
) -> Expert:
    pin = pins.get(keys.model)
    revision = hub.commit_of(keys.model, keys.revision, pins)
    files = None
    if locate and not keys.served_by:
        files = model_files.locate(keys.model, revision, beside=path)
    adapter = model_files.locate_adapter(keys.adapter, beside=path) if files and keys.adapter else None
    if keys.served_by:  # which files the server holds is its own affair
        revision = keys.revision or revision or f"served by {keys.served_by}"
    model = Model(
        source=keys.model,
        revision=files.revision if files else revision,
        template=keys.template,
        max_model_len=keys.max_model_len
        or (pin and pin.context_tokens)
        or (files and model_files.context_tokens(files.path))
        or DEFAULT_CONTEXT,
        dtype=devices.number_format(keys.dtype, files.path) if files else keys.dtype,
        quantization=keys.quantization or "",
        adapter=f"{keys.adapter}@{adapter.revision}" if adapter else keys.adapter or "",
        path=str(files.path) if files else f"{PREFIX}{keys.served_by}" if keys.served_by else "",
        adapter_path=str(adapter.path) if adapter else "",
        adapter_rank=adapter.rank if adapter else 0,
        tensor_parallel_size=keys.tensor_parallel_size or 0,
        memory_share=keys.memory_share or 0.0,
    )
    sampling = Sampling(
        temperature=pool.temperature if keys.temperature is None else keys.temperature,
        top_p=pool.top_p,
        max_tokens=keys.max_tokens or pool.max_tokens,
        stop=tuple(pool.stop or () if keys.stop is None else keys.stop),
    )
    return Expert(
        name,
        model,
        sampling,
        examples=read_examples(keys.examples) if keys.examples else (),
        reasoning=keys.reasoning,
        price=keys.price.model_dump(exclude_none=True) if keys.price else {},
        takes_examples=keys.takes_examples,
    )


def read_examples(name: str) -> tuple[tuple[str, str], ...]:
    """Worked examples from `data/examples/NAME.yaml`: a list of `{question, answer}`."""
    known = project_files("data/examples", "*.yaml")
    if name not in known:
        raise unknown("examples file", name, known)
    turns = checked(list[Example], read_yaml(known[name]), known[name].name)
    return tuple((turn.question.strip(), turn.answer.strip()) for turn in turns)


def pool_table(pool: Pool) -> pd.DataFrame:
    """The pool's experts, keyword model and baselines as a frame, for showing.

    `price` is null for local weights, which cost nothing but time.
    """
    return pd.DataFrame(
        {
            "expert": expert.name,
            "model": " + ".join(filter(None, (expert.model.source, expert.model.adapter.partition("@")[0]))),
            "revision": expert.model.revision,
            "asked": f"{expert.model.template}, {len(expert.examples)} worked examples",
            "max_tokens": expert.sampling.max_tokens,
            "max_model_len": expert.model.max_model_len,
            "aggregates": expert.name in pool.aggregators,
            "price": "{input} in, {output} out {currency} for {per_tokens} tokens".format(**expert.price)
            if expert.price
            else None,
        }
        for expert in (*pool.experts.values(), pool.keyword_expert, *pool.baselines.values())
    )
