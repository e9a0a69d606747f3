"""The generation store: every text that a model wrote, append-only, indexed by request id.

`parts/` holds immutable parquet parts, each written whole or not at all, with the batch that made it
(engine, versions, seconds) in its metadata. Nothing is updated. Two processes may append at once; of two
generations of one request the earlier one counts. A part's name is the time and a digest of its content;
a damaged part is moved to `set_aside/` with a warning, and its generations count as missing. What the
prompts of an older part were is recorded beside it, under `layouts/` (`migration`).

What a model is generating now goes to `open/`, into the journal of its load: one line per generation, on
disk before the next one is taken, so that a killed run loses nothing. A journal becomes a part at regular
intervals and when its load ends; what a killed run left becomes a part when the next run starts (`journal`).

Opening a store reads only the request ids. A part's digest is compared when its texts are first read.
"""

import contextlib
import hashlib
import json
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.files import replace_file
from skillmoe_lib.generation import Failure, Generation, Message, Model, Request, Sampling
from skillmoe_lib.inference.journal import JournalFile, entries, lock_left
from skillmoe_lib.tables import as_parquet

_COLUMNS: Mapping[str, pyarrow.DataType] = {
    "request_id": pyarrow.string(),
    "stage": pyarrow.string(),
    "question_id": pyarrow.string(),
    "expert": pyarrow.string(),
    "source": pyarrow.string(),
    "revision": pyarrow.string(),
    "template": pyarrow.string(),
    "max_model_len": pyarrow.int64(),
    "dtype": pyarrow.string(),
    "quantization": pyarrow.string(),
    "adapter": pyarrow.string(),
    "options": pyarrow.string(),
    "messages": pyarrow.string(),
    "temperature": pyarrow.float64(),
    "top_p": pyarrow.float64(),
    "max_tokens": pyarrow.int64(),
    "stop": pyarrow.string(),
    "seed": pyarrow.int64(),
    "sample": pyarrow.int64(),
    "text": pyarrow.string(),
    "finish_reason": pyarrow.string(),
    "prompt_tokens": pyarrow.int64(),
    "output_tokens": pyarrow.int64(),
    "cached_tokens": pyarrow.int64(),
    "rendered": pyarrow.string(),
    "batch_id": pyarrow.string(),
}
_FAILURE_COLUMNS = [
    "request_id", "stage", "question_id", "expert", "source", "reason", "status", "batch_id",
]  # fmt: skip
_BATCH_COLUMNS = [
    "batch_id", "model", "engine", "n_requests", "load_s", "generate_s", "devices", "versions", "started_at",
    "swapped", "dtype", "peak_bytes",
]  # fmt: skip
_DIGITS = 16  # of a part's digest, in its name
_OF_A_MODEL = [field.name for field in fields(Model) if field.compare]


class StoreWarning(UserWarning):
    """A stored file could not be read and was set aside."""


@dataclass(frozen=True)
class Batch:
    """One load of one model: the engine, its devices, and the seconds since the last append.

    `generate_s` is the wall time of the requests appended with it; `load_s` that of the whole load;
    `devices` the number of GPUs (or 1 for a CPU) held during it; `swapped` says whether the weights went
    into a process that already held a model (null: not recorded). `dtype` is the number format of the weights
    in memory and `layout` what laid the prompts out (`Engine.layout`); "" if not recorded.
    `peak_bytes` is the most memory that the engine's process had held by then; 0 if not recorded.
    """

    batch_id: str
    model: str
    engine: str
    load_s: float
    generate_s: float
    devices: int
    versions: Mapping[str, str]
    started_at: str
    swapped: bool | None = None
    dtype: str = ""
    layout: str = ""
    peak_bytes: int = 0


class GenerationStore:
    """Append-only store under `root` (made at the first append)."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._forget()

    def _forget(self) -> None:
        self._parts: list[Path] = []
        self._layouts: list[str] = []  # of each part
        self._part_of: dict[str, int] = {}
        self._seen: set[Path] = set()
        self._whole: set[Path] = set()  # parts whose content matches the digest in their name

    # -- reading ---------------------------------------------------------------------------------

    def known(self, request_ids: Iterable[str]) -> set[str]:
        """The requests that the store has an answer to; reads no text."""
        self._refresh()
        return {request_id for request_id in request_ids if request_id in self._part_of}

    def get(self, request_ids: Iterable[str]) -> dict[str, Generation]:
        """The generations that the store has for these requests."""
        self._refresh()
        request_ids = list(request_ids)
        wanted: dict[int, list[str]] = {}
        for request_id in request_ids:
            if (number := self._part_of.get(request_id)) is not None:
                wanted.setdefault(number, []).append(request_id)
        found: dict[str, Generation] = {}
        columns = [field.name for field in fields(Generation)]
        for part, ids in [(self._parts[number], ids) for number, ids in wanted.items()]:
            table = self._read(part, columns=columns)
            if table is None:
                return self.get(request_ids)  # another part may have them too
            asked = pyarrow.compute.is_in(table["request_id"], value_set=pyarrow.array(ids))
            rows = table.filter(asked).to_pylist()
            found.update(
                {r["request_id"]: Generation(**{**r, "rendered": r.get("rendered") or ""}) for r in rows}
            )
        return found

    def generations(self, columns: Sequence[str] = tuple(_COLUMNS)) -> pd.DataFrame:
        """Every generation, one row per request, with the fields of its request and its `batch_id`.

        Name only the `columns` needed if there may be many rows: texts and messages take the memory.
        """
        self._refresh()
        read = list(dict.fromkeys(["request_id", *columns]))
        empty = pyarrow.schema([(name, _COLUMNS[name]) for name in read]).empty_table()
        tables = [table for part in sorted(self._seen) if (table := self._read(part, read)) is not None]
        whole = pyarrow.concat_tables([empty, *tables], promote_options="default")
        frame: pd.DataFrame = whole.to_pandas()
        return frame.drop_duplicates("request_id", ignore_index=True)[list(columns)]

    def layout_of(self, request_id: str) -> str:
        """What laid out the prompt of a stored request (`Batch.layout`); "" if that is not known."""
        number = self._part_of.get(request_id)
        return "" if number is None else self._layouts[number]

    def rendered(self, request_ids: Iterable[str]) -> dict[str, str]:
        """What the engine got for these stored requests (`Generation.rendered`), where it is known."""
        self._refresh()
        wanted: dict[Path, list[str]] = {}
        for request_id in request_ids:
            if (number := self._part_of.get(request_id)) is not None:
                wanted.setdefault(self._parts[number], []).append(request_id)
        found: dict[str, str] = {}
        for part, ids in wanted.items():
            added = self._added(part)
            table = self._read(part, ["request_id", "rendered"]) if added is None else added
            if table is not None and "rendered" in table.column_names:
                keys, values = table["request_id"].to_pylist(), table["rendered"].to_pylist()
                known = dict(zip(keys, values, strict=True))
                found.update({key: known[key] for key in ids if known.get(key)})
        return found

    def models(self) -> set[Model]:
        """The models whose generations are stored (without the paths of their files)."""
        self._refresh()
        tables = [
            table for part in sorted(self._seen) if (table := self._read(part, _OF_A_MODEL)) is not None
        ]
        rows = (
            row for table in tables for row in table.group_by(table.column_names).aggregate([]).to_pylist()
        )
        return {_model_of(row) for row in rows}

    def batches(self) -> pd.DataFrame:
        """One row per load: model, engine, devices, number of requests, and seconds."""
        self._refresh()
        rows = []
        for part in sorted(self._seen):
            table = self._read(part, columns=["batch_id"])
            if table is not None:
                batch = json.loads(table.schema.metadata[b"batch"])
                rows.append(
                    {**batch, "versions": json.dumps(batch["versions"]), "n_requests": table.num_rows}
                )
        frame = pd.DataFrame(rows, columns=_BATCH_COLUMNS)
        frame["dtype"] = frame["dtype"].astype("string").fillna("")  # older batches have none
        frame["peak_bytes"] = frame["peak_bytes"].astype("Int64").fillna(0)
        whole = dict.fromkeys(_BATCH_COLUMNS[1:], "first")
        whole.update(n_requests="sum", generate_s="sum", peak_bytes="max")
        return frame.groupby("batch_id", sort=False, as_index=False).agg(whole)[_BATCH_COLUMNS]

    def failures(self) -> pd.DataFrame:
        """Requests that were tried and failed, with the reason; the next run tries them again."""
        parts = sorted((self.root / "failures").glob("*.parquet"))
        tables = [table for part in parts if (table := self._read(part)) is not None]
        schema = pyarrow.schema([(column, pyarrow.string()) for column in _FAILURE_COLUMNS])
        whole = pyarrow.concat_tables([schema.empty_table(), *tables], promote_options="default")
        failures: pd.DataFrame = whole.select(_FAILURE_COLUMNS).to_pandas()
        return failures.fillna({"status": "not_run"})  # parts of version 0.1 have no such column

    def failed(self) -> dict[str, Failure]:
        """Request id -> its last failure, for requests that were never answered."""
        listed = self.failures()[["request_id", "reason", "status"]].to_numpy()
        last = {row[0]: Failure(*row) for row in listed}
        return {request_id: last[request_id] for request_id in last.keys() - self.known(last)}

    def set_aside(self) -> list[Path]:
        """Files that could not be read and were moved out of the way; kept, never deleted."""
        return sorted((self.root / "set_aside").glob("*"))

    # -- writing ---------------------------------------------------------------------------------

    def probe(self) -> None:
        """Raise `SkillmoeError` if the store cannot be written to, before anything is generated."""
        place = self.root / f".{uuid.uuid4().hex}.probe"
        replace_file(place, b"")
        place.unlink()

    def append(self, pairs: Sequence[tuple[Request, Generation]], batch: Batch) -> None:
        """Write finished generations and their batch as one new part; whole or not at all."""
        self._write_rows([_row(request, generation, batch.batch_id) for request, generation in pairs], batch)

    def journal(self, batch: Batch) -> "Journal":
        """Begin a journal for the generations of one load."""
        return Journal(self, batch)

    def append_failures(self, pairs: Sequence[tuple[Request, Failure]], batch_id: str) -> None:
        """Record failed requests."""
        rows = [
            {**request_row(request), **failure._asdict(), "batch_id": batch_id} for request, failure in pairs
        ]
        schema = pyarrow.schema([(column, pyarrow.string()) for column in _FAILURE_COLUMNS])
        _write_part(self.root / "failures", pyarrow.Table.from_pylist(rows, schema=schema))

    def recover(self) -> None:
        """Turn the journals that killed runs left into parts."""
        for path in sorted((self.root / "open").glob("*.jsonl")):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:  # or another was faster
                if not lock_left(stream):
                    continue  # a run that is still going
                batch, rows, n_torn = entries(stream)
                batch.pop("runner", None)
                # A kill just before the end of a journal; the engine's process and the runner.
                known = self.known(row["request_id"] for row in rows)
                once = {row["request_id"]: row for row in rows if row["request_id"] not in known}
                rows = list(once.values())
                if rows and batch:
                    seconds = sum(row["generate_s"] for row in rows)
                    self._write_rows(rows, Batch(**{**batch, "generate_s": seconds}))
                if n_torn or (rows and not batch):
                    self._put_aside(path, f"{n_torn or len(rows)} of its lines are torn")
                else:
                    with contextlib.suppress(PermissionError):  # Windows, while it is open
                        path.unlink()

    # -- parts of earlier versions ---------------------------------------------------------------

    def without_layout(self) -> Iterator[tuple[Path, Batch, list[tuple[Request, int]]]]:
        """Parts whose prompts were laid out by something that is not recorded.

        Each with its batch and its requests, and how many tokens the prompt of each had.
        """
        self._refresh()
        for part in [part for part, known in zip(self._parts, self._layouts, strict=True) if not known]:
            if (table := self._read(part, [name for name in _COLUMNS if name != "text"])) is not None:
                batch = Batch(**json.loads(table.schema.metadata[b"batch"]))
                yield part, batch, [(request_of(row), row["prompt_tokens"]) for row in table.to_pylist()]

    def add_layout(self, part: Path, layout: str, rendered: Mapping[str, str]) -> None:
        """Record beside a part what its prompts are, as far as that could be found out; append-only."""
        columns = {"request_id": list(rendered), "rendered": list(rendered.values())}
        note = {b"batch": json.dumps({"layout": layout}).encode()}
        table = pyarrow.table(columns).replace_schema_metadata(note)
        replace_file(self._beside(part), as_parquet(table))
        self._forget()

    def _beside(self, part: Path) -> Path:
        return self.root / "layouts" / part.name

    def _added(self, part: Path) -> pyarrow.Table | None:
        """What `add_layout` recorded of a part."""
        try:
            with pyarrow.parquet.ParquetFile(self._beside(part), page_checksum_verification=True) as file:
                return file.read()
        except FileNotFoundError:
            return None
        except (OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:
            self._put_aside(self._beside(part), str(error).splitlines()[0])
            return None

    # -- inside ----------------------------------------------------------------------------------

    def _write_rows(self, rows: Sequence[Mapping[str, Any]], batch: Batch) -> None:
        table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(_COLUMNS.items()))
        note = {b"batch": json.dumps(asdict(batch)).encode()}
        _write_part(self.root / "parts", table.replace_schema_metadata(note))

    def _refresh(self) -> None:
        """Index the parts that appeared since the last look; names sort by time, so the earliest wins."""
        while new := sorted(set((self.root / "parts").glob("*.parquet")) - self._seen):
            for part in new:
                table = self._read(part, columns=["request_id"], compare=False)
                if table is None:
                    break  # the index was dropped: build it again
                self._seen.add(part)
                self._parts.append(part)
                added = None if _layout(table) else self._added(part)
                self._layouts.append(_layout(table if added is None else added))
                number = len(self._parts) - 1
                for request_id in table.column("request_id").to_pylist():
                    first = self._part_of.setdefault(request_id, number)
                    if part < self._parts[first]:
                        self._part_of[request_id] = number

    def _read(
        self, part: Path, columns: list[str] | None = None, *, compare: bool = True
    ) -> pyarrow.Table | None:
        """Read a part; a damaged one is set aside, with a warning, and gives None.

        `compare`: its content must match the digest in its name (checked once).
        """
        try:
            if compare and part not in self._whole:
                expected = part.stem.rpartition("-")[2]
                if len(expected) == _DIGITS and expected != _digest_of(part):
                    raise pyarrow.ArrowInvalid("its content does not fit the digest in its name")
                self._whole.add(part)
            with pyarrow.parquet.ParquetFile(part, page_checksum_verification=True) as file:
                # Parts of earlier versions have fewer columns.
                return file.read(columns and [name for name in columns if name in file.schema_arrow.names])
        except (FileNotFoundError, pyarrow.ArrowException, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
        except OSError as error:
            if error.errno:  # such as too many open files: no reason to generate anything again
                raise SkillmoeError(f"cannot read {part}: {error.strerror}") from error
            reason = str(error).splitlines()[0]  # a page that does not match its checksum
        self._forget()  # other parts may have its requests: index them again
        self._put_aside(part, reason)
        return None

    def _put_aside(self, path: Path, reason: str) -> None:
        aside = self.root / "set_aside" / path.name
        aside.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.replace(aside)
        warnings.warn(f"{path.name} cannot be read ({reason}): moved to {aside}", StoreWarning, stacklevel=4)


class Journal:
    """The generations of one load since its last part."""

    def __init__(self, store: GenerationStore, batch: Batch) -> None:
        self.store, self.batch = store, batch
        self.file = self.another_file()
        self._rows: list[dict[str, Any]] = []  # what is in the file, or could not be written yet (full disk)
        self._n_written = 0

    def write(self, request: Request, generation: Generation, generate_s: float) -> None:
        """Put a generation on disk; `generate_s` are the seconds since the one before.

        If that fails it is kept, and written with the next one or by `seal`.
        """
        self._rows.append({**_row(request, generation, self.batch.batch_id), "generate_s": generate_s})
        try:
            self._write_left()
        except OSError as error:
            raise SkillmoeError(
                f"cannot write {self.file.path}: {error.strerror or error}; what was stored is intact"
            ) from error

    def another_file(self) -> JournalFile:
        """For the engine's own process: what it has finished and not handed over yet."""
        return JournalFile(self.store.root / "open", asdict(self.batch))

    def seal(self, batch: Batch) -> None:
        """Turn it into a part, under `batch`; nothing is dropped before that is on disk."""
        if self._rows:
            self.store._write_rows(self._rows, batch)
        self.file.remove()
        self._rows, self._n_written = [], 0

    def close(self) -> None:
        """Leave a journal that could not be sealed: the next run turns it into a part."""
        with contextlib.suppress(OSError):
            self._write_left()
        self.file.close()

    def _write_left(self) -> None:
        while self._n_written < len(self._rows):
            self.file.append(self._rows[self._n_written])
            self._n_written += 1


def _digest_of(part: Path) -> str:
    with part.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:_DIGITS]


def _write_part(folder: Path, table: pyarrow.Table) -> None:
    data = as_parquet(table)
    digest = hashlib.sha256(data).hexdigest()[:_DIGITS]
    replace_file(folder / f"{time.time_ns():020d}-{digest}.parquet", data)


def _layout(table: pyarrow.Table) -> str:
    try:
        return str(json.loads((table.schema.metadata or {})[b"batch"]).get("layout", ""))
    except (KeyError, ValueError):  # damaged: found when its content is read
        return ""


def _row(request: Request, generation: Generation, batch_id: str) -> dict[str, Any]:
    if request.id != generation.request_id:
        raise SkillmoeError(f"generation {generation.request_id} does not answer request {request.id}")
    return {**request_row(request), **vars(generation), "batch_id": batch_id}


def request_row(request: Request) -> dict[str, Any]:
    """The fields of a request as the store's columns."""
    sampling = vars(request.sampling)  # `asdict` would copy each value, which takes half of a request's time
    return {
        "request_id": request.id,
        "stage": request.stage,
        "question_id": request.question_id,
        "expert": request.expert,
        **{name: getattr(request.model, name) for name in _OF_A_MODEL},
        **sampling,
        "messages": json.dumps([list(message) for message in request.messages], ensure_ascii=False),
        "stop": json.dumps(sampling["stop"]),
        "sample": request.sample,
    }


def _model_of(row: Mapping[str, Any]) -> Model:
    """The model of a stored row; rows of earlier versions lack some of its fields, which were empty then."""
    return Model(**{name: row[name] for name in _OF_A_MODEL if row.get(name) is not None})


def request_of(row: Mapping[str, Any]) -> Request:
    """The request of a stored row (without the path of its model's files)."""
    sampling = {name: row[name] for name in ("temperature", "top_p", "max_tokens", "seed")}
    return Request(
        row["stage"],
        row["question_id"],
        row["expert"],
        _model_of(row),
        tuple(Message(*turn) for turn in json.loads(row["messages"])),
        Sampling(**sampling, stop=tuple(json.loads(row["stop"]))),
        row["sample"],
    )
