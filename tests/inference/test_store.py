"""The store under faults: damaged files, full disks, crashed and simultaneous writers."""

import errno
import itertools
import os
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import Failure, Generation, Message, Model, Request, Sampling
from skillmoe_lib.inference import journal
from skillmoe_lib.inference.store import Batch, GenerationStore, StoreWarning

ROOT = Path(__file__).resolve().parents[2]
MODEL = Model("org/model", "abc", path="somewhere")
BATCH = Batch("b1", "org/model", "scripted", 1.0, 2.0, 1, {"engine": "1"}, "2025-01-01T00:00:00+00:00")


def ask(question="q1", sample=0, text=None, **sampling):
    text = f"What is {question}?" if text is None else text
    return Request("solve", question, "Expert", MODEL, (Message("user", text),), Sampling(**sampling), sample)


def answer(request, text="4", reason="stop"):
    return Generation(request.id, text, reason, 7, 3, 2)


def put(store, *requests, text="4", batch=BATCH):
    """Append one part that answers the requests; its path."""
    before = set((store.root / "parts").glob("*"))
    store.append([(request, answer(request, text)) for request in requests], batch)
    (new,) = set((store.root / "parts").glob("*")) - before
    return new


@pytest.fixture
def store(tmp_path):
    return GenerationStore(tmp_path / "store")


def again(store):
    """The same folder as another process would find it."""
    return GenerationStore(store.root)


# --- what is put in comes out -------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    text=st.text(),
    prompt=st.text(),
    stop=st.lists(st.text(), max_size=2),
    reason=st.sampled_from(["stop", "length"]),
    counts=st.tuples(*[st.integers(0, 2**40)] * 3),
)
def test_every_text_comes_back_as_it_was(tmp_path_factory, text, prompt, stop, reason, counts):
    store = GenerationStore(tmp_path_factory.mktemp("store"))
    request = ask(text=prompt, stop=tuple(stop), temperature=0.3, seed=5)
    made = Generation(request.id, text, reason, *counts)
    store.append([(request, made)], BATCH)
    for reader in (store, again(store)):
        assert reader.get([request.id]) == {request.id: made}
    (row,) = again(store).generations().to_dict("records")
    assert {key: row[key] for key in asdict(made)} == asdict(made)
    assert (row["question_id"], row["source"], row["batch_id"]) == ("q1", "org/model", "b1")
    assert (row["temperature"], row["top_p"], row["max_tokens"], row["seed"]) == (0.3, 1.0, 4096, 5)


def test_a_stored_row_holds_every_field_of_its_request(store):
    """From the row alone its id can be computed again: nothing that counts is left out."""
    import json

    request = ask(sample=3, stop=("\n", "é"), temperature=0.0)
    put(store, request)
    (row,) = store.generations().to_dict("records")
    model = Model(row["source"], row["revision"], row["template"], row["max_model_len"], row["dtype"])
    rebuilt = Request(
        row["stage"],
        row["question_id"],
        row["expert"],
        model,
        tuple(Message(*turn) for turn in json.loads(row["messages"])),
        Sampling(
            row["temperature"], row["top_p"], row["max_tokens"], tuple(json.loads(row["stop"])), row["seed"]
        ),
        row["sample"],
    )
    assert rebuilt == request
    assert rebuilt.id == row["request_id"]


def test_two_samples_never_share_a_key(store):
    first, second = ask(sample=0), ask(sample=1)
    put(store, first, text="four")
    put(store, second, text="five")
    got = store.get([first.id, second.id])
    assert (got[first.id].text, got[second.id].text) == ("four", "five")


def test_what_another_process_appended_meanwhile_is_found(store):
    put(store, ask("q1"))
    assert len(store.generations()) == 1
    put(again(store), ask("q2"))
    assert set(store.get([ask("q1").id, ask("q2").id])) == {ask("q1").id, ask("q2").id}


def test_a_generation_must_answer_its_request(store):
    with pytest.raises(SkillmoeError, match="does not answer request"):
        store.append([(ask("q1"), answer(ask("q1", text="another")))], BATCH)
    assert not store.root.exists()


def test_reading_an_empty_store_makes_nothing(store):
    assert store.get([ask().id]) == {}
    assert store.generations().empty
    assert "request_id" in store.generations().columns
    assert store.batches().empty
    assert "generate_s" in store.batches().columns
    assert store.failures().empty
    assert "reason" in store.failures().columns
    assert store.set_aside() == []
    assert not store.root.exists()


# --- duplicates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_of_two_generations_of_a_request_the_earlier_counts(store, monkeypatch, order):
    """Whatever the order in which their files come to be seen."""
    seen_meanwhile = again(store)
    for moment in order:
        with monkeypatch.context() as patched:
            patched.setattr("skillmoe_lib.inference.store.time.time_ns", lambda moment=moment: moment)
            put(store, ask(), text=f"written at {moment}")
        seen_meanwhile.get([ask().id])
    for reader in (store, seen_meanwhile, again(store)):
        assert reader.get([ask().id])[ask().id].text == "written at 1"
        assert reader.generations()["text"].tolist() == ["written at 1"]


def test_a_torn_duplicate_leaves_the_other(store):
    first = put(store, ask("q1"), ask("q2"), text="first")
    put(store, ask("q1"), text="second")
    assert store.get([ask("q1").id])[ask("q1").id].text == "first"
    first.write_bytes(first.read_bytes()[:-9])
    with pytest.warns(StoreWarning):
        found = store.get([ask("q1").id, ask("q2").id])
    assert {key: generation.text for key, generation in found.items()} == {ask("q1").id: "second"}
    assert store.generations()["text"].tolist() == ["second"]


# --- torn files ---------------------------------------------------------------------------------------

LONG = "".join(chr(33 + (i * 37 + i // 90) % 90) for i in range(400))  # does not compress away


def cut(data):
    return data[: len(data) // 2]


def flip_in_a_page(data):
    place = data.index(LONG[200:208].encode())
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def flip_in_the_batch_note(data):
    place = data.rindex(b'"load_s": 1.0') + len(b'"load_s": ')
    return data[:place] + b"9" + data[place + 1 :]


DAMAGES = {
    "cut in the middle": cut,
    "cut by one byte": lambda data: data[:-1],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "zeros at the end": lambda data: data[:-64] + bytes(64),
    "another kind of file": lambda data: b"request_id,text\n",
    "a bit of a text": flip_in_a_page,
    "a digit of the batch": flip_in_the_batch_note,
    "a byte more": lambda data: data + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("read", ["get", "generations", "batches"])
def test_a_torn_file_is_reported_set_aside_and_never_read(store, damage, read):
    part = put(store, ask("q1"), text=LONG)
    put(store, ask("q2"), text="whole", batch=replace(BATCH, batch_id="b2"))
    torn = damage(part.read_bytes())
    part.write_bytes(torn)

    reader = again(store)
    with pytest.warns(StoreWarning, match=f"{part.name} cannot be read .* moved to") as caught:
        reader.get([ask("q1").id]) if read == "get" else getattr(reader, read)()
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    for after in (reader, again(store)):  # without a second warning: they are errors here
        assert list(after.get([ask("q1").id, ask("q2").id])) == [ask("q2").id]
        assert after.generations()["question_id"].tolist() == ["q2"]
        assert after.batches()["batch_id"].tolist() == ["b2"]
    (aside,) = reader.set_aside()
    assert aside.read_bytes() == torn
    assert not part.exists()

    put(store, ask("q1"), text="again")
    assert reader.get([ask("q1").id])[ask("q1").id].text == "again"


@pytest.mark.parametrize("read", ["get", "generations", "batches"])
def test_a_file_torn_while_the_store_is_open(store, read):
    part = put(store, ask("q1"), text=LONG)
    assert store.get([ask("q1").id])
    part.write_bytes(cut(part.read_bytes()))
    with pytest.warns(StoreWarning):
        found = store.get([ask("q1").id]) if read == "get" else getattr(store, read)()
    assert len(found) == 0
    assert store.get([ask("q1").id]) == {}
    assert len(store.set_aside()) == 1


def test_a_file_that_another_process_set_aside_meanwhile(store):
    part = put(store, ask("q1"))
    assert store.get([ask("q1").id])
    part.unlink()
    with pytest.warns(StoreWarning):
        assert store.get([ask("q1").id]) == {}
    assert store.batches().empty


def test_no_flipped_bit_anywhere_in_a_file_goes_unnoticed(store):
    part = put(store, ask("q1"), ask("q2"))
    whole = part.read_bytes()
    in_metadata = range(whole.rindex(b'{"batch_id"'), len(whole), 97)
    for place in [*range(0, len(whole), 41), *in_metadata]:
        part.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        with pytest.warns(StoreWarning):
            assert again(store).generations().empty, place
        shutil.rmtree(store.root / "set_aside")


def test_a_torn_ledger_of_failures(store):
    store.append_failures([(ask(), Failure(ask().id, "aborted"))], "b1")
    (part,) = (store.root / "failures").glob("*.parquet")
    part.write_bytes(cut(part.read_bytes()))
    with pytest.warns(StoreWarning):
        assert store.failures().empty
    assert len(store.set_aside()) == 1


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_opened_just_now_is_not_torn(store, monkeypatch, code):
    """Too many open files, say: nothing is moved, nothing counts as missing, nothing is generated again."""
    part = put(store, ask())

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr("skillmoe_lib.inference.store.pyarrow.parquet.ParquetFile", refuse)
        with pytest.raises(SkillmoeError, match=os.strerror(code)) as error:
            again(store).get([ask().id])
    assert "\n" not in str(error.value)
    assert part.exists()
    assert set(again(store).get([ask().id])) == {ask().id}


def test_what_a_crashed_writer_left_is_ignored(store):
    part = put(store, ask("q1"))
    (part.parent / f".{part.name}.0123.tmp").write_bytes(part.read_bytes()[:50])
    (part.parent / f".{part.name}.4567.tmp").write_bytes(b"")
    assert len(again(store).generations()) == 1
    assert len(again(store).batches()) == 1
    assert again(store).set_aside() == []


def test_parts_written_under_plain_names_are_read(store):
    """Names of parts begin with the time; a check sum in them is looked at where there is one."""
    part = put(store, ask("q1"))
    moment = part.name.split("-")[0]
    part.rename(part.with_name(f"{moment}-0123abcd.parquet"))
    assert len(again(store).generations()) == 1


# --- full disks ---------------------------------------------------------------------------------------


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["os.fsync", "Path.replace", "Path.mkdir"])
def test_a_full_disk_loses_nothing_that_was_stored(store, monkeypatch, place):
    part = put(store, ask("q1"))
    before = part.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(f"skillmoe_lib.files.{place}", full)
        for write in (
            lambda: put(store, ask("q2")),
            lambda: store.append_failures([(ask("q2"), Failure(ask("q2").id, "aborted"))], "b1"),
        ):
            with pytest.raises(
                SkillmoeError, match="No space left on device; what was stored is intact"
            ) as e:
                write()
            assert "\n" not in str(e.value)
    assert part.read_bytes() == before
    assert [file for file in store.root.rglob("*") if file.is_file()] == [part]
    assert list(store.get([ask("q1").id, ask("q2").id])) == [ask("q1").id]
    put(store, ask("q2"))
    assert len(again(store).generations()) == 2


# --- batches and failures -----------------------------------------------------------------------------


def test_segments_of_a_load_are_summed(store):
    put(store, ask("q1"), ask("q2"), batch=replace(BATCH, generate_s=1.5))
    put(store, ask("q3"), batch=replace(BATCH, generate_s=0.25))
    put(store, ask("q4"), batch=replace(BATCH, batch_id="b2", model="org/other"))
    first, second = store.batches().to_dict("records")
    assert first == {
        "batch_id": "b1",
        "model": "org/model",
        "engine": "scripted",
        "n_requests": 3,
        "load_s": 1.0,
        "generate_s": 1.75,
        "devices": 1,
        "versions": '{"engine": "1"}',
        "started_at": "2025-01-01T00:00:00+00:00",
        "swapped": None,
        "dtype": "",
        "peak_bytes": 0,
    }
    assert (second["batch_id"], second["n_requests"], second["generate_s"]) == ("b2", 1, 2.0)


def test_a_failure_is_on_the_ledger_and_no_generation(store):
    store.append_failures([(ask(), Failure(ask().id, "the engine ended it"))], "b1")
    store.append_failures([(ask(), Failure(ask().id, "aborted"))], "b2")
    assert store.failures()["reason"].tolist() == ["the engine ended it", "aborted"]
    row = store.failures().iloc[0]
    assert (row["question_id"], row["expert"], row["source"]) == ("q1", "Expert", "org/model")
    assert store.get([ask().id]) == {}
    assert store.generations().empty


# --- two processes ------------------------------------------------------------------------------------

WRITER = """
import sys, time
from pathlib import Path
sys.path[:0] = ["tests", "tests/inference", "."]
from test_store import GenerationStore, ask, put, BATCH, answer
from dataclasses import replace

root, me = Path(sys.argv[1]), sys.argv[2]
store = GenerationStore(root / "store")
(root / f"{me}.ready").touch()
while not (root / "go").exists():
    time.sleep(0.001)
for i in range(40):
    requests = [ask(f"{me}-{i}"), ask(f"shared-{i}")]
    batch = replace(BATCH, batch_id=me)
    store.append([(request, answer(request, f"{me} {i}")) for request in requests], batch)
    if i % 8 == 0:
        store.get([ask(f"shared-{i}").id])
"""


def test_two_processes_append_at_once(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", WRITER, str(tmp_path), me], cwd=ROOT)
        for me in ("one", "two")
    ]
    try:
        while len(list(tmp_path.glob("*.ready"))) < 2:
            assert all(writer.poll() is None for writer in writers)
            time.sleep(0.01)
        (tmp_path / "go").touch()
        reader, seen = GenerationStore(tmp_path / "store"), [0]
        while any(writer.poll() is None for writer in writers):
            seen.append(len(reader.generations()))  # a half-written part would warn, an error here
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen == sorted(seen)

    store = GenerationStore(tmp_path / "store")
    frame = store.generations()
    expected = {f"{who}-{i}" for who, i in itertools.product(("one", "two", "shared"), range(40))}
    assert sorted(frame["question_id"]) == sorted(expected)
    assert store.batches()["n_requests"].tolist() == [80, 80]
    assert store.set_aside() == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again_read = GenerationStore(tmp_path / "store").generations()
    assert again_read.equals(frame)
    shared = [ask(f"shared-{i}").id for i in range(40)]
    by_id = frame.set_index("request_id")["text"]
    assert all(store.get(shared)[key].text == by_id[key] for key in shared)


# --- journals -----------------------------------------------------------------------------------------


def journal_of(store, *requests, batch=BATCH):
    begun = store.journal(batch)
    for request in requests:
        begun.write(request, answer(request, f"{request.question_id} é\n\x00"), 1.0)
    return begun


def test_a_journal_becomes_a_part(store):
    begun = journal_of(store, ask("q1"), ask("q2"))
    assert again(store).generations().empty
    assert len(list((store.root / "open").iterdir())) == 1
    begun.seal(replace(BATCH, generate_s=9.0))
    assert list((store.root / "open").iterdir()) == []
    assert store.get([ask("q1").id])[ask("q1").id].text == "q1 é\n\x00"
    assert store.batches()[["n_requests", "generate_s"]].to_numpy().tolist() == [[2, 9.0]]


def test_the_journal_of_a_run_under_way_is_left_alone_and_that_of_a_dead_one_is_not(store):
    begun = journal_of(store, ask("q1"), ask("q2"))
    again(store).recover()
    assert len(list((store.root / "open").iterdir())) == 1
    begun.close()  # as the system does for a process that ends
    again(store).recover()
    again(store).recover()
    assert list((store.root / "open").iterdir()) == []
    assert store.generations()["question_id"].tolist() == ["q1", "q2"]
    assert store.batches()[["n_requests", "generate_s"]].to_numpy().tolist() == [[2, 2.0]]


def test_the_journal_of_an_engine_is_waited_for_if_its_runner_is_gone(store, monkeypatch):
    """It is about to end too; what it wrote, and the runner had not taken yet, counts once."""
    taken = journal_of(store, ask("q1"))
    engine = store.journal(BATCH)
    for question in ("q1", "q2"):
        engine.write(ask(question), answer(ask(question)), 1.0)
    taken.close()
    again(store).recover()
    assert len(list((store.root / "open").iterdir())) == 1, "the runner, this process, is still there"
    monkeypatch.setattr("skillmoe_lib.inference.journal._is_there", lambda process: False)
    monkeypatch.setattr("skillmoe_lib.inference.journal.time.sleep", lambda seconds: engine.close())
    again(store).recover()
    assert list((store.root / "open").iterdir()) == []
    assert store.generations()["question_id"].tolist() == ["q1", "q2"]
    assert store.batches()[["n_requests", "generate_s"]].to_numpy().tolist() == [[2, 2.0]]


def test_a_process_that_ended_is_not_there():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert [journal._is_there(process) for process in (os.getpid(), None, ended.pid)] == [True, True, False]


def test_a_kill_between_a_part_and_the_end_of_its_journal_counts_once(store, monkeypatch):
    begun = journal_of(store, ask("q1"), ask("q2"))
    with monkeypatch.context() as patched:
        patched.setattr("skillmoe_lib.inference.journal.Path.unlink", full)
        with pytest.raises(OSError, match="No space"):
            begun.seal(BATCH)
    begun.close()
    again(store).recover()
    assert store.batches()["n_requests"].tolist() == [2]
    assert list((store.root / "open").iterdir()) == []


def test_no_half_line_is_left_where_the_disk_was_full(store, monkeypatch):
    begun = journal_of(store, ask("q1"))
    write = os.write

    def half(file, data):
        write(file, data[: len(data) // 2])
        full()

    with monkeypatch.context() as patched:
        patched.setattr("skillmoe_lib.inference.journal.os.write", half)
        with pytest.raises(SkillmoeError, match="No space left on device; what was stored is intact"):
            begun.write(ask("q2"), answer(ask("q2")), 2.0)
    begun.write(ask("q3"), answer(ask("q3")), 3.0)
    begun.close()
    again(store).recover()
    assert store.generations()["question_id"].tolist() == ["q1", "q2", "q3"]
    assert store.set_aside() == []


def test_only_what_is_asked_for_is_read(store, monkeypatch):
    put(store, ask("q1"), ask("q2"))
    reader = again(store)
    monkeypatch.setattr("skillmoe_lib.inference.store._digest_of", lambda part: pytest.fail("read whole"))
    assert reader.known([ask("q1").id, ask("q3").id]) == {ask("q1").id}
    monkeypatch.undo()
    assert list(reader.generations(["stage", "output_tokens"]).columns) == ["stage", "output_tokens"]
    assert reader.models() == {MODEL}


def test_the_last_failure_counts_while_nothing_has_answered(store):
    store.append_failures(
        [(ask("q1"), Failure(ask("q1").id, "first")), (ask("q2"), Failure(ask("q2").id, "x"))], ""
    )
    store.append_failures([(ask("q1"), Failure(ask("q1").id, "too long", "overflow"))], "")
    put(store, ask("q2"))
    assert store.failed() == {ask("q1").id: Failure(ask("q1").id, "too long", "overflow")}


def test_a_ledger_without_statuses_is_read(store):
    """As version 0.1 wrote it."""
    import pyarrow as pa
    import pyarrow.parquet

    (store.root / "failures").mkdir(parents=True)
    columns = ["request_id", "stage", "question_id", "expert", "source", "reason", "batch_id"]
    pyarrow.parquet.write_table(pa.table({c: ["x"] for c in columns}), store.root / "failures" / "1.parquet")
    store.append_failures([(ask("q1"), Failure(ask("q1").id, "too long", "overflow"))], "")
    assert sorted(store.failures()["status"]) == ["not_run", "overflow"]
