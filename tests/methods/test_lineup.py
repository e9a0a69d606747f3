from dataclasses import replace

import pandas as pd
import pytest
import scenes
from scenes import says

from skillmoe_lib import tables
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import results
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.example_bank import ExampleBank
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.methods.single import Run

POOL = scenes.pool("ann", "bob", "cid", "dee")
CHOICE = Choice(("ann", "bob", "cid", "dee"), "dee")
QUESTION = scenes.question("q1")
SEQUENTIAL = ("sequential", "sequential_without_skills")
RECRUITED = ("symbolic_moe", "majority_vote", "weighted_vote")
#: docs/method.md 4, and 1: the least and the most calls a question, for routes of three slots.
CALLS = {
    "symbolic_moe": (4, 4),
    "sequential": (1, 3),
    "majority_vote": (3, 3),
    "weighted_vote": (3, 3),
    "cot_task_best": (1, 1),
    "best_single": (1, 1),
    "self_consistency": (5, 5),
    "self_refine": (2, 7),
    "debate": (6, 6),
    "self_moa": (4, 4),
    "moa": (7, 7),
    "reconcile": (3, 9),
    "fusion_of_n": (6, 6),
    "best_of_n": (6, 6),
    "complexity_vote": (5, 5),
    "adaptmi": (1, 1),
    "own_examples": (1, 1),
    "random_k": (3, 3),
    "top_k": (3, 3),
    "sequential_without_skills": (1, 3),
    "confidence_sized": (3, 3),
    "cluster_router": (3, 3),
    "knn_router": (3, 3),
    "logistic_router": (3, 3),
    "committee": (3, 3),
}


def routes(slots, *, questions=("q1",), seeds=(0,), probability=0.25):
    """A Routes frame: method -> experts in slot order, the same for every question and seed."""
    rows = [
        (method, seed, question, slot, name, 0.5, probability)
        for method, names in slots.items()
        for seed in seeds
        for question in questions
        for slot, name in enumerate(names)
    ]
    return tables.check(pd.DataFrame(rows, columns=list(tables.ROUTES.columns)), tables.ROUTES)


def programs(*given, **settings):
    """The programs of methods, with a bank of examples that has none for the questions asked here."""
    return lineup.programs(*given, **{"bank": ExampleBank(), **settings})


ALL_ROUTES = routes(dict.fromkeys(("symbolic_moe", *lineup.ROUTED), ("bob", "cid", "bob")))


def scored(**outcomes):
    """Scores from expert -> a letter an answer: r right, w wrong, o overflow, n not run."""
    rows = [
        (name, letter == "r", {"n": "not_run", "o": "overflow"}.get(letter, "answered"))
        for name, letters in outcomes.items()
        for letter in letters
    ]
    return pd.DataFrame(rows, columns=["expert", "correct", "status"])


# -- what validation chose -----------------------------------------------------------------------


def test_ranking_by_accuracy_then_by_name():
    assert lineup.ranking(scored(cid="rw", bob="rr", ann="wr", dee="ww")) == ("bob", "ann", "cid", "dee")


def test_ranking_leaves_out_what_was_not_run():
    assert lineup.ranking(scored(ann="rrw", bob="rrn", cid="nnn")) == ("bob", "ann")


def test_ranking_counts_a_prompt_that_does_not_fit_as_wrong():
    assert lineup.ranking(scored(ann="rrw", bob="roo")) == ("ann", "bob")


def test_ranking_of_nothing_says_so():
    with pytest.raises(SkillmoeError, match="no expert has a validation answer"):
        lineup.ranking(scored(ann="nn"))
    with pytest.raises(SkillmoeError, match="no expert has a validation answer"):
        lineup.ranking(scored())


def test_task_best_is_the_first_of_the_ranking():
    assert CHOICE.task_best == "ann"


def test_best_over_benchmarks_is_the_mean_of_accuracies():
    """ann .5 and .5; bob 1 and .25; cid 0 and 1, on fewer questions: each benchmark counts the same."""
    first, second = scored(ann="rrww", bob="rrrr", cid="wwww"), scored(ann="rw", bob="rwww", cid="rr")
    assert lineup.best_over_benchmarks({"a": first, "b": second}) == "bob"
    assert lineup.best_over_benchmarks({"b": second}) == "cid"
    # A tie goes by name; who was not run everywhere is left out, as is what was not run.
    assert lineup.best_over_benchmarks({"a": scored(bob="rw", ann="wr")}) == "ann"
    assert lineup.best_over_benchmarks({"a": first, "b": scored(ann="rw", bob="nn", cid="rrn")}) == "ann"
    for scores in ({}, {"a": first, "b": scored(dee="r")}):
        with pytest.raises(SkillmoeError, match=r"best expert over|on each of a, b"):
            lineup.best_over_benchmarks(scores)


def test_experts_that_would_say_the_same_are_named_once():
    """Same weights, prompt and sampling under two names: one text, two votes."""
    twins = replace(POOL, experts={**POOL.experts, "bea": replace(POOL.experts["bob"], name="bea")})
    with pytest.warns(UserWarning, match="'bob' and 'bea' are the same model with the same prompt") as said:
        programs(["cot_task_best", "moa"], [QUESTION], twins, ALL_ROUTES, CHOICE, seeds=[0, 1])
    assert len(said) == 1
    shown = replace(POOL.experts["bob"], name="bea", examples=(("1 + 1?", "The answer is \\boxed{2}"),))
    other = replace(POOL, experts={**POOL.experts, "bea": shown})
    programs(["cot_task_best"], [QUESTION], other, ALL_ROUTES, CHOICE, seeds=[0])


# -- who is in the table -------------------------------------------------------------------------


def test_every_method_of_the_table_is_available_in_its_order():
    found = lineup.available(POOL)
    assert list(found) == list(CALLS)
    assert not any(found.values())
    assert not set(found) & set(lineup.BOUNDS)
    assert set(lineup.CONTROLS) < set(found)


def test_a_small_pool_says_why_a_method_is_left_out():
    pair = scenes.pool("ann", "bob")
    reasons = {name: why for name, why in lineup.available(pair).items() if why}
    without_replacement = set(lineup.ROUTED) - {"confidence_sized", *SEQUENTIAL}
    assert set(reasons) == {"moa", "reconcile", *without_replacement}
    assert set(reasons.values()) == {"needs 3 experts; the pool has 2"}
    left = {name for name, why in lineup.available(pair, k=2).items() if why}
    assert left == {"moa", "reconcile"}
    five = {name: why for name, why in lineup.available(POOL, k=5).items() if why}
    assert five == dict.fromkeys(without_replacement, "needs 5 experts; the pool has 4")


@pytest.mark.parametrize(
    ("names", "settings", "says_"),
    [
        (["majority"], {}, "unknown method 'majority': it must be one of .*majority_vote"),
        (["moa"], {"pool": scenes.pool("ann", "bob")}, "method 'moa' needs 3 experts; the pool has 2"),
        (
            ["top_k"],
            {"routes": routes({"random_k": ["ann"]})},
            "no route of 'top_k' for question 'q1', seed 0",
        ),
        (["symbolic_moe"], {"seeds": [1]}, "no route of 'symbolic_moe' for question 'q1', seed 1"),
        (["weighted_vote"], {"routes": routes({"top_k": ["ann"]})}, "no route of 'symbolic_moe'"),
        (
            ["cot_task_best"],
            {"choice": Choice(("zoe",), "ann")},
            "unknown expert 'zoe': it must be one of ann",
        ),
        (["cot_task_best"], {"choice": Choice(("ann",), "zoe")}, "unknown expert 'zoe'"),
        (["best_single"], {"choice": Choice(("ann",), "ann", "zoe")}, "unknown expert 'zoe'"),
        (["top_k"], {"routes": routes({"top_k": ["ann", "zoe"]})}, "unknown expert 'zoe'"),
        (["adaptmi"], {"bank": None}, "'adaptmi' needs the validation answers that it shows"),
        ([], {}, "nothing to run"),
        (["top_k"], {"seeds": range(0)}, "nothing to run"),
    ],
)
def test_programs_refuse(names, settings, says_):
    given = {"pool": POOL, "routes": ALL_ROUTES, "choice": CHOICE, "seeds": [0], "bank": ExampleBank()}
    given |= settings
    if given["pool"] is not POOL:
        given |= {"choice": Choice(("ann", "bob"), "bob"), "routes": routes({"symbolic_moe": ["ann"]})}
    with pytest.raises(SkillmoeError, match=says_):
        programs(
            names, [QUESTION], given["pool"], given["routes"], given["choice"],
            **{name: given[name] for name in ("seeds", "bank")},
        )  # fmt: skip


def test_methods_that_recruit_nobody_need_no_route():
    none = routes({})
    for name in set(CALLS) - {*RECRUITED, *lineup.ROUTED}:
        assert len(programs([name], [QUESTION], POOL, none, CHOICE, seeds=[0, 1])) == 2


def test_programs_are_keyed_by_method_seed_and_question():
    asked = [scenes.question("q1"), scenes.question("q2")]
    both = routes({"symbolic_moe": ["ann"], "top_k": ["bob"]}, questions=("q1", "q2"), seeds=(0, 1))
    made = programs(["top_k", "symbolic_moe"], asked, POOL, both, CHOICE, seeds=[0, 1])
    assert list(made) == [
        Run(name, seed, question)
        for name in ("top_k", "symbolic_moe")
        for seed in (0, 1)
        for question in ("q1", "q2")
    ]


def test_entries_are_sound():
    """What an entry says of itself agrees with the others, and with docs/method.md 4."""
    assert len(set(lineup.labels().values())) == len(lineup.labels()) == len(CALLS) + len(lineup.BOUNDS)
    for method in lineup.METHODS:
        assert bool(method.router) == (method.route == method.name != "symbolic_moe"), method.name
        assert method.route in ("", "symbolic_moe", method.name), method.name
        low, high = CALLS[method.name]
        said = {"k + 1": "4", "k": "3", "varies": "3", "1 to n": "1 to 3"}.get(method.calls, method.calls)
        assert said == (str(low) if low == high else f"{low} to {high}"), method.name
    assert {m.name for m in lineup.METHODS if m.route == "symbolic_moe"} == set(RECRUITED)


def test_labels_are_what_people_know_the_methods_by():
    labels = lineup.labels()
    assert labels["symbolic_moe"] == "Symbolic-MoE"
    assert labels["self_consistency"] == "Self-Consistency (5)"
    assert labels["moa"] == "Mixture-of-Agents"
    assert labels["instance_oracle"] == "Instance oracle"


def test_labelled_puts_labels_beside_names_and_changes_nothing_else():
    frame = pd.DataFrame({"n": [1, 2], "method": ["moa", "Qwen"], "baseline": "debate", "low": [0.1, 0.2]})
    shown = lineup.labelled(frame)
    assert list(shown) == ["n", "method", "label", "baseline", "baseline_label", "low"]
    assert shown["label"].tolist() == ["Mixture-of-Agents", "Qwen"]
    assert set(shown["baseline_label"]) == {"Multi-agent debate"}
    pd.testing.assert_frame_equal(shown[list(frame)], frame)
    pd.testing.assert_frame_equal(lineup.labelled(shown), shown)
    other = pd.DataFrame({"way": ["moa"]})
    assert list(lineup.labelled(other)) == ["way"]
    assert list(lineup.labelled(frame[:0])) == list(shown)


def test_groups_part_what_figures_draw_apart():
    groups = lineup.groups()
    assert "symbolic_moe" not in groups
    assert {name for name, group in groups.items() if group == "controls"} == set(lineup.CONTROLS)
    assert {name for name, group in groups.items() if group == "bounds"} == set(lineup.BOUNDS)
    assert groups["debate"] == "baselines"


# -- one scheduled run of them all ---------------------------------------------------------------


def different(request):
    """Everyone gives an answer of their own, so that every discussion runs its full course."""
    if request.stage == "pick":
        return "The best is [2]"
    if request.stage == "feedback":
        return "There is a slip."
    return says({"ann": "A", "bob": "B"}.get(request.expert, "C"))


def test_all_methods_in_one_run_call_what_the_table_says(tmp_path):
    made = programs(list(CALLS), [QUESTION], POOL, ALL_ROUTES, CHOICE, seeds=[0])
    played = scenes.play(made, different, tmp_path)
    assert dict(zip(played.costs["method"], played.costs["calls"], strict=True)) == {
        name: most for name, (_, most) in CALLS.items()
    }


def test_who_is_asked_by_each_method():
    """The route's experts for what recruits, the best for one model's methods, the top three, the judge."""
    made = programs(list(CALLS), [QUESTION], POOL, ALL_ROUTES, CHOICE, seeds=[0])
    rounds = {key.method: scenes.drive(program, different).rounds for key, program in made.items()}
    first = {method: [request.expert for request in asked[0]] for method, asked in rounds.items()}
    last = {method: asked[-1][0].expert for method, asked in rounds.items()}
    for name in (*RECRUITED, *lineup.ROUTED):
        expected = ["bob"] if name in SEQUENTIAL else ["bob", "cid", "bob"]
        assert first[name] == expected, name
    for name in ("cot_task_best", "best_single", "self_refine", "adaptmi", "own_examples"):
        assert first[name] == ["ann"], name
    for name, n in {"self_consistency": 5, "debate": 3, "self_moa": 3, "best_of_n": 5}.items():
        assert first[name] == ["ann"] * n, name
    assert first["moa"] == first["reconcile"] == ["ann", "bob", "cid"]
    for name in ("symbolic_moe", "moa", "fusion_of_n", "best_of_n"):
        assert last[name] == "dee", name
    assert last["self_moa"] == "ann"


def test_best_single_may_be_another_than_the_tasks_best():
    choice = Choice(("ann", "bob", "cid"), "ann", best_single="cid")
    made = programs(["best_single"], [QUESTION], POOL, ALL_ROUTES, choice, seeds=[0])
    (program,) = made.values()
    assert scenes.drive(program, different).rounds[0][0].expert == "cid"


def test_slots_are_taken_in_their_order_whatever_the_rows_order():
    shuffled = routes({"top_k": ("cid", "ann", "bob")}).sample(frac=1, random_state=1)
    (program,) = programs(["top_k"], [QUESTION], POOL, shuffled, CHOICE, seeds=[0]).values()
    assert [request.expert for request in scenes.drive(program, different).rounds[0]] == ["cid", "ann", "bob"]


def test_weighted_vote_weighs_by_the_routes_probability():
    rows = routes({"symbolic_moe": ("ann", "bob", "cid")})
    for chances, winner in (((0.2, 0.2, 0.5), "C"), ((0.2, 0.5, 0.2), "B"), ((None, None, None), "A")):
        weighed = tables.check(rows.assign(probability=list(chances)), tables.ROUTES)
        (program,) = programs(["weighted_vote"], [QUESTION], POOL, weighed, CHOICE, seeds=[0]).values()
        assert scenes.drive(program, different).result.value == winner


def test_equal_requests_of_different_methods_are_generated_once(tmp_path):
    """Counted by hand, for one question and seed.

    ann is asked five samples by self-consistency; they serve best-of-n, complexity, cot, best single,
    debate's first round and Self-MoA too. bob twice and cid once serve all that is routed; MoA's first
    layer (ann, bob, cid) is there already.
    """
    names = [
        "self_consistency", "complexity_vote", "best_of_n", "cot_task_best", "best_single", "self_moa",
        "symbolic_moe", "majority_vote", "weighted_vote", "top_k", "moa",
    ]  # fmt: skip
    made = programs(names, [QUESTION], POOL, ALL_ROUTES, CHOICE, seeds=[0])
    played = scenes.play(made, different, tmp_path)
    asked = [request_id for outcome in played.outcomes.values() for request_id in outcome.request_ids]
    # 5 + 5 + 6 + 1 + 1 + 4 + 4 + 3 + 3 + 3 + 7
    assert len(asked) == 42
    stages = [request.stage for request in played.engine.requests]
    assert {stage: stages.count(stage) for stage in stages} == {
        "solve": 5 + 2 + 1,
        "pick": 1,
        "propose": 3,
        "aggregate": 3,  # Self-MoA by ann, Symbolic-MoE and MoA by dee
    }
    assert len(stages) == len(set(asked)) == 15
    assert len(played.store.generations()) == 15


def test_two_seeds_share_nothing(tmp_path):
    both = routes({"symbolic_moe": ["ann", "bob", "cid"]}, seeds=(0, 1))
    made = programs(["symbolic_moe"], [QUESTION], POOL, both, CHOICE, seeds=[0, 1])
    assert len(scenes.play(made, different, tmp_path).engine.requests) == 8


def test_every_program_is_answered_from_the_store_in_a_second_run(tmp_path):
    for root_has in (False, True):
        engine = ScriptedEngine(different)
        made = programs(list(CALLS), [QUESTION], POOL, ALL_ROUTES, CHOICE, seeds=[0])
        outcomes = schedule.run(made, engine, GenerationStore(tmp_path))
        asked = set(results.used_requests(outcomes)["request_id"])
        assert len(engine.requests) == (0 if root_has else len(asked))
        assert bool(engine.loads) != root_has


def test_all_is_every_method_that_has_routes_and_experts_enough():
    some = ALL_ROUTES[ALL_ROUTES["method"].isin(["symbolic_moe", "top_k"])]
    found = lineup.chosen("all", POOL, some)
    assert set(lineup.ROUTED) & set(found) == {"top_k"}
    assert set(found) == set(lineup.available(POOL)) - set(lineup.ROUTED) | {"top_k"}
    assert lineup.chosen(" all ", POOL) == list(lineup.ROUTED)
    two = scenes.pool("ann", "bob")
    assert set(lineup.chosen("all", two)) == {
        "confidence_sized",
        *SEQUENTIAL,
    }  # three experts a question are asked for
    assert "moa" not in lineup.chosen("all", two, some)
    assert lineup.chosen("debate, top_k,", POOL) == ["debate", "top_k"]
