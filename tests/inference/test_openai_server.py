"""A server of the tests' own that misbehaves, asked by the real OpenAI client."""

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.servers import Server, is_named, without_secrets
from skillmoe_lib.generation import Failure, Generation, Message, Model, Request, Sampling
from skillmoe_lib.inference import prices, schedule
from skillmoe_lib.inference.engines import connect
from skillmoe_lib.inference.engines.openai_server import OpenAIEngine
from skillmoe_lib.inference.store import GenerationStore

pytest.importorskip("openai")
KEY = "sk-planted-0123456789abcdef"


class Misbehaving(BaseHTTPRequestHandler):
    """Does what the last message asks for; `seen` counts attempts, `log` keeps requests."""

    protocol_version = "HTTP/1.1"
    seen: Counter
    log: list
    busy: list

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.headers.get("authorization") == "Bearer wrong":
            return self.reply({"error": {"message": "Incorrect API key provided: wrong"}}, status=401)
        return self.reply(
            {"object": "list", "data": [{"id": "good", "object": "model"}, {"id": "gpt-4o-mini"}]}
        )

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = asked["messages"][-1]["content"] if "messages" in asked else asked["prompt"]
        self.log.append((time.monotonic(), asked))
        self.seen[text] += 1
        first, kind = self.seen[text] == 1, text.split()[0]
        self.busy[0] += 1
        self.busy[1] = max(self.busy)
        try:
            getattr(self, f"do_{kind}", self.do_ok)(asked, first)
        finally:
            self.busy[0] -= 1

    def reply(self, body, status=200, headers=(), cut=None):
        data = json.dumps(body).encode() if not isinstance(body, bytes) else body
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True

    def answer(self, asked, model=None, **changed):
        plain = "prompt" in asked
        choice = {"index": 0, "finish_reason": "stop", "logprobs": None}
        choice |= {"text": " 4"} if plain else {"message": {"role": "assistant", "content": "It is 4."}}
        usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": model or asked["model"]}
        return {**body, "choices": [choice | changed.pop("choice", {})], "usage": usage, **changed}

    def do_ok(self, asked, first):
        self.reply(self.answer(asked))

    def do_slow(self, asked, first):
        time.sleep(0.15)
        self.reply(self.answer(asked))

    def do_later(self, asked, first):
        busy = {"error": {"message": "slow down"}}
        self.reply(busy, 429, [("Retry-After", "0.3")]) if first else self.reply(self.answer(asked))

    def do_broken(self, asked, first):
        self.reply({"error": {"message": "oops"}}, 500) if first else self.reply(self.answer(asked))

    def do_down(self, asked, first):
        self.reply({"error": {"message": f"down for {self.headers['authorization']}"}}, 503)

    def do_hang(self, asked, first):
        if first:
            time.sleep(1.6)
        self.reply(self.answer(asked))

    def do_half(self, asked, first):
        self.reply(self.answer(asked), cut=40 if first else None)

    def do_torn(self, asked, first):
        self.reply(b'{"id": "x", "choices": [{"mess') if first else self.reply(self.answer(asked))

    def do_other(self, asked, first):
        self.reply(self.answer(asked, model="cheaper-model"))

    def do_snapshot(self, asked, first):
        self.reply(self.answer(asked, model=asked["model"] + "-2024-07-18"))

    def do_long(self, asked, first):
        error = {
            "message": "This model's maximum context length is 10 tokens",
            "code": "context_length_exceeded",
        }
        self.reply({"error": error}, 400)

    def do_bad(self, asked, first):
        self.reply({"error": {"message": "not allowed"}}, 400)

    def do_locked(self, asked, first):
        self.reply({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401)

    def do_poor(self, asked, first):
        self.reply({"error": {"message": "no quota", "code": "insufficient_quota"}}, 429)

    def do_uncounted(self, asked, first):
        self.reply(self.answer(asked, usage=None))

    def do_filtered(self, asked, first):
        self.reply(self.answer(asked, choice={"finish_reason": "content_filter"}))

    def do_thought(self, asked, first):
        self.reply(self.answer(asked, choice={"message": {"content": "4", "reasoning_content": "2 and 2"}}))

    def do_cut(self, asked, first):
        self.reply(self.answer(asked, choice={"finish_reason": "length"}))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    handler = type("Handler", (Misbehaving,), {"seen": Counter(), "log": [], "busy": [0, 0]})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    http.handler, http.url = handler, f"http://127.0.0.1:{http.server_address[1]}/v1"
    yield http
    http.shutdown()
    http.server_close()
    thread.join()


def engine(server, **settings):
    entry = Server(**{"url": server.url, "key": "TEST_KEY", "timeout_s": 1, "retries": 2, **settings})
    return OpenAIEngine({"lab": entry}, first_pause_s=0.01)


def request(text, model="good", max_tokens=16, template="chat"):
    held = Model(model, "served by lab", template=template, path="server:lab")
    sampling = Sampling(max_tokens=max_tokens, stop=("END",))
    return Request("solve", text, "Expert", held, (Message("user", text),), sampling)


def ask(engine, *texts, **settings):
    requests = [request(text, **settings) for text in texts]
    with engine.load(requests[0].model) as loaded:
        outcomes = {outcome.request_id: outcome for outcome in loaded.generate(requests)}
    return [outcomes[r.id] for r in requests]


def test_a_generation_has_the_tokens_that_the_server_counted(server):
    (good,) = ask(engine(server), "ok one")
    assert (good.text, good.finish_reason, good.prompt_tokens, good.output_tokens) == (
        "It is 4.",
        "stop",
        12,
        3,
    )
    asked = server.handler.log[0][1]
    assert (asked["temperature"], asked["top_p"], asked["max_tokens"], asked["stop"]) == (
        0.7,
        1.0,
        16,
        ["END"],
    )
    assert asked["seed"] == request("ok one").engine_seed


@pytest.mark.parametrize("kind", ["later", "broken", "hang", "half", "torn"])
def test_what_may_pass_is_tried_again(server, kind):
    (outcome,) = ask(engine(server), f"{kind} please")
    assert isinstance(outcome, Generation)
    assert server.handler.seen[f"{kind} please"] == 2


def test_the_server_says_how_long_to_wait(server):
    ask(engine(server), "later please")
    (first, _), (second, _) = server.handler.log
    assert second - first >= 0.3


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("other", "not_run", "answered with 'cheaper-model'"),
        ("long", "overflow", "maximum context length"),
        ("bad", "not_run", "refuses it: 400"),
        ("uncounted", "not_run", "usage"),
        ("filtered", "not_run", "content_filter"),
        ("poor", "not_run", "no quota left"),
        ("locked", "not_run", "refuses the key in TEST_KEY"),
    ],
)
def test_what_will_not_pass_is_asked_once(server, kind, status, reason):
    (outcome,) = ask(engine(server), f"{kind} please")
    assert isinstance(outcome, Failure)
    assert outcome.status == status
    assert reason in outcome.reason
    assert server.handler.seen[f"{kind} please"] == 1
    assert KEY not in outcome.reason


def test_a_server_that_stays_down_is_given_up(server):
    (outcome,) = ask(engine(server), "down please")
    assert outcome.reason.startswith("given up after 3 attempts: 503")
    assert server.handler.seen["down please"] == 3
    assert KEY not in outcome.reason


def test_a_refused_key_ends_all_further_requests(server):
    outcomes = ask(engine(server, concurrency=1), "locked please", *[f"ok {i}" for i in range(20)])
    assert all(isinstance(outcome, Failure) for outcome in outcomes)
    assert len(server.handler.log) == 1


def test_snapshots_thoughts_cuts_and_plain_prompts(server):
    snapshot, thought, cut = ask(engine(server), "snapshot please", "thought please", "cut please")
    assert snapshot.text == "It is 4."
    assert thought.text == "<think>2 and 2</think>\n4"
    assert cut.finish_reason == "length"
    (plain,) = ask(engine(server), "ok plain", template="plain")
    assert plain.text == " 4"
    assert server.handler.log[-1][1]["prompt"].endswith("Answer:")


def test_as_many_at_a_time_as_allowed_and_no_more(server):
    ask(engine(server, concurrency=3), *[f"slow {i}" for i in range(9)])
    assert server.handler.busy[1] == 3


def test_requests_begin_no_faster_than_the_rate(server):
    ask(engine(server, requests_per_minute=1200), *[f"ok {i}" for i in range(6)])
    times = [at for at, _ in server.handler.log]
    assert times[-1] - times[0] >= 5 * 0.05 * 0.9


def test_the_cap_is_never_crossed(server):
    # 0.15 and 0.60 USD a million. A request may cost at most (2 bytes + 64) * .15 + 1000 * .60 millionths.
    most = (len("ok 00") + 64) * 0.15e-6 + 1000 * 0.60e-6
    real = 12 * 0.15e-6 + 3 * 0.60e-6
    capped = engine(server, spending_cap=2.5 * most, concurrency=8)
    capped.check(request("ok", model="gpt-4o-mini").model)
    texts = [f"ok {i:02d}" for i in range(400)]
    outcomes = ask(capped, *texts, model="gpt-4o-mini", max_tokens=1000)
    paid = [outcome for outcome in outcomes if isinstance(outcome, Generation)]
    # It goes on until the largest possible price no longer fits, and never spends more than the cap.
    assert len(paid) * real <= 2.5 * most
    assert len(paid) * real + most > 2.5 * most - most
    assert "spending cap of" in next(o for o in outcomes if isinstance(o, Failure)).reason
    assert len(server.handler.log) == len(paid)


def test_a_cap_without_a_price_is_refused_before_anything_is_sent(server):
    with pytest.raises(SkillmoeError, match="spending_cap, but data/prices/ has no price of 'good'"):
        engine(server, spending_cap=1.0).check(request("ok").model)
    assert not server.handler.log


def test_checks_before_anything_is_sent(server, monkeypatch):
    engine(server).check(request("ok").model)
    with pytest.raises(SkillmoeError, match="has no model 'absent': it has good, gpt-4o-mini"):
        engine(server).check(request("ok", model="absent").model)
    with pytest.raises(SkillmoeError, match="cannot be reached"):
        engine(server, url="http://127.0.0.1:9/v1").check(request("ok").model)
    monkeypatch.setenv("TEST_KEY", "wrong")
    with pytest.raises(SkillmoeError, match="refuses the key in the environment variable TEST_KEY: 401"):
        engine(server).check(request("ok").model)
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(SkillmoeError, match="TEST_KEY: it is not set"):
        engine(server).check(request("ok").model)
    local = Model("org/name", "1", path="/somewhere")
    with pytest.raises(SkillmoeError, match="name a server in the pool"):
        engine(server).check(local)


def test_a_planted_key_is_found_nowhere(server, tmp_path, capfd, caplog):
    store = GenerationStore(tmp_path)
    kinds = ["ok", "broken", "half", "other", "bad", "down", "locked"]
    asked = [request(f"{kind} please") for kind in kinds]

    def program(one):
        answers = yield [one]
        return answers[0].text

    with pytest.raises(SkillmoeError) as told:
        schedule.run({r.id: program(r) for r in asked}, engine(server, concurrency=1), store)
    assert store.known({asked[0].id})
    batch = store.batches().iloc[0]
    assert batch["engine"] == "openai"
    assert json.loads(batch["versions"])["served"] == "good"
    said = str(told.value) + repr(told.value.__cause__) + "".join(capfd.readouterr()) + caplog.text
    assert KEY not in said
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
    assert KEY not in store.failures().to_csv() + store.generations().to_csv()
    assert KEY not in repr(engine(server)) + repr(engine(server).servers)


def test_local_models_and_servers_in_one_run(server):
    both = connect("vllm", engine(server).servers)
    served = request("ok").model
    both.check(served)
    assert both.prompt_tokens([request("ok")]) == [0]
    both.start()  # all models are on servers: vLLM is not started
    with both.load(served) as loaded:
        assert next(iter(loaded.generate([request("ok one")]))).text == "It is 4."
    both.release()
    assert connect("vllm", {}).name == both.name == "vllm"


@pytest.mark.parametrize(
    ("named", "same"),
    [
        ("gpt-4o", True),
        ("gpt-4o-2024-08-06", True),
        ("gpt-4o-mini", False),
        ("gpt-4o:latest", True),
        ("gpt", False),
    ],
)
def test_snapshots_are_the_model_and_siblings_are_not(named, same):
    assert is_named("gpt-4o", named) is same


def test_prices_by_hand_and_by_day():
    from datetime import date

    price = prices.price_of("gpt-4o-mini-2024-07-18", day=date(2026, 1, 1))
    # 900 new and 100 cached tokens (no price of their own) at .15, 500 written at .60 a million.
    assert price.of(prompt_tokens=1000, output_tokens=500, cached_tokens=100) == pytest.approx(
        0.00015 + 0.0003
    )
    assert prices.price_of("gpt-4o-mini", day=date(2020, 1, 1)) is None
    assert prices.price_of("gpt-4o") is None


def test_keys_are_removed_from_what_is_told():
    assert without_secrets("Bearer abc123 and my-secret", "my-secret") == "[key] and [key]"
    assert "sk-" not in without_secrets("Incorrect API key provided: sk-proj-12***89.", "")


def test_attempts_without_an_answer_count_as_if_they_were_charged(server):
    most = (len("hang 1") + 64) * 0.15e-6 + 1000 * 0.60e-6
    capped = engine(server, spending_cap=1.5 * most, concurrency=1)
    (outcome,) = ask(capped, "hang 1", model="gpt-4o-mini", max_tokens=1000)
    assert "spending cap" in outcome.reason
    assert server.handler.seen["hang 1"] == 1
    busy = engine(server, spending_cap=1.5 * most, concurrency=1)
    (outcome,) = ask(busy, "later 1", model="gpt-4o-mini", max_tokens=1000)
    assert isinstance(outcome, Generation), "a 429 costs nothing"
