"""Adds to a store of earlier versions what its prompts were, as far as that can still be found out.

The prompts are rendered again from the stored messages with the model's files, if these have the revision
that is stored. The number of tokens was recorded with each generation: where it is the same, the prompt
counts as the one that the model got; where it is not, the prompt was another one. Generations are not
touched; what is found is written beside each part (docs/decisions/0008-request-identity.md).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import pandas as pd

from skillmoe_lib import progress
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.model_files import ModelFiles
from skillmoe_lib.generation import Model, Request
from skillmoe_lib.inference.engines import rendering
from skillmoe_lib.inference.identity import ANOTHER
from skillmoe_lib.inference.store import GenerationStore

Locate = Callable[[str, str], ModelFiles]
#: Columns of the table that `migrate` returns; `reason` says why generations are left as they are.
COLUMNS = ("model", "revision", "n_same", "n_another", "n_left", "reason")


class _Found(NamedTuple):
    layout: str
    rendered: dict[str, str]
    reason: str = ""


def migrate(store: GenerationStore, locate: Locate) -> pd.DataFrame:
    """Record what the prompts of older parts were; parts that were resolved before are left out.

    Parameters
    ----------
    locate
        Finds a model's files from its source and revision without fetching any, such as
        `model_files.locate`.

    Returns
    -------
    One row per model and reason: `COLUMNS`. n_same: prompts rendered with the recorded number of tokens;
    n_another: with another number, so a run that asks for them is refused; n_left: not resolved (no files
    of that revision, a template that inserts the date ...), used as before.
    """
    find = lru_cache(maxsize=None)(lambda source, revision: _files(locate, source, revision))
    rows = []
    parts = list(store.without_layout())
    with progress.bar(len(parts), "rendering stored prompts", unit="part") as bar:
        for part, batch, asked in parts:
            model = asked[0][0].model
            found = _Found("", {}, f"engine {batch.engine!r} does not lay prompts out")
            if batch.engine == "vllm":
                found = _resolved(asked, *find(model.source, model.revision))
            if found.rendered:
                store.add_layout(part, found.layout, found.rendered)
            n_another = sum(value == ANOTHER for value in found.rendered.values())
            n_same = len(found.rendered) - n_another
            n_left = len(asked) - len(found.rendered)
            rows.append((model.source, model.revision, n_same, n_another, n_left, found.reason))
            bar.update(1)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    if table.empty:
        return table
    return table.groupby(["model", "revision", "reason"], sort=False, as_index=False).sum()[list(COLUMNS)]


def _files(locate: Locate, source: str, revision: str) -> tuple[str, str]:
    """The folder of the model's files, or "" and why it is of no use."""
    try:
        found = locate(source, revision)
    except SkillmoeError as error:
        return "", str(error)
    if found.revision != revision:
        return "", f"its files here are revision {found.revision}"
    return str(found.path), ""


def _resolved(asked: Sequence[tuple[Request, int]], path: str, reason: str) -> _Found:
    """The rendered prompts of one part."""
    if reason:
        return _Found("", {}, reason)
    model: Model = replace(asked[0][0].model, path=path)
    rendered, dated = {}, False
    try:
        for request, n_tokens in asked:
            here = replace(request, model=replace(request.model, path=path))
            if rendering.inserts_date(here.model):
                dated = True
                continue
            ids = rendering.token_ids(here.model, here.messages)
            same = len(ids) == n_tokens
            rendered[request.id] = rendering.identity(here, ids) if same else ANOTHER
    except Exception as error:  # a damaged tokenizer, a template that refuses these messages
        return _Found("", {}, " ".join(str(error).split())[:200])
    layout = rendering.layout(model)
    if ANOTHER in rendered.values():
        layout = f"in part {ANOTHER}"  # never that of now: each request is compared
    return _Found(layout, rendered, "its chat template inserts the date" if dated else "")
