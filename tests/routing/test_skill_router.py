import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.profiling import skills
from skillmoe_lib.routing.skill_router import SkillRouter, competency

# The example of docs/method.md 1.4: totals A 7, B 14, C -9 and S A 4, B 6, C -4 on the question's skill "s".
VECTOR = {"A": {"s": 4, "other": 3}, "B": {"s": 6, "other": 8}, "C": {"s": -4, "other": -5}}


def scored(profile, n_each=20):
    """Skills and Scores of validation questions, one skill each, that give exactly this profile."""
    names = sorted({skill for of in profile.values() for skill in of})
    kept = {f"v-{name}-{i:02}": {name: 2} for name in names for i in range(n_each)}
    rows = [
        (f"v-{name}-{i:02}", expert, i < (n_each + of[name]) // 2, "answered")
        for expert, of in profile.items()
        for name in names
        for i in range(n_each)
    ]
    return skills.skills_table(kept), pd.DataFrame(
        rows, columns=["question_id", "expert", "correct", "status"]
    )


def even(profile):
    """Double a profile, as an even number of answers can only give even scores."""
    return {expert: {name: 2 * score for name, score in of.items()} for expert, of in profile.items()}


def fitted(profile, **options):
    return SkillRouter(**options).fit(*scored(profile))


def exact(**options):
    """A router that holds the example of docs/method.md 1.4 itself (its odd scores need odd counts)."""
    router = fitted(even(VECTOR), **options)
    router.profile_ /= 2
    router.totals_ /= 2
    return router


ONE = skills.skills_table({"t": {"s": 2}})


def test_competency_as_published_and_released():
    total = np.array([7.0, 14.0, -9.0])
    np.testing.assert_allclose(competency(total, "published"), [0.5833, 1.1667, -0.75], atol=5e-5)
    np.testing.assert_allclose(competency(total, "released"), [0.33372, 0.66513, 0.00115], atol=5e-6)


def test_vector_as_published():
    p = exact(formula="published").probabilities(ONE).loc["t"]
    np.testing.assert_allclose(p[["A", "B", "C"]], [8.8e-5, 0.99958, 3.35e-4], rtol=0.005)
    assert p["C"] > p["A"]  # the paper's trap, kept: the worst beats the second best


def test_vector_as_released():
    p = exact(formula="released").probabilities(ONE).loc["t"]
    np.testing.assert_allclose(p[["A", "B", "C"]], [0.25065, 0.74935, 0], atol=5e-6)


def test_vector_fixed_ranks_the_worst_last():
    p = exact(formula="fixed").probabilities(ONE).loc["t"]
    assert p["B"] > p["A"] > p["C"]


def test_fixed_by_hand():
    # A: 3 of 4 right; B: 1 of 4. prior 10: w = (S + 10 (2 a - 1)) / 2 experts, a = (right + 1) / (n + 2).
    kept, scores = scored({"A": {"s": 2}, "B": {"s": -2}}, n_each=4)
    p = SkillRouter(formula="fixed", temperature=2.0).fit(kept, scores).probabilities(ONE).loc["t"]
    w_a, w_b = 2 + 10 * (2 * 4 / 6 - 1), -2 + 10 * (2 * 2 / 6 - 1)
    assert p["A"] == pytest.approx(1 / (1 + np.exp((w_b - w_a) / 2 / 2.0)))


def test_released_shifts_where_nobody_is_positive():
    # S -2, -4, -8 -> 7, 5, 1; totals the same -> shifted 7, 5, 1 -> gamma 49, 25, 1 of 75.
    router = fitted({"A": {"s": -2}, "B": {"s": -4}, "C": {"s": -8}}, formula="released")
    expected = np.array([49 * 7, 25 * 5, 1])
    np.testing.assert_allclose(router.probabilities(ONE).loc["t"], expected / expected.sum())


@pytest.mark.parametrize(
    ("formula", "use", "expected"),
    [
        ("published", "local", np.exp(np.array([8.0, 12, -8]) - 12)),
        ("published", "global", np.exp(2 * np.array([7, 14, -9]) / 12)),
        ("released", "local", [4, 6, 0]),
        ("released", "global", [289, 576, 1]),
    ],
)
def test_local_or_global_alone(formula, use, expected):
    p = exact(formula=formula, use=use).probabilities(ONE).loc["t"]
    np.testing.assert_allclose(p, np.array(expected) / np.sum(expected), atol=1e-12)


@pytest.mark.parametrize("formula", ["published", "released", "fixed"])
def test_a_question_without_skills_is_routed_and_seen(formula):
    router = exact(formula=formula)
    p = router.probabilities(ONE, question_ids=["bare", "t"]).loc["bare"]
    routes = router.route(ONE, question_ids=["bare", "t"])
    assert routes["question_id"].tolist() == ["bare"] * 3 + ["t"] * 3
    assert routes["suitability"].isna().tolist() == [True] * 3 + [False] * 3
    if formula == "fixed":
        assert p["B"] > p["A"] > p["C"]
    else:
        np.testing.assert_allclose(p, 1 / 3)


def test_published_is_upside_down_where_the_total_is_negative_and_fixed_is_not():
    profile = {"good": {"s": 6, "other": 0}, "bad": {"s": 2, "other": -14}}  # gamma -1 and 2
    published = fitted(profile, formula="published").probabilities(ONE).loc["t"]
    assert published["bad"] > published["good"]
    assert fitted(profile).probabilities(ONE).loc["t"].idxmax() == "good"


def test_published_refuses_totals_that_cancel():
    with pytest.raises(SkillmoeError, match="sum to zero"):
        fitted({"A": {"s": 2}, "B": {"s": -2}}, formula="published").probabilities(ONE)


def test_what_was_not_run_is_no_evidence():
    kept, scores = scored({"A": {"s": -10}, "B": {"s": -12}})
    idle = (scores["expert"] == "B") & (scores["question_id"] > "v-s-01")
    scores.loc[idle, "status"] = "not_run"
    scores.loc[scores["expert"] == "B", "correct"] = False  # two answers, both wrong: S is only -2
    router = SkillRouter().fit(kept, scores)
    assert router.suitability(ONE).loc["t"].to_dict() == {"A": -10, "B": -2}
    assert router.probabilities(ONE).loc["t"].idxmax() == "A"


def test_duplicates_threshold_and_unknown_words():
    plane = {"s": [1, 0], "near": [0.8, 0.6], "far": [0.6, 0.8]}
    given_ = skills.match(
        skills.skills_table({"t": {"s": 2, "near": 2, "far": 2}}),
        ["s", "other"],
        embed=lambda texts: np.array([plane.get(word, [0, 0]) for word in texts]),
    )
    assert exact().suitability(given_).loc["t", "A"] == 12
    assert exact(count_duplicates=False).suitability(given_).loc["t", "A"] == 4
    assert exact(threshold=0.7).suitability(given_).loc["t", "A"] == 8
    with_noise = pd.concat([given_, skills.skills_table({"t": {"unheard of": 3}})])
    assert exact().suitability(with_noise).loc["t", "A"] == 12


def test_no_overlap_is_an_error():
    with pytest.raises(SkillmoeError, match="no overlap: none of the 1 skills"):
        exact().route(skills.skills_table({"t": {"unheard of": 2}}))
    far = ONE.assign(similarity=0.3)
    with pytest.raises(SkillmoeError, match=r"similarity of at least 0\.5"):
        exact(threshold=0.5).route(far)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 0}, "k must be at least 1, given 0"),
        ({"k": 4, "replace": False}, "from 1 to 3"),
        ({"formula": "fixd"}, "fixed, published, released"),
        ({"use": "all"}, "both, global, local"),
        ({"refill": "none"}, "probabilities, slots"),
        ({"temperature": 0}, "temperature"),
        ({"trim": 1.0}, "trim"),
    ],
)
def test_settings_are_checked(options, says):
    with pytest.raises(SkillmoeError, match=says):
        fitted(VECTOR, **options)


def test_settings_are_checked_again_if_they_were_changed():
    with pytest.raises(SkillmoeError, match="k must be at least 1, given 0"):
        fitted(VECTOR).set_params(k=0).route(ONE)


def test_a_pool_that_was_not_run():
    kept, scores = scored(VECTOR)
    with pytest.raises(SkillmoeError, match="no validation scores"):
        SkillRouter().fit(kept, scores.assign(status="not_run"))
    with pytest.raises(NotFittedError):
        SkillRouter().route(ONE)


def test_is_an_estimator():
    router = SkillRouter(5, formula="released", trim=0.0)
    assert clone(router).get_params() == router.get_params()
    assert router.get_params()["k"] == 5


def test_explain_says_why():
    given_ = pd.concat([ONE, skills.skills_table({"t": {"other": 2}})]).assign(matched_from=["ess", None])
    rows = exact().explain("t", given_)
    assert rows["expert"].tolist() == ["B", "B", "A", "A", "C", "C"]
    best = rows[rows["expert"] == "B"].set_index("matched")
    assert best["keyword"].to_dict() == {"s": "ess", "other": "other"}
    assert best["score"].to_dict() == {"s": 12, "other": 16}
    assert (best["suitability"] == 28).all()
    bare = exact().explain("nobody", given_)
    assert bare["expert"].tolist() == ["B", "A", "C"]
    assert bare["matched"].isna().all()


PROFILES = st.dictionaries(
    st.sampled_from("ABCDE"),
    st.fixed_dictionaries({"s": st.integers(-10, 10), "other": st.integers(-10, 10)}),
    min_size=2,
).map(even)
WORDS = st.sampled_from([{"s": 2}, {"other": 2}, {"s": 2, "other": 2}])
FORMULAS = st.sampled_from(["published", "released", "fixed"])


@settings(max_examples=12)
@given(profile=PROFILES, words=WORDS, formula=FORMULAS)
def test_probabilities_sum_to_one_whatever_the_order_of_experts(profile, words, formula):
    asked = skills.skills_table({"t": words})
    if formula == "published" and sum(sum(of.values()) for of in profile.values()) == 0:
        return
    p = fitted(profile, formula=formula).probabilities(asked, question_ids=["t", "bare"])
    assert (p >= 0).all(axis=None)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    turned = dict(reversed(profile.items()))
    q = fitted(turned, formula=formula, expert_order="as_given").probabilities(
        asked, question_ids=["t", "bare"]
    )
    pd.testing.assert_frame_equal(q[p.columns], p)


@settings(max_examples=12)
@given(
    profile=PROFILES, words=WORDS, prior=st.floats(0, 100), use=st.sampled_from(["both", "local", "global"])
)
def test_fixed_never_ranks_a_dominated_expert_higher(profile, words, prior, use):
    p = fitted(profile, prior=prior, use=use).probabilities(skills.skills_table({"t": words}))
    for a, of_a in profile.items():
        for b, of_b in profile.items():
            if all(of_a[name] >= of_b[name] for name in of_a):
                assert p.loc["t", a] >= p.loc["t", b] - 1e-12


@settings(max_examples=12)
@given(seed=st.integers(0, 9), replace=st.booleans(), formula=FORMULAS)
def test_other_questions_change_no_draw(seed, replace, formula):
    router = exact(formula=formula, temperature=20.0, replace=replace, trim=0.0)
    few = skills.skills_table({"t1": {"s": 2}, "t2": {"other": 2}})
    more = skills.skills_table({"t0": {"s": 2}, "t2": {"other": 2}, "t3": {"s": 2}, "t1": {"s": 2}})
    a = router.route(few, seed=seed)
    b = router.route(more, seed=seed, question_ids=["t3", "t2", "t1", "t0"])
    for question_id in ("t1", "t2"):
        of_a, of_b = (r[r["question_id"] == question_id].reset_index(drop=True) for r in (a, b))
        pd.testing.assert_frame_equal(of_a, of_b)
