import pandas as pd
import pytest
import scenes

from skillmoe_lib import answers, prompts, tables
from skillmoe_lib.evaluation import results
from skillmoe_lib.generation import Failure
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods.single import Run, Single, every_expert, read_reply

CHOICE = scenes.question("c", "B")
MATH = scenes.question("m", "1/2", kind="math")
TEXT = scenes.question("t", "olleh", kind="text")
ASKED = [CHOICE, MATH, TEXT]
POOL = {"ann": scenes.expert("ann"), "bob": scenes.expert("bob"), "cid": scenes.expert("cid", reasoning=True)}

SAID = {
    ("ann", "c"): "The answer is (B)",
    ("ann", "m"): "The answer is \\boxed{0.5}",
    ("ann", "t"): "The answer is \\boxed{Olleh}",
    ("bob", "c"): "The answer is (C)",
    ("bob", "m"): "The answer is \\boxed{\\frac{2}{4}}",
    ("bob", "t"): "I do not know.",
    ("cid", "c"): "<think>The answer is (B)",
    ("cid", "m"): "thoughts </think>The answer is \\boxed{2}",
}
PARTS = {("ann", "c"): "c", ("bob", "c"): "c"}


def reply_with(said):
    """The text for an expert and question; a failure where there is none."""

    def reply(request):
        text = said.get((request.expert, request.question_id))
        return Failure(request.id, "down") if text is None else text

    return reply


def scores_of(root, said=SAID, asked=ASKED, pool=POOL):
    engine = ScriptedEngine(reply_with(said))
    outcomes = schedule.run(every_expert(asked, pool, seed=0), engine, GenerationStore(root), skip=True)
    return outcomes, results.scores(outcomes, asked, pool)


def test_panel_asks_every_expert_every_question_once():
    made = every_expert(ASKED, POOL, seed=0)
    assert [key for key, _ in made] == [Single(q.question_id, name, 0) for q in ASKED for name in POOL]


def test_scores_grade_every_kind_and_keep_statuses_apart(tmp_path):
    outcomes, scores = scores_of(tmp_path)
    found = {(row.expert, row.question_id): row for row in scores.itertuples()}
    assert {key: (row.status, row.correct) for key, row in found.items()} == {
        ("ann", "c"): ("answered", True),
        ("ann", "m"): ("answered", True),
        ("ann", "t"): ("answered", True),
        ("bob", "c"): ("answered", False),
        ("bob", "m"): ("answered", True),
        ("bob", "t"): ("unparsed", False),
        ("cid", "c"): ("unparsed", False),
        ("cid", "m"): ("answered", False),
        ("cid", "t"): ("not_run", False),
    }
    assert found["bob", "m"].answer == "\\frac{2}{4}"
    assert pd.isna(found["bob", "t"].answer)
    assert not scores["truncated"].any()
    assert scores["request_id"].tolist() == [o.request_ids[0] for o in outcomes.values()]


def test_cut_is_a_column_and_a_status_only_where_no_answer_was_reached():
    """An answer before the cut counts, and is marked; "12" that might have become 125 does not."""
    texts = {"ann": "The answer is (B). And furthermore", "bob": "The answer is (", "cid": ""}
    outcomes = {
        Single("c", name, 0): schedule.Outcome(
            read_reply(CHOICE, POOL[name], scenes.generation(text, "length")), (name,)
        )
        for name, text in texts.items()
    }
    scores = results.scores(outcomes, [CHOICE], POOL)
    assert scores[["expert", "status", "correct", "truncated"]].to_numpy().tolist() == [
        ["ann", "answered", True, True],
        ["bob", "cut", False, True],
        ["cid", "cut", False, True],
    ]


def test_by_question_nests_the_stored_generations(tmp_path):
    outcomes, _ = scores_of(tmp_path)
    nested = results.by_question(outcomes, GenerationStore(tmp_path))
    assert {(name, q): g.text for q, part in nested.items() for name, g in part.items() if g.text} == SAID
    assert [g.finish_reason for g in nested["t"].values()] == ["stop", "stop", "not_run"]


def test_no_text_is_kept_of_a_single_answer(tmp_path):
    """There may be a million of them (`benchmarks/scale.py`)."""
    outcomes, _ = scores_of(tmp_path, {key: f"{text} {'x' * 5000}" for key, text in SAID.items()})
    assert max(len(repr(outcome)) for outcome in outcomes.values()) < 500


def test_used_requests_keeps_repeats_and_rounds():
    outcomes = {
        Run("a", 0, "c"): schedule.Outcome(None, ("r1", "r2", "r1"), (2, 0, 1)),
        Run("b", 1, "c"): schedule.Outcome(None, ("r1",)),
    }
    assert results.used_requests(outcomes).to_numpy().tolist() == [
        ["a", 0, "c", 0, "r1"],
        ["a", 0, "c", 0, "r2"],
        ["a", 0, "c", 2, "r1"],
        ["b", 1, "c", 0, "r1"],
    ]


def test_table_grades_what_methods_returned_and_adds_the_cost(tmp_path):
    """Every kind of question, a missing answer, and one that did not run."""
    said = {"c": "The answer is (B)", "m": "The answer is \\boxed{.50}", "t": "Hm."}
    pool = {name: scenes.expert(name) for name in ("ann", "bob")}
    programs = {
        Run("solo", seed, q.question_id): _cot(q, pool["ann"], seed) for seed in (0, 1) for q in ASKED
    } | {Run("failing", 0, "c"): _cot(CHOICE, pool["bob"], 0)}

    def reply(request):
        return Failure(request.id, "down") if request.expert == "bob" else said[request.question_id]

    played = scenes.play(programs, reply, tmp_path)
    table = results.results_table(played.outcomes, ASKED, played.store)
    assert list(table.columns) == list(tables.RESULTS.columns)
    assert table[["method", "seed", "question_id", "status", "correct", "calls"]].to_numpy().tolist() == [
        *(
            ["solo", seed, *row, 1]
            for seed in (0, 1)
            for row in (("c", "answered", True), ("m", "answered", True), ("t", "unparsed", False))
        ),
        ["failing", 0, "c", "not_run", False, 1],
    ]
    assert table["answer"].tolist()[:2] == ["B", ".50"]
    assert table["answer"].isna().tolist() == [False, False, True, False, False, True, True]
    assert table["output_tokens"].tolist() == [4, 4, 1, 4, 4, 1, 0]
    assert table["device_seconds"].isna().tolist() == [False] * 6 + [True]


def _cot(question, expert, seed):
    (generation,) = yield [prompts.solve(question, expert, seed=seed)]
    return answers.read(question, generation)


# -- bounds --------------------------------------------------------------------------------------


def scored(grid, *, not_run=(), overflow=()):
    """Scores from expert -> string of 1 and 0, a digit a question."""
    rows = [
        {
            "request_id": f"{name}{i}",
            "question_id": f"q{i}",
            "expert": name,
            "sample": 0,
            "answer": None if (name, i) in not_run else f"by {name}",
            "status": _status((name, i), not_run, overflow),
            "correct": digit == "1",
            "truncated": False,
        }
        for name, digits in grid.items()
        for i, digit in enumerate(digits)
    ]
    return tables.check(pd.DataFrame(rows), tables.SCORES)


def _status(key, not_run, overflow):
    return "not_run" if key in not_run else "overflow" if key in overflow else "answered"


def bounds(grid, **options):
    scores = scored(grid, **options)
    asked = [scenes.question(name) for name in scores["question_id"].unique()]
    table = results.oracles(scores, asked, seed=0)
    return {name: part.set_index("question_id").sort_index() for name, part in table.groupby("method")}


def test_oracles_by_hand():
    found = bounds({"ann": "1000", "bob": "0110", "cid": "1100"})
    # bob and cid have two each: the first by name stands for the data set's best.
    assert found["dataset_oracle"]["correct"].tolist() == [False, True, True, False]
    assert set(found["dataset_oracle"]["answer"]) == {"by bob"}
    assert found["instance_oracle"]["correct"].tolist() == [True, True, True, False]
    assert found["instance_oracle"]["answer"].tolist() == ["by ann", "by bob", "by bob", "by ann"]
    for table in found.values():
        assert (table[["calls", "prompt_tokens", "output_tokens", "device_seconds"]] == 0).all(axis=None)
        assert set(table["benchmark"]) == {"b"}


@pytest.mark.parametrize("draw", range(5))
def test_no_expert_beats_the_instance_oracle(draw):
    from skillmoe_lib.seeding import generator

    random = generator("oracle", draw)
    grid = {name: "".join(random.choice(["0", "1"], 12)) for name in ("ann", "bob", "cid")}
    found = bounds(grid)
    right = {name: [digit == "1" for digit in digits] for name, digits in grid.items()}
    order = [f"q{i}" for i in range(12)]
    best = found["instance_oracle"].loc[order, "correct"].tolist()
    assert all(any(b >= a for a, b in [pair]) for r in right.values() for pair in zip(r, best, strict=True))
    assert best == [any(column) for column in zip(*right.values(), strict=True)]
    assert found["dataset_oracle"]["correct"].sum() == max(sum(r) for r in right.values())


def test_what_was_not_run_does_not_count_against_an_expert():
    # bob is right wherever he ran: 2 of 2, against ann's 3 of 4. His rows stay, and say so.
    found = bounds({"ann": "1110", "bob": "1100"}, not_run={("bob", 2), ("bob", 3)})
    assert found["dataset_oracle"]["status"].tolist() == ["answered", "answered", "not_run", "not_run"]
    assert found["instance_oracle"]["status"].tolist() == ["answered"] * 4
    assert found["instance_oracle"]["answer"].tolist()[3] == "by ann"  # wrong, not missing


def test_a_prompt_that_does_not_fit_counts_against_an_expert():
    # bob: 2 of 4, and not 2 of 2.
    found = bounds({"ann": "1110", "bob": "1100"}, overflow={("bob", 2), ("bob", 3)})
    assert set(found["dataset_oracle"]["answer"]) == {"by ann"}


def test_oracles_where_nothing_ran():
    found = bounds({"ann": "0", "bob": "0"}, not_run={("ann", 0), ("bob", 0)})
    for table in found.values():
        assert table["status"].tolist() == ["not_run"]
        assert not table["correct"].any()


def test_by_family_counts_what_ran():
    """Of ann's two sums one was not run; the interval of 1 of 1 is Wilson's, 0.2065 to 1."""
    rows = [("q1", "ann", "answered", True), ("q2", "ann", "not_run", False), ("q3", "ann", "cut", False)]
    scores = pd.DataFrame(rows, columns=["question_id", "expert", "status", "correct"])
    families = pd.Series({"q1": "sums", "q2": "sums", "q3": "spelling"})
    found = results.by_family(scores, families).set_index("family")
    assert found[["n", "n_right", "accuracy"]].to_dict("index") == {
        "spelling": {"n": 1, "n_right": 0, "accuracy": 0.0},
        "sums": {"n": 1, "n_right": 1, "accuracy": 1.0},
    }
    assert found.loc["sums", "low"] == pytest.approx(0.2065, abs=1e-4)
