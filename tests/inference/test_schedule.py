"""The scheduler: each model loaded once per wave, nothing generated twice, nothing lost, whatever happens."""

import contextlib
import errno
import functools
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import Failure, Generation, Message, Model, Request, Sampling
from skillmoe_lib.inference import journal, policies, schedule
from skillmoe_lib.inference.engines.replay import ReplayEngine
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.seeding import digest

ROOT = Path(__file__).resolve().parents[2]
A, B, C = (Model(name, "1", max_model_len=50) for name in "ABC")


def ask(text, model=A, question="q1", sample=0):
    return Request("solve", question, model.source, model, (Message("user", text),), Sampling(), sample)


def echo(request):
    return f"{request.model.source} on {request.messages[-1].content}"


def asking(*waves):
    """A program that asks each wave and returns the texts of all answers."""
    texts = []
    for wave in waves:
        answers = yield wave
        texts.append([generation.text for generation in answers])
    return texts


@pytest.fixture
def store(tmp_path):
    return GenerationStore(tmp_path / "store")


class Broken(ScriptedEngine):
    """Goes down once, after `n` outcomes, as a worker that is killed does."""

    def __init__(self, reply, n):
        super().__init__(reply)
        self.n = n

    def generate(self, requests):
        for outcome in super().generate(requests):
            self.n -= 1
            if self.n == -1:
                raise SkillmoeError("the engine died")
            yield outcome


class Interrupted(Broken):
    """Ctrl-C after `n` outcomes."""

    def generate(self, requests):
        try:
            yield from super().generate(requests)
        except SkillmoeError:
            raise KeyboardInterrupt from None


class Streaming(ScriptedEngine):
    """Takes requests while it generates, as vLLM does; `under_way` is how many it had at each outcome."""

    def __init__(self, reply):
        super().__init__(reply)
        self.under_way = []

    def stream(self, requests, joining):
        queue = list(requests)
        while queue:
            yield None
            self.under_way.append(len(queue))
            yield from self.generate([queue.pop(0)])
            queue += joining
            joining.clear()


class Backwards(ScriptedEngine):
    """Finishes the last request first."""

    def generate(self, requests):
        yield from super().generate(requests[::-1])


# --- loads and waves ----------------------------------------------------------------------------------


def test_programs_get_their_answers_in_the_order_asked(store):
    engine = Backwards(echo)
    programs = {
        "two": asking([ask("x"), ask("y"), ask("x")]),
        "one": asking([ask("x")], [ask("z"), ask("x")]),
    }
    outcomes = schedule.run(programs, engine, store)
    assert list(outcomes) == ["two", "one"]
    assert outcomes["two"].result == [["A on x", "A on y", "A on x"]]
    assert outcomes["one"].result == [["A on x"], ["A on z", "A on x"]]
    assert outcomes["two"].request_ids == tuple(ask(text).id for text in "xyx")
    assert outcomes["one"].request_ids == tuple(ask(text).id for text in "xzx")


def test_each_model_is_loaded_once_and_kept_while_anything_waits_for_it(store):
    """Three waves of A in one load; B's second wave needs another, for A's answers come between."""
    engine = ScriptedEngine(echo)
    programs = {
        "a": asking([ask("1")], [ask("2")], [ask("3")]),
        "b": asking([ask("4", B)], [ask("5", B)]),
        "mixed": asking([ask("6", A), ask("7", B)], [ask("8", A)]),
    }
    schedule.run(programs, engine, store)
    assert engine.loads == ["A", "B", "A"]
    assert len(engine.requests) == 8


def test_equal_requests_of_different_programs_are_generated_once(store):
    engine = ScriptedEngine(echo)
    programs = {("method", i): asking([ask("same"), ask("own", sample=i)]) for i in range(3)}
    outcomes = schedule.run(programs, engine, store)
    assert len(engine.requests) == 4
    assert len(store.generations()) == 4
    assert all(ask("same").id in outcome.request_ids for outcome in outcomes.values())


def test_templates_and_samplings_share_a_load(store):
    from dataclasses import replace

    engine = ScriptedEngine(echo)
    plain = replace(A, template="plain")
    schedule.run({1: asking([ask("x"), ask("x", plain)])}, engine, store)
    assert engine.loads == ["A"]
    assert len(engine.requests) == 2


def test_a_second_run_loads_nothing(store):
    def programs():
        return {1: asking([ask("x"), ask("y", B)], [ask("z", C)]), 2: asking([ask("x")])}

    first = schedule.run(programs(), ScriptedEngine(echo), store)
    idle = ScriptedEngine(echo)
    second = schedule.run(programs(), idle, GenerationStore(store.root))
    assert (idle.loads, idle.requests) == ([], [])
    assert second == first
    assert schedule.run(programs(), ReplayEngine(), GenerationStore(store.root)) == first
    assert len(store.batches()) == 3


def test_another_sample_or_seed_is_generated_anew(store):
    schedule.run({1: asking([ask("x")])}, ScriptedEngine(echo), store)
    engine = ScriptedEngine(echo)
    schedule.run({1: asking([ask("x"), ask("x", sample=1)])}, engine, store)
    assert [request.sample for request in engine.requests] == [1]


def test_what_has_no_request_needs_no_engine(store):
    def nothing():
        return "done"
        yield

    outcomes = schedule.run(
        {"none": nothing(), "empty": asking([], []), "neither": asking()}, ReplayEngine(), store
    )
    assert outcomes["none"] == ("done", (), ())
    assert outcomes["empty"] == ([[], []], (), (0, 0))
    assert outcomes["neither"] == ([], (), ())
    assert schedule.run({}, ReplayEngine(), store) == {}
    assert not store.root.exists()


def test_an_empty_wave_between_others_goes_on_at_once(store):
    engine = ScriptedEngine(echo)
    outcomes = schedule.run({1: asking([], [ask("x")], [], [ask("y")], [])}, engine, store)
    assert outcomes[1].result == [[], ["A on x"], [], ["A on y"], []]
    assert engine.loads == ["A"]


def test_most_waiting_goes_first_and_ties_go_to_the_one_asked_first():
    waiting = {A.load_key: [ask("1")], B.load_key: [ask("2", B)] * 3, C.load_key: [ask("3", C)] * 3}
    assert schedule.most_waiting(waiting) == B.load_key
    assert schedule.most_waiting(waiting, last=[B.load_key]) == C.load_key
    assert schedule.most_waiting(waiting, last=[B.load_key, C.load_key]) == A.load_key
    assert schedule.most_waiting(waiting, last=list(waiting)) == B.load_key


def test_a_model_put_last_is_loaded_once_for_its_own_answers_and_what_it_aggregates(store):
    def programs():
        return {i: asking([ask(f"{i}", m) for m in (A, B, C)], [ask(f"{i} again", A)]) for i in range(3)}

    eager, patient = ScriptedEngine(echo), ScriptedEngine(echo)
    schedule.run(programs(), eager, GenerationStore(store.root / "eager"))
    policy = functools.partial(schedule.most_waiting, last=[A.load_key])
    schedule.run(programs(), patient, GenerationStore(store.root / "patient"), policy=policy)
    assert eager.loads == ["A", "B", "C", "A"]
    assert patient.loads == ["B", "C", "A"]


def test_batches_say_which_load_made_what(store):
    engine = ScriptedEngine(echo)
    schedule.run({1: asking([ask("x"), ask("y", B)], [ask("z")])}, engine, store)
    batches, generations = store.batches(), store.generations()
    assert batches["model"].tolist() == engine.loads
    assert batches["n_requests"].sum() == 3
    assert set(generations["batch_id"]) == set(batches["batch_id"])
    assert (batches[["load_s", "generate_s"]] >= 0).all().all()
    made_by = generations.merge(batches, on="batch_id")
    assert (made_by["source"] == made_by["model"]).all()


# --- requests that join ------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch):
    """Programs go on after every outcome."""
    monkeypatch.setattr(schedule, "TURN_S", 0.0)
    monkeypatch.setattr(schedule, "TURN_SHARE", 1.0)


@pytest.mark.usefixtures("at_once")
def test_what_programs_ask_next_joins_what_is_under_way(store):
    """The first program is three waves further before the second wave of the last one begins."""
    engine = Streaming(echo)
    programs = {i: asking(*[[ask(f"{i} {wave}")] for wave in range(3)]) for i in range(4)}
    outcomes = schedule.run(programs, engine, store)
    assert engine.loads == ["A"]
    assert engine.under_way == [4, 4, 4, 4, 4, 4, 4, 4, 4, 3, 2, 1]
    assert outcomes == schedule.run(programs | _afresh(4), ScriptedEngine(echo), GenerationStore(store.root))


def _afresh(n):
    return {i: asking(*[[ask(f"{i} {wave}")] for wave in range(3)]) for i in range(n)}


@pytest.mark.usefixtures("at_once")
def test_what_joins_may_be_too_long_fail_or_be_asked_twice(store):
    def reply(request):
        return Failure(request.id, "refused") if "no" in request.messages[-1].content else echo(request)

    engine = Streaming(reply)
    programs = {
        "long": asking([ask("1")], [ask(LONG), ask("same")], [ask("4")]),
        "fails": asking([ask("2")], [ask("no"), ask("same")], [ask("5")]),
        "other": asking([ask("3")], [ask("6", B), ask("same")], [ask("7")]),
    }
    with pytest.raises(SkillmoeError, match=r"1 request\(s\) could not be run.*refused"):
        schedule.run(programs, engine, store)
    assert engine.loads == ["A", "B", "A"]
    assert [r.messages[-1].content for r in engine.requests] == [*"123", "same", "no", *"4567"]
    assert sorted(store.failures()["status"]) == ["not_run", "overflow"]
    assert len(store.generations()) == 8


def test_programs_go_on_at_intervals_and_when_nothing_else_is_under_way(store, monkeypatch):
    """A turn of the programs asks the store: not one for each answer."""
    monkeypatch.setattr(schedule, "TURN_S", 60.0)
    engine = Streaming(echo)
    schedule.run(_afresh(4), engine, store)
    assert engine.under_way == [4, 3, 2, 1] * 3


@pytest.mark.usefixtures("at_once")
def test_no_more_requests_than_a_call_may_have_join_it(store, monkeypatch):
    monkeypatch.setattr(schedule, "AT_ONCE", 6)
    engine = Streaming(echo)
    schedule.run(_afresh(4), engine, store)
    assert engine.under_way == [4, 4, 4, 3, 2, 1] * 2
    assert engine.loads == ["A"]


@pytest.mark.usefixtures("at_once")
def test_nothing_joins_requests_that_have_failed(store):
    """A culprit is looked for among these alone; what it keeps waiting comes in a call of its own."""

    class Falls(Streaming):
        calls = ()

        def stream(self, requests, joining):
            type(self).calls += ([r.messages[-1].content for r in requests],)
            for outcome in super().stream(requests, joining):
                if outcome and outcome.request_id == ask("bad").id:
                    raise ValueError("boom")
                yield outcome

    programs = {
        i: asking([ask("a")], [ask("b"), *([ask("bad")] if i else [])], [ask(f"{i} end")], [ask(f"{i} last")])
        for i in (0, 1)
    }
    with pytest.raises(SkillmoeError, match=r"1 request\(s\) could not be run.*boom"):
        schedule.run(programs, Falls(echo), store)
    assert Falls.calls == (["a"], ["bad", "0 end"], ["bad"], ["1 end"], ["0 end"], ["0 last"])
    assert len(store.generations()) == 6


@pytest.mark.usefixtures("at_once")
def test_an_error_of_a_program_is_no_fault_of_the_engine_that_streams(store):
    def raising():
        yield [ask("x")]
        raise ValueError("a slip in a method")

    engine = Streaming(echo)
    with pytest.raises(ValueError, match="a slip in a method"):
        schedule.run({1: raising(), 2: asking([ask("y")])}, engine, store)
    assert engine.loads == ["A"]
    assert store.generations()["request_id"].tolist() == [ask("x").id]


# --- refusals and failures ----------------------------------------------------------------------------

LONG = "word " * 50


def test_a_prompt_that_does_not_fit_stops_nobody(store):
    """It is no error of the run: its status tells, and the ledger has the lengths."""
    engine = ScriptedEngine(echo)

    def programs():
        return {1: asking([ask("fits", B)]), 2: asking([ask(LONG, question="q7"), ask("short")])}

    seen = schedule.run(programs(), engine, store)
    assert seen[1].result == [["B on fits"]]
    assert seen[2].result == [["", "A on short"]]
    failed = store.failures()
    assert failed[["question_id", "expert", "status"]].to_numpy().tolist() == [["q7", "A", "overflow"]]
    assert failed["reason"][0] == "the prompt has 50 tokens; the context of A has 50"
    assert store.failed()[ask(LONG).id].status == "overflow"

    assert schedule.run(programs(), ScriptedEngine(echo), store) == seen
    assert len(store.failures()) == 1, "the ledger says a thing once"


def test_a_prompt_must_leave_room_for_one_token(store):
    def reason(n_words):
        (generation,) = yield [ask("word " * n_words)]
        return generation.finish_reason

    outcomes = schedule.run({n: reason(n) for n in (49, 50)}, ScriptedEngine(echo), store)
    assert [outcomes[n].result for n in (49, 50)] == ["stop", "overflow"]


def test_a_later_prompt_that_does_not_fit_is_on_the_ledger_too(store):
    def programs():
        return {1: asking([ask("short")], [ask(LONG), ask("fits")], [ask("after")])}

    engine = ScriptedEngine(echo)
    outcome = schedule.run(programs(), engine, store)[1]
    assert outcome.result == [["A on short"], ["", "A on fits"], ["A on after"]]
    assert engine.loads == ["A"]
    assert store.failures()["request_id"].tolist() == [ask(LONG).id]
    assert "the prompt has 50 tokens; the context of A has 50" in store.failures()["reason"][0]
    assert store.get([ask(LONG).id]) == {}

    # Found again in a second run, where it is the first that is not stored: the same, without a load.
    idle = ScriptedEngine(echo)
    assert schedule.run(programs(), idle, store)[1] == outcome
    assert idle.loads == []


def test_a_later_prompt_that_does_not_fit_another_model_needs_no_load_of_it(store):
    engine = ScriptedEngine(echo)
    outcomes = schedule.run({1: asking([ask("x")], [ask(LONG, B)], [ask(LONG, B), ask("y")])}, engine, store)
    assert outcomes[1].result == [["A on x"], [""], ["", "A on y"]]
    assert engine.loads == ["A", "A"]


class Refusing(ScriptedEngine):
    """Cannot serve model B."""

    def check(self, model):
        if model == B:
            raise SkillmoeError("model 'B' does not fit")


def test_a_model_that_cannot_be_served_is_refused_before_any_load(store):
    engine = Refusing(echo)
    with pytest.raises(SkillmoeError, match="'B' does not fit"):
        schedule.run({1: asking([ask("x")]), 2: asking([ask("y", B)])}, engine, store)
    assert engine.loads == []
    assert not store.root.exists()


def test_a_model_that_cannot_be_served_can_be_left_out(store):
    engine = Refusing(echo)
    outcomes = schedule.run({1: asking([ask("x")]), 2: asking([ask("y", B)])}, engine, store, skip=True)
    assert (outcomes[1].result, outcomes[2].result) == ([["A on x"]], [[""]])
    assert engine.loads == ["A"]
    assert store.failures()[["source", "reason"]].to_numpy().tolist() == [["B", "model 'B' does not fit"]]


def test_a_model_that_only_later_rounds_need_stops_no_other(store):
    engine = Refusing(echo)
    programs = {1: asking([ask("x")], [ask("y", B)], [ask("z", C)])}
    with pytest.raises(
        SkillmoeError, match=r"1 request.* question 'q1' of expert 'B' \(model 'B' does not fit"
    ):
        schedule.run(programs, engine, store)
    assert engine.loads == ["A", "C"]
    assert len(store.generations()) == 2


@pytest.mark.parametrize("reads", [SkillmoeError("the tokenizer of 'A' cannot be read"), None])
def test_a_tokenizer_that_cannot_be_read_is_refused_and_a_poison_prompt_is_not(store, reads):
    class Picky(ScriptedEngine):
        def prompt_tokens(self, requests):
            if reads:
                raise reads
            if any("poison" in r.messages[-1].content for r in requests):
                raise ValueError("roles must\nalternate")
            return super().prompt_tokens(requests)

    engine = Picky(echo)
    match = (
        "tokenizer"
        if reads
        else r"'q9' of .*\(the prompt cannot be laid out: ValueError: roles must alternate\)"
    )
    with pytest.raises(SkillmoeError, match=match):
        schedule.run({1: asking([ask("poison", question="q9"), ask("x")])}, engine, store)
    assert engine.loads == ([] if reads else ["A"])


def test_a_replay_refuses_what_is_not_stored(store):
    schedule.run({1: asking([ask("x")])}, ScriptedEngine(echo), store)
    with pytest.raises(SkillmoeError, match=r"the store lacks generations of 'B'"):
        schedule.run({1: asking([ask("x")]), 2: asking([ask("y", B)])}, ReplayEngine(), store)


def test_a_failed_request_reads_as_not_run_and_is_tried_again_in_the_next_run(store):
    def moody(request):
        return Failure(request.id, "aborted") if request.messages[-1].content == "x" else echo(request)

    seen = []

    def program():
        answers = yield [ask("x"), ask("y")]
        seen.append(answers)
        return answers[0].finish_reason

    with pytest.raises(
        SkillmoeError, match=r"1 request\(s\) could not be run.* 'q1' of expert 'A' \(aborted\)"
    ):
        schedule.run({1: program()}, ScriptedEngine(moody), store)
    assert seen[0][0] == Generation(ask("x").id, "", "not_run", 0, 0)
    assert seen[0][1].text == "A on y"
    assert schedule.run({1: program()}, ReplayEngine(), store)[1].result == "not_run", "as the ledger says"
    assert schedule.run({1: program()}, ScriptedEngine(moody), store, skip=True)[1].result == "not_run"
    assert store.failures()[["request_id", "reason"]].values.tolist() == [[ask("x").id, "aborted"]]
    assert store.generations()["request_id"].tolist() == [ask("y").id]

    engine = ScriptedEngine(echo)
    assert schedule.run({1: program()}, engine, store)[1].result == "stop"
    assert [request.id for request in engine.requests] == [ask("x").id]


def test_an_engine_that_forgets_a_request_is_an_error(store):
    class Forgetful(ScriptedEngine):
        def generate(self, requests):
            yield from list(super().generate(requests))[1:]

    with pytest.raises(SkillmoeError, match="left 1 of 1 requests unanswered"):
        schedule.run({1: asking([ask("x"), ask("y")])}, Forgetful(echo), store)
    assert store.generations()["request_id"].tolist() == [ask("y").id]


def test_a_program_that_raises_does_not_take_generations_with_it(store):
    def raising():
        yield [ask("x")]
        raise ValueError("a slip in a method")

    with pytest.raises(ValueError, match="a slip in a method"):
        schedule.run({1: raising(), 2: asking([ask("y")])}, ScriptedEngine(echo), store)
    assert len(store.generations()) == 2

    def raising_at_once():
        raise ValueError("at once")
        yield

    engine = ScriptedEngine(echo)
    with pytest.raises(ValueError, match="at once"):
        schedule.run({1: raising_at_once()}, engine, store)
    assert engine.loads == []


# --- killed in the middle -----------------------------------------------------------------------------


def test_an_engine_that_dies_once_costs_a_load_and_nothing_else(store):
    def programs():
        return {i: asking([ask(f"{i}")], [ask(f"{i} again"), ask(f"{i}", B)]) for i in range(10)}

    whole = schedule.run(programs(), ScriptedEngine(echo), GenerationStore(store.root / "whole"))
    broken = Broken(echo, 13)
    assert schedule.run(programs(), broken, store) == whole
    assert broken.loads == ["A", "A", "B"]
    assert len(store.generations()) == 30
    assert store.failures().empty


class Poisoned(ScriptedEngine):
    """Dies on some requests, whoever is with them, after it has answered those before."""

    def __init__(self, reply, *poison):
        super().__init__(reply)
        self.poison, self.asked = {ask(text).id for text in poison}, []

    def generate(self, requests):
        self.asked.append([request.messages[-1].content for request in requests])
        for request in requests:
            if request.id in self.poison:
                raise ValueError("boom")
            yield from super().generate([request])


@pytest.mark.parametrize("poison", [["3"], ["0"], ["15"], ["0", "15"], ["4", "5", "6"], ["0", "8", "12"]])
def test_poison_is_found_and_everything_else_is_served(store, poison):
    def programs():
        return {i: asking([ask(f"{i}", question=f"q{i}")], [ask(f"{i} again")]) for i in range(16)}

    engine = Poisoned(echo, *poison)
    with pytest.raises(SkillmoeError) as error:
        schedule.run({**programs(), "other": asking([ask("x", B)])}, engine, store)
    assert str(error.value).startswith(f"{len(poison)} request(s) could not be run")
    assert any(f"question 'q{i}'" in str(error.value) for i in poison)
    assert "(ValueError: boom)" in str(error.value)
    assert "\n" not in str(error.value)
    assert set(store.failures()["question_id"]) == {f"q{i}" for i in poison}
    assert len(store.generations()) == 16 - len(poison) + 16 + 1, "programs go on, other models are served"
    made = [request.id for request in engine.requests]
    assert len(made) == len(set(made))

    # A second start tries the culprits once more, after all others.
    again = Poisoned(echo, *poison)
    more = {**programs(), "more": asking([ask("new")])}
    outcomes = schedule.run(more, again, store, skip=True)
    assert again.asked[0] == ["new"]
    assert again.asked[1] == poison
    assert all(outcomes[int(i)].result[0] == [""] for i in poison)
    assert schedule.run(programs(), ReplayEngine(), store) == {key: outcomes[key] for key in programs()}


def test_an_engine_that_always_fails_is_given_up_after_a_while_and_others_are_served(store):
    class Down(ScriptedEngine):
        def generate(self, requests):
            if requests[0].model == A:
                raise OSError("the device is gone")
            yield from super().generate(requests)

    engine = Down(echo)
    programs = {i: asking([ask(f"{i}")], [ask(f"{i} again")]) for i in range(500)}
    with pytest.raises(SkillmoeError, match=r"^1000 request\(s\) .* 'q1' and 999 more .*the device is gone"):
        schedule.run({**programs, "b": asking([ask("x", B)])}, engine, store)
    assert engine.loads == ["A"] * (schedule.FAULTS_IN_A_ROW + 1) + ["B"]
    assert store.generations()["source"].tolist() == ["B"]


def test_a_model_that_cannot_be_loaded_is_tried_twice_and_others_are_served(store):
    class Unloadable(ScriptedEngine):
        @contextmanager
        def load(self, model):
            with super().load(model) as loaded:
                if model == A:
                    raise SkillmoeError("model 'A' cannot be loaded")
                yield loaded

    engine = Unloadable(echo)
    with pytest.raises(SkillmoeError, match=r"2 request.*model 'A' cannot be loaded"):
        schedule.run({1: asking([ask("x")], [ask("later")]), 2: asking([ask("y", B)])}, engine, store)
    assert engine.loads == ["A", "A", "B"]
    assert store.generations()["source"].tolist() == ["B"]
    assert len(store.batches()) == 1


def test_a_store_that_cannot_be_written_to_is_refused_before_any_load(tmp_path):
    (tmp_path / "file").write_text("")
    engine = ScriptedEngine(echo)
    with pytest.raises(SkillmoeError, match="cannot write"):
        schedule.run({1: asking([ask("x")])}, engine, GenerationStore(tmp_path / "file" / "store"))
    assert engine.loads == []


def test_a_disk_that_is_full_for_a_moment_loses_nothing(store, monkeypatch):
    """What could not be written is held, and written when the load ends."""
    calls = []

    def reply(request):
        if len(calls) == 2:
            monkeypatch.setattr(journal.os, "write", full)
        calls.append(request)
        return echo(request)

    def full(file, data):
        monkeypatch.undo()
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SkillmoeError, match="No space left on device; what was stored is intact"):
        schedule.run({1: asking([ask(f"{i}") for i in range(6)])}, ScriptedEngine(reply), store)
    assert len(store.generations()) == 3 == len(calls)
    engine = ScriptedEngine(echo)
    schedule.run({1: asking([ask(f"{i}") for i in range(6)])}, engine, store)
    assert len(engine.requests) == 3


def test_texts_are_not_held_and_large_runs_come_in_pieces(store, monkeypatch):
    """Small limits, the same outcome; what waits at a time, and what is held of it, stays small."""
    programs = lambda: {i: asking([ask(f"{i}"), ask(f"{i}", B)], [ask(f"{i} again")]) for i in range(60)}  # noqa: E731
    whole = schedule.run(programs(), ScriptedEngine(echo), GenerationStore(store.root / "whole"))
    monkeypatch.setattr(schedule, "WAITING", 20)
    monkeypatch.setattr(schedule, "AT_ONCE", 7)
    monkeypatch.setattr(schedule, "FLUSH_BYTES", 1000)
    engine = ScriptedEngine(echo)
    assert schedule.run(programs(), engine, store) == whole
    assert len(engine.requests) == 180
    assert len(engine.loads) == 15, "three for each piece of fourteen programs"
    assert store.generations()["request_id"].is_unique


def test_what_is_finished_is_stored_before_the_model_goes(store):
    """Unloading takes seconds, in which a second Ctrl-C may come."""
    at_unload = []

    class Watched(ScriptedEngine):
        @contextmanager
        def load(self, model):
            with super().load(model) as loaded:
                try:
                    yield loaded
                finally:
                    at_unload.append(len(store.generations()))

    schedule.run({1: asking([ask("x"), ask("y")])}, Watched(echo), store)
    assert at_unload == [2]


def test_finished_generations_are_appended_every_few_seconds(store, monkeypatch):
    monkeypatch.setattr(schedule, "FLUSH_S", 0.0)
    stored = []

    def slow(request):
        stored.append(len(store.generations()))
        return echo(request)

    schedule.run({1: asking([ask(f"{i}") for i in range(4)])}, ScriptedEngine(slow), store)
    assert stored == [0, 1, 2, 3]
    batches = store.batches()
    assert batches["n_requests"].tolist() == [4]


SLOW_RUN = """
import sys, time
sys.path[:0] = ["tests", "tests/inference", "."]
from test_schedule import GenerationStore, ScriptedEngine, long_programs, schedule

schedule.FLUSH_S = 0.1

def reply(request):
    time.sleep(0.01)
    return request.id

schedule.run(long_programs(), ScriptedEngine(reply), GenerationStore(sys.argv[1]))
"""


def long_programs():
    return {i: asking([ask(f"{i}"), ask(f"{i}", B)], [ask(f"{i} again")]) for i in range(300)}


def _lines(root):
    """Generations that are finished and in no part yet."""
    return sum(max(file.read_bytes().count(b"\n") - 1, 0) for file in root.glob("store/open/*.jsonl"))


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", SLOW_RUN, str(tmp_path / "store")], cwd=ROOT)
    try:
        while len(list(tmp_path.glob("store/parts/*.parquet"))) < 3 or not _lines(tmp_path):
            assert killed.poll() is None
            time.sleep(0.01)
    finally:
        killed.kill()
        killed.wait()
    assert killed.returncode == -signal.SIGKILL

    store = GenerationStore(tmp_path / "store")
    unsealed = _lines(tmp_path)
    before = len(store.generations())
    store.recover()
    kept = set(store.generations()["request_id"])
    assert len(kept) == before + unsealed < 900
    assert not list(tmp_path.glob("store/open/*"))
    assert store.batches()["n_requests"].sum() == len(kept)
    engine = ScriptedEngine(lambda request: request.id)
    outcomes = schedule.run(long_programs(), engine, store)
    rest = [request.id for request in engine.requests]
    assert len(rest) == len(set(rest))
    assert kept.isdisjoint(rest)
    asked = {key for outcome in outcomes.values() for key in outcome.request_ids}
    assert kept | set(rest) == asked
    assert len(asked) == 900
    assert store.generations()["request_id"].is_unique
    texts = {key: generation.text for key, generation in store.get(asked).items()}
    assert texts == {key: key for key in asked}


# --- any programs, any order --------------------------------------------------------------------------

WAVES = st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=3), max_size=3)


def talking(waves):
    """A program whose later requests hold what came back before, as in a debate."""
    said = ""
    for wave in waves:
        answers = yield [ask(f"{text} {said}", (A, B, C)[model]) for model, text in wave]
        said = digest(said, [generation.text for generation in answers])[:8]
    return said


def alone(waves):
    """What the program returns if each of its requests is simply answered."""
    program = talking(waves)
    try:
        wave = next(program)
        while True:
            wave = program.send([Generation(r.id, digest(r.id), "stop", 0, 0) for r in wave])
    except StopIteration as end:
        return end.value


@settings(max_examples=40)
@given(
    st.lists(WAVES, max_size=4),
    st.sampled_from([max, min, *policies.POLICIES.values()]),
    st.sampled_from([ScriptedEngine, Backwards, Streaming]),
    st.integers(0, 12),
)
def test_the_order_of_things_changes_no_result(tmp_path_factory, programs, policy, engine_type, n):
    """Neither other programs, nor the policy, nor who finishes first, nor a kill on the way."""
    store = GenerationStore(tmp_path_factory.mktemp("store"))

    def reply(request):
        return digest(request.id)

    broken = Interrupted(reply, n)
    with contextlib.suppress(KeyboardInterrupt):
        schedule.run(dict(enumerate(map(talking, programs))), broken, store, policy=policy)
    assert len(store.generations()) == len(broken.requests[:n])
    engine = engine_type(reply)
    outcomes = schedule.run(dict(enumerate(map(talking, programs))), engine, store, policy=policy)
    assert [outcomes[i].result for i in range(len(programs))] == [alone(waves) for waves in programs]

    generated = [request.id for request in broken.requests[:n] + engine.requests]
    assert len(generated) == len(set(generated))
    assert set(generated) == {key for outcome in outcomes.values() for key in outcome.request_ids}
