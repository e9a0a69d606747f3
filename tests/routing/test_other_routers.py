import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.profiling import skills
from skillmoe_lib.routing.committee import CommitteeRouter
from skillmoe_lib.routing.controls import GlobalTopK, RandomRouter
from skillmoe_lib.routing.embedding import ClusterRouter, KNNRouter, LogisticRouter

# Two kinds of question, east and west. E is right on the east only, W on the west only, and Both on every
# question but the first four of each kind.
N = 20
PLACES = {f"{side}{i:02}": side for side in ("e", "w") for i in range(N)}
X = pd.DataFrame(
    [[1.0 if side == "e" else -1.0, 0.05 * int(q[1:]) / N] for q, side in PLACES.items()],
    index=pd.Index(PLACES, name="question_id"),
)
SCORES = pd.DataFrame(
    [
        (q, expert, right, "answered")
        for q, side in PLACES.items()
        for expert, right in (("E", side == "e"), ("W", side == "w"), ("Both", int(q[1:]) >= 4))
    ],
    columns=["question_id", "expert", "correct", "status"],
)
NEW = pd.DataFrame([[0.9, 0.0], [-0.9, 0.0]], index=pd.Index(["east", "west"], name="question_id"))
EMBEDDING = [
    ClusterRouter(1, n_clusters=2),
    KNNRouter(1, n_neighbors=10),
    LogisticRouter(1),
    CommitteeRouter(1),
]


@pytest.mark.parametrize("router", EMBEDDING, ids=lambda router: type(router).__name__)
def test_sends_each_question_to_its_specialist(router):
    router = clone(router).fit(X, SCORES)
    routes = router.route(NEW, method="m")
    assert routes[["question_id", "slot", "expert", "method"]].to_numpy().tolist() == [
        ["east", 0, "E", "m"], ["west", 0, "W", "m"],
    ]  # fmt: skip
    expected = router.estimates(NEW)
    assert expected.loc["east"].idxmax() == "E"
    assert expected.loc["east", "E"] > 0.8 > 0.2 > expected.loc["east", "W"]
    assert routes["suitability"].tolist() == [expected.loc["east", "E"], expected.loc["west", "W"]]
    assert routes["probability"].isna().all()


@pytest.mark.parametrize("router", EMBEDDING, ids=lambda router: type(router).__name__)
def test_neither_order_of_rows_nor_other_questions_matter(router):
    shuffled = SCORES.sample(frac=1, random_state=0)
    a = clone(router).fit(X, SCORES).route(NEW)
    b = clone(router).fit(X[::-1], shuffled).route(pd.concat([X, NEW]), question_ids=["east", "west"])
    assert a["expert"].tolist() == b["expert"].tolist()
    np.testing.assert_allclose(a["suitability"].astype(float), b["suitability"].astype(float))


@pytest.mark.parametrize("router", EMBEDDING, ids=lambda router: type(router).__name__)
def test_what_was_not_run_is_not_wrong(router):
    # E was hardly run in the east, but always right where it was.
    idle = (SCORES["expert"] == "E") & (SCORES["question_id"] > "e01") & (SCORES["question_id"] < "w")
    gaps = SCORES.assign(status=np.where(idle, "not_run", "answered"))
    estimates = clone(router).fit(X, gaps).estimates(NEW)
    as_wrong = clone(router).fit(X, SCORES.assign(correct=SCORES["correct"] & ~idle)).estimates(NEW)
    assert estimates.loc["east", "E"] > as_wrong.loc["east", "E"]


def test_cluster_by_hand():
    expected = ClusterRouter(1, n_clusters=2).fit(X, SCORES).estimates(NEW)
    assert expected.loc["east", ["Both", "E", "W"]].tolist() == [0.8, 1, 0]


def test_an_expert_never_run_in_a_cluster_gets_its_overall_accuracy_there():
    unseen = (SCORES["expert"] == "E") & SCORES["question_id"].str.startswith("w")
    gaps = SCORES.assign(status=np.where(unseen, "not_run", "answered"))
    expected = ClusterRouter(1, n_clusters=2).fit(X, gaps).estimates(NEW)
    assert expected["E"].tolist() == [1, 1]


def test_knn_by_hand():
    expected = KNNRouter(1, n_neighbors=8).fit(X, SCORES).estimates(NEW)
    assert expected.loc["east", ["Both", "E", "W"]].tolist() == [0.5, 1, 0]  # e00 to e07 are nearest


def test_logistic_keeps_the_rate_of_an_expert_that_is_always_right():
    always = pd.concat([SCORES, SCORES[SCORES["expert"] == "E"].assign(expert="Sure", correct=True)])
    assert LogisticRouter(2).fit(X, always).estimates(NEW)["Sure"].tolist() == [1, 1]


def test_global_top_k_is_the_same_everywhere():
    router = GlobalTopK(2).fit(X, SCORES)
    routes = router.route(NEW)
    assert routes["expert"].tolist() == ["Both", "E"] * 2  # E and W tie: by name
    assert routes["suitability"].tolist() == [0.8, 0.5] * 2
    as_skills = skills.skills_table({q: {"place": 2} for q in PLACES})
    routes = GlobalTopK(1).fit(as_skills, SCORES).route(as_skills[:3], question_ids=["bare", "e00"])
    assert routes["question_id"].tolist() == ["bare", "e00"]


def test_random_is_uniform_and_seeded():
    router = RandomRouter(2).fit(X, SCORES)
    routes = router.route(X, question_ids=[f"t{i}" for i in range(600)], seed=3)
    share = routes["expert"].value_counts(normalize=True)
    np.testing.assert_allclose(share, 1 / 3, atol=0.05)
    assert routes.groupby("question_id")["expert"].nunique().eq(2).all()
    alone = router.route(X, question_ids=["t7"], seed=3)
    assert alone["expert"].tolist() == routes.loc[routes["question_id"] == "t7", "expert"].tolist()
    other = router.route(X, question_ids=[f"t{i}" for i in range(600)], seed=4)
    assert (other["expert"].to_numpy() != routes["expert"].to_numpy()).mean() > 0.5


@pytest.mark.parametrize(
    ("router", "says"),
    [
        (GlobalTopK(4), "from 1 to 3"),
        (RandomRouter(4), "from 1 to 3"),
        (ClusterRouter(1, n_clusters=41), "n_clusters must be from 1 to 40 .questions., given 41"),
        (KNNRouter(1, n_neighbors=0), "n_neighbors must be from 1 to 40"),
    ],
)
def test_settings_are_checked(router, says):
    with pytest.raises(SkillmoeError, match=says):
        router.fit(X, SCORES)


def test_missing_questions_are_named():
    with pytest.raises(SkillmoeError, match="1 of 1 questions have no embedding, the first 'lost'"):
        KNNRouter(1, n_neighbors=5).fit(X, SCORES).route(X, question_ids=["lost"])
    with pytest.raises(SkillmoeError, match="none of the scored questions"):
        KNNRouter(1, n_neighbors=5).fit(NEW, SCORES)
    with pytest.raises(NotFittedError):
        GlobalTopK(1).route(X)
