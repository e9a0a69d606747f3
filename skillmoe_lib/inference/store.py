"""The generation store: every text a model ever wrote, append-only, keyed by what was asked.

A folder of immutable parquet parts, each written under a temporary name, synced and renamed, with the
batch that made it (engine, versions, seconds) in its metadata: one file, one atomic write. Nothing is
updated. Two processes may append at once; of two generations of one request the earlier one counts. A
part's name is the time and a digest of its content; one that is torn is moved to `set_aside/` with a
warning, and what it held counts as missing.
"""

import contextlib
import hashlib
import json
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import Failure, Generation, Request
from skillmoe_lib.tables import as_parquet, replace_file

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
    "batch_id": pyarrow.string(),
}
_FAILURE_COLUMNS = ["request_id", "stage", "question_id", "expert", "source", "reason", "batch_id"]
_BATCH_COLUMNS = [
    "batch_id", "model", "engine", "n_requests", "load_s", "generate_s", "devices", "versions", "started_at",
    "swapped",
]  # fmt: skip
_DIGITS = 16  # of a part's digest, in its name


class StoreWarning(UserWarning):
    """Something stored could not be read and was set aside."""


@dataclass(frozen=True)
class Batch:
    """One load of one model: who generated, on what, and the seconds since the last append.

    `generate_s` is the wall time of the requests appended with it; `load_s` that of the whole load;
    `devices` the number of GPUs (or 1 for a CPU) held meanwhile; `swapped` says whether the weights came
    into a process that already held a model (null: not on record).
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


class GenerationStore:
    """Append-only store under `root` (made at the first append)."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._part_of: dict[str, Path] = {}
        self._seen: set[Path] = set()

    # -- reading ---------------------------------------------------------------------------------

    def get(self, request_ids: Iterable[str]) -> dict[str, Generation]:
        """The generations that the store has for these requests."""
        self._refresh()
        request_ids = list(request_ids)
        wanted: dict[Path, list[str]] = {}
        for request_id in request_ids:
            if (part := self._part_of.get(request_id)) is not None:
                wanted.setdefault(part, []).append(request_id)
        found: dict[str, Generation] = {}
        columns = [field.name for field in fields(Generation)]
        for part, ids in wanted.items():
            table = self._read(part, columns=columns)
            if table is None:
                return self.get(request_ids)  # another part may have them too
            keep = set(ids)
            rows = (row for row in table.to_pylist() if row["request_id"] in keep)
            found.update({row["request_id"]: Generation(**row) for row in rows})
        return found

    def generations(self, columns: Sequence[str] = tuple(_COLUMNS)) -> pd.DataFrame:
        """Every generation, one row a request, with the fields of its request and its `batch_id`.

        Give the `columns` that are needed where there may be many: texts and messages take the memory.
        """
        self._refresh()
        read = list(dict.fromkeys(["request_id", *columns]))
        empty = pyarrow.schema([(name, _COLUMNS[name]) for name in read]).empty_table()
        tables = [table for part in sorted(self._seen) if (table := self._read(part, read)) is not None]
        frame: pd.DataFrame = pyarrow.concat_tables([empty, *tables]).to_pandas()
        return frame.drop_duplicates("request_id", ignore_index=True)[list(columns)]

    def batches(self) -> pd.DataFrame:
        """One row a load: who generated how many requests, on what, in how many seconds."""
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
        whole = dict.fromkeys(_BATCH_COLUMNS[1:], "first")
        whole.update(n_requests="sum", generate_s="sum")
        return frame.groupby("batch_id", sort=False, as_index=False).agg(whole)[_BATCH_COLUMNS]

    def failures(self) -> pd.DataFrame:
        """Requests that were tried and failed, with the reason; they are tried again in the next run."""
        parts = sorted((self.root / "failures").glob("*.parquet"))
        tables = [table for part in parts if (table := self._read(part)) is not None]
        if not tables:
            return pd.DataFrame(columns=_FAILURE_COLUMNS)
        failures: pd.DataFrame = pyarrow.concat_tables(tables).to_pandas()
        return failures

    def set_aside(self) -> list[Path]:
        """Files that could not be read and were moved out of the way; kept, never deleted."""
        return sorted((self.root / "set_aside").glob("*.parquet"))

    # -- writing ---------------------------------------------------------------------------------

    def append(self, pairs: Sequence[tuple[Request, Generation]], batch: Batch) -> None:
        """Write finished generations and their batch as one new part; whole or not at all."""
        rows = []
        for request, generation in pairs:
            if request.id != generation.request_id:
                raise SkillmoeError(
                    f"generation {generation.request_id} does not answer request {request.id}"
                )
            rows.append({**_request_row(request), **asdict(generation), "batch_id": batch.batch_id})
        table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(_COLUMNS.items()))
        note = {b"batch": json.dumps(asdict(batch)).encode()}
        _write_part(self.root / "parts", table.replace_schema_metadata(note))

    def append_failures(self, pairs: Sequence[tuple[Request, Failure]], batch_id: str) -> None:
        """Write failed requests to the ledger."""
        rows = [
            {**_request_row(request), "reason": failure.reason, "batch_id": batch_id}
            for request, failure in pairs
        ]
        schema = pyarrow.schema([(column, pyarrow.string()) for column in _FAILURE_COLUMNS])
        _write_part(self.root / "failures", pyarrow.Table.from_pylist(rows, schema=schema))

    # -- inside ----------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Index the parts that appeared since the last look; names sort by time, so the earliest wins."""
        while new := sorted(set((self.root / "parts").glob("*.parquet")) - self._seen):
            for part in new:
                table = self._read(part, columns=["request_id"])
                if table is None:
                    break  # the index was dropped: build it again
                self._seen.add(part)
                for request_id in table.column("request_id").to_pylist():
                    self._part_of[request_id] = min(part, self._part_of.get(request_id, part))

    def _read(self, part: Path, columns: list[str] | None = None) -> pyarrow.Table | None:
        """Read a part; one that is torn is set aside, with a warning, and reads as None."""
        try:
            data = part.read_bytes()
            digest = part.stem.rpartition("-")[2]
            if len(digest) == _DIGITS and digest != _digest(data):
                raise pyarrow.ArrowInvalid("its content does not fit the digest in its name")
            file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data), page_checksum_verification=True)
            return file.read(columns=columns)
        except (FileNotFoundError, pyarrow.ArrowException) as error:
            reason = str(error).splitlines()[0]
        except OSError as error:
            if error.errno:  # too many open files, say: no reason to generate anything again
                raise SkillmoeError(f"cannot read {part}: {error.strerror}") from error
            reason = str(error).splitlines()[0]  # a page that does not fit its checksum
        self._seen, self._part_of = set(), {}  # other parts may have what it held: index them anew
        aside = self.root / "set_aside" / part.name
        aside.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            part.replace(aside)
        warnings.warn(f"{part.name} cannot be read ({reason}): moved to {aside}", StoreWarning, stacklevel=3)
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def _write_part(folder: Path, table: pyarrow.Table) -> None:
    data = as_parquet(table)
    replace_file(folder / f"{time.time_ns():020d}-{_digest(data)}.parquet", data)


def _request_row(request: Request) -> dict[str, Any]:
    model, sampling = asdict(request.model), asdict(request.sampling)
    model.pop("path")
    return {
        "request_id": request.id,
        "stage": request.stage,
        "question_id": request.question_id,
        "expert": request.expert,
        **model,
        **sampling,
        "messages": json.dumps([list(message) for message in request.messages], ensure_ascii=False),
        "stop": json.dumps(sampling["stop"]),
        "sample": request.sample,
    }
