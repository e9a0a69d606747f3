import numpy as np
import pandas as pd
import pytest

from skillmoe_lib import seeding
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.routing.skill_router import slots

IDS = [f"q{i}" for i in range(400)]


def chances(row, ids=IDS):
    return pd.DataFrame(
        [row] * len(ids), index=pd.Index(ids, name="question_id"), columns=list("ABCD")[: len(row)]
    )


def draw(row, k=3, *, replace=True, seed=0):
    return slots.draw(chances(row), k, seed=seed, replace=replace, reserve=np.arange(len(row), dtype=float))


def test_draws_follow_the_probabilities_and_the_seed():
    drawn = draw([0.7, 0.3, 0.0])
    share = np.bincount(drawn.ravel(), minlength=3) / drawn.size
    np.testing.assert_allclose(share, [0.7, 0.3, 0], atol=0.04)
    assert (drawn == draw([0.7, 0.3, 0.0])).all()
    assert (drawn != draw([0.7, 0.3, 0.0], seed=1)).any()


def test_a_question_draws_what_its_own_generator_chooses():
    p = np.random.default_rng(0).dirichlet([0.3] * 5, size=40)
    p[:, 2] = 0
    p /= p.sum(axis=1, keepdims=True)
    frame = pd.DataFrame(p, index=IDS[:40])
    own = [seeding.generator(7, name) for name in frame.index]
    expected = [random.choice(5, size=20, p=row) for random, row in zip(own, p, strict=True)]
    drawn = [slots.draw(frame, k, seed=7, replace=True, reserve=np.zeros(5)) for k in (3, 20)]
    assert (drawn[1] == expected).all()
    assert (drawn[0] == drawn[1][:, :3]).all()  # more slots leave the first as they are


def test_a_draw_from_no_probabilities_is_refused():
    for row in ([0.0, 0.0], [np.nan, 1.0]):
        with pytest.raises(SkillmoeError, match="probabilities that are numbers and not all zero"):
            draw(row)


def test_without_replacement_the_first_slot_follows_the_probabilities():
    drawn = draw([0.6, 0.4, 0.0, 0.0], replace=False)
    assert (np.sort(drawn, axis=1)[:, 1:] > np.sort(drawn, axis=1)[:, :-1]).all()
    assert np.mean(drawn[:, 0] == 0) == pytest.approx(0.6, abs=0.07)
    assert (drawn[:, 2] == 3).all()  # of the impossible ones the highest of the reserve


def trim(drawn, row, **options):
    options = {"share": 0.05, "by_slots": True, "seed": 0, "replace": True} | options
    return slots.trimmed(np.array(drawn), chances(row, IDS[: len(drawn)]), **options)


def test_trimming_drops_the_rare_and_touches_nothing_else():
    drawn = [[0, 1, 0]] * 19 + [[2, 0, 1]]  # C holds 1 of 60 slots, A 39, B 20
    result = trim(drawn, [0.0, 0.0, 1.0])
    assert (result[:19] == drawn[:19]).all()
    assert result[19, 1:].tolist() == [0, 1]
    assert result[19, 0] in (0, 1)
    assert (trim(drawn, [0.5, 0.4, 0.1], share=0.0) == drawn).all()
    assert (trim(drawn, [0.5, 0.4, 0.1], share=0.9) == drawn).all()  # nobody holds 90%


def test_an_expert_at_the_share_is_kept():
    drawn = [[0]] * 19 + [[1]]  # exactly 5%
    assert trim(drawn, [0.9, 0.1])[19, 0] == 1


@pytest.mark.parametrize(("by_slots", "expected"), [(True, 0.9), (False, 0.2)])
def test_refill_by_slots_or_by_probabilities(by_slots, expected):
    drawn = [[0]] * 342 + [[1]] * 38 + [[2]] * 20
    result = trim(drawn, [0.2, 0.8, 0.0], share=0.06, by_slots=by_slots)
    assert set(result[380:, 0]) <= {0, 1}
    assert np.mean(result[380:, 0] == 0) == pytest.approx(expected, abs=0.25)


def test_refill_without_replacement_gives_nobody_twice():
    drawn = [[0, 1]] * 30 + [[0, 2], [2, 1]]
    result = trim(drawn, [0.5, 0.5, 0.0], share=0.05, replace=False)
    assert result[30:].tolist() == [[0, 1], [0, 1]]
    assert (trim([[2, 1]] + [[0, 1]] * 30, [0.5, 0.5, 0.0], share=0.9, replace=False)[0] == [0, 1]).all()


@pytest.mark.parametrize(("k", "replace"), [(0, True), (0, False), (4, False), (-1, True)])
def test_check_k(k, replace):
    with pytest.raises(SkillmoeError, match=f"given {k}"):
        slots.check_k(k, 3, replace=replace)


def test_routes_is_the_table():
    p = chances([0.25, 0.75], ["x", "y"])
    frame = slots.routes(np.array([[1, 0], [1, 1]]), p * 10, p, seed=4, method="m")
    assert frame["expert"].tolist() == ["B", "A", "B", "B"]
    assert frame["slot"].tolist() == [0, 1, 0, 1]
    assert frame["suitability"].tolist() == [7.5, 2.5, 7.5, 7.5]
    assert frame["probability"].tolist() == [0.75, 0.25, 0.75, 0.75]
    assert slots.routes(np.array([[1], [0]]), p, None, seed=0, method="m")["probability"].isna().all()
