"""The classroom's recorded set: small, complete, and made again from a report and its store."""

import json
from pathlib import Path

import pandas as pd
import pytest

from skillmoe_lib import tables
from skillmoe_lib.classroom import recording
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts import load_pool
from skillmoe_lib.generation import Generation, Message, Request, Sampling
from skillmoe_lib.inference.store import Batch, GenerationStore

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_are_whole_and_under_a_megabyte() -> None:
    sizes = {path.stem: path.stat().st_size for path in (ROOT / recording.FOLDER).glob("*.parquet")}
    assert set(sizes) == set(recording.TABLES)
    assert sum(sizes.values()) < 1_000_000
    for name, columns in recording.TABLES.items():
        assert tuple(recording.load(name).columns) == columns


def test_every_expert_answered_every_validation_question() -> None:
    questions, answers = recording.load("questions"), recording.load("answers")
    asked = set(questions.loc[questions["split"] == "validation", "question_id"])
    experts = load_pool("pocket", locate=False).experts
    assert len(asked) == 320
    assert len(answers) == 320 * len(experts)
    assert set(answers["expert"]) == set(experts)
    assert set(answers["question_id"]) == asked
    right = answers[answers["correct"]].merge(questions, on="question_id")
    assert (right["answer"] == right["gold"]).mean() > 0.95  # the others are graded equal
    assert recording.load("keywords").groupby("question_id").size().eq(5).all()


def test_skills_are_those_of_two_replies_or_more() -> None:
    replies = recording.load("keywords")
    some = replies["question_id"].unique()[:3]
    found = recording.skills(some)
    assert set(found["question_id"]) <= set(some)
    assert found["votes"].between(2, 5).all()


def test_an_unknown_table_is_one_line() -> None:
    with pytest.raises(SkillmoeError, match="unknown table 'answer'"):
        recording.load("answer")


# -- made again ----------------------------------------------------------------------------------


def request(stage: str, question_id: str, expert: str, sample: int = 0) -> Request:
    model = load_pool("pocket", locate=False).experts["Sums"].model
    message = Message("user", f"{stage} {question_id} {expert}")
    return Request(stage, question_id, expert, model, (message,), Sampling(), sample)


def test_record_reads_a_report_and_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    (tmp_path / "data" / "pools").mkdir(parents=True)
    pool = (ROOT / "data" / "pools" / "pocket.yaml").read_text(encoding="utf-8")
    (tmp_path / "data" / "pools" / "pocket.yaml").write_text(pool, encoding="utf-8")
    for name in ("keywords", "direct"):
        text = (ROOT / "data" / "examples" / f"{name}.yaml").read_text(encoding="utf-8")
        target = tmp_path / "data" / "examples" / f"{name}.yaml"
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
    checker = json.dumps({"family": "gcd"})
    asked = [
        {"question_id": name, "benchmark": "pocket", "split": split, "text": f"What is {name}?"}
        | {"choices": "[]", "gold": "4", "subject": "arithmetic", "kind": "text", "checker": checker}
        for name, split in (("v1", "validation"), ("v2", "validation"), ("t1", "test"))
    ]
    texts = {
        request("keywords", "v1", "", 0): "counting, adding",
        request("solve", "v1", "Sums"): r"So \boxed{4}",
        request("solve", "v2", "Sums"): r"So \boxed{5}",
        request("aggregate", "v1", "Moderator-1"): r"The answer is \boxed{4}",
    }
    store = GenerationStore(tmp_path / "store")
    made = [(asked_for, Generation(asked_for.id, text, "stop", 9, 3)) for asked_for, text in texts.items()]
    store.append(made, Batch("b", "m", "scripted", 0.0, 0.0, 1, {}, "2026-01-01"))
    ids = [asked_for.id for asked_for in texts]
    score = {"expert": "Sums", "sample": 0, "status": "answered", "truncated": False}
    scores = [
        {**score, "request_id": ids[1], "question_id": "v1", "answer": "4", "correct": True},
        {**score, "request_id": ids[2], "question_id": "v2", "answer": "5", "correct": False},
    ]
    used = {"method": "m", "seed": 0, "question_id": "v1", "round": 0}
    result = {"method": "vote", "benchmark": "pocket", "question_id": "t1", "answer": "4", "correct": True}
    result |= {
        "status": "answered",
        "calls": 3,
        "prompt_tokens": 1,
        "output_tokens": 2,
        "device_seconds": 0.1,
    }
    for name, schema, rows in (
        ("questions", tables.QUESTIONS, asked),
        ("scores_validation", tables.SCORES, scores),
        ("used_keywords", tables.USED, [{**used, "request_id": ids[0]}]),
        ("used_items", tables.USED, [{**used, "request_id": ids[3]}]),
        ("results", tables.RESULTS, [{**result, "seed": 0}, {**result, "seed": 1}]),
    ):
        tables.write(pd.DataFrame(rows), tmp_path / "report" / "tables" / f"{name}.parquet", schema, {})
    sizes = recording.record(tmp_path / "report", tmp_path / "store")
    assert set(sizes) == set(recording.TABLES)
    assert recording.load("answers")[["question_id", "answer", "output_tokens"]].to_numpy().tolist() == [
        ["v1", "4", 3],
        ["v2", "5", 3],
    ]
    assert recording.load("items").to_numpy().tolist() == [["v1", "Moderator-1", "answered", True]]
    assert recording.load("keywords")["text"].tolist() == ["counting, adding"]
    assert recording.load("chains")["question_id"].tolist() == ["v1"]
    assert recording.load("results")["method"].tolist() == ["vote"]
