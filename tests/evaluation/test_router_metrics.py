"""Router metrics against figures worked out by hand."""

import math

import numpy as np
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import router_metrics as metrics


def rows(*means, n=100):
    """Rows of right and wrong with these means."""
    return np.array([[i < round(mean * n) for i in range(n)] for mean in means], float)


def flat(*values, n=100):
    return np.repeat(np.array(values, float)[:, None], n, axis=1)


def normal_ends(values):
    """Ends of the 95% interval of a mean over questions: normal, moved by its skewness (Cornish, Fisher)."""
    error = values.std() / math.sqrt(values.size)
    skew = ((values - values.mean()) ** 3).mean() / values.std() ** 3 / math.sqrt(values.size)
    moved = values.mean() + (1.96**2 - 1) / 6 * skew * error
    return moved - 1.96 * error, moved + 1.96 * error


def of_draws(values, n_boot=4000):
    """Three standard errors of the 2.5% quantile of n_boot draws of a normal mean: sqrt(p (1 - p) / n_boot)
    over the density .0584 there, in standard errors of the mean."""
    return 3 * math.sqrt(0.025 * 0.975 / n_boot) / 0.0584 * values.std() / math.sqrt(values.size)


# -- AIQ ------------------------------------------------------------------------------------------------


def test_hull_leaves_out_what_a_coin_toss_beats():
    """(2, .5) lies under the line from (1, .4) to (3, .8), at .6; (4, .7) costs more than (3, .8)."""
    cost, quality = metrics.hull([2, 1, 4, 3], [0.5, 0.4, 0.7, 0.8])
    assert cost.tolist() == [1, 3]
    assert quality.tolist() == [0.4, 0.8]


def test_hull_keeps_a_corner_above_the_line():
    cost, quality = metrics.hull([1, 2, 3], [0.4, 0.7, 0.8])
    assert cost.tolist() == [1, 2, 3]
    assert quality.tolist() == [0.4, 0.7, 0.8]


def test_hull_takes_the_better_of_two_of_one_cost():
    assert metrics.hull([1, 1, 2], [0.3, 0.5, 0.6])[1].tolist() == [0.5, 0.6]


def test_aiq_is_the_area_over_the_range_of_costs():
    """From (1, .4) to (3, .8): a trapezoid of area 2 x .6 = 1.2 over a range of 2."""
    found = metrics.aiq(rows(0.5, 0.4, 0.8), flat(2, 1, 3))
    assert found.value == pytest.approx(0.6)


def test_the_interval_of_aiq_is_that_of_a_mean_where_the_hull_is_a_line():
    """Settings at costs 1 and 3: AIQ is the mean of (q1 + q3) / 2, whose spread over questions is known."""
    quality = rows(0.4, 0.8, n=400)
    each = quality.mean(axis=0)
    found = metrics.aiq(quality, flat(1, 3, n=400), n_boot=4000)
    assert (found.low, found.high) == pytest.approx(normal_ends(each), abs=of_draws(each))


def test_aiq_on_a_common_range_keeps_the_best_quality_beyond_the_dearest_setting():
    """As above, then .8 from 3 to 5: (1.2 + 1.6) / 4."""
    assert metrics.aiq(rows(0.4, 0.8), flat(1, 3), between=(1, 5)).value == pytest.approx(0.7)


def test_aiq_of_a_paired_difference_is_narrower_than_its_parts():
    """Both are means of (q1 + q3) / 2, so their difference is the mean of the questions' differences: its
    spread is that of these, less than one part's, and not that of two independent means."""
    random = np.random.default_rng(0)
    base = random.random((2, 400)) < [[0.4], [0.7]]
    better = base | (random.random((2, 400)) < 0.1)
    one, other = (metrics.aiq(x, flat(1, 3, n=400), seed=5, n_boot=4000) for x in (better, base))
    gain, each = one.minus(other), better.mean(axis=0) - base.mean(axis=0)
    assert gain.estimate == pytest.approx(each.mean())
    assert (gain.low, gain.high) == pytest.approx(normal_ends(each), abs=of_draws(each))
    assert gain.low > 0
    assert gain.high - gain.low < one.high - one.low


# -- LLMRouterBench -------------------------------------------------------------------------------------


def test_gap_at_oracle_is_a_mean_over_benchmarks():
    """.6 of .8 leaves a gap of .25, .9 of .9 none: .125 on average, though the first has four times the n."""
    correct = np.concatenate([rows(0.6, n=400)[0], rows(0.9)[0]])
    oracle = np.concatenate([rows(0.8, n=400)[0], rows(0.9)[0]])
    names = ["a"] * 400 + ["b"] * 100
    assert metrics.gap_at_oracle(correct, oracle, benchmarks=names).value == pytest.approx(0.125)
    assert metrics.gap_at_oracle(correct, oracle).value == pytest.approx(1 - 330 / 410)


def test_relative_gain_over_a_reference():
    """.66 over .6 is a tenth more; over the mean of models right on .5 and .6, .66 / .55 - 1 = .2."""
    correct, best, other = rows(0.66, 0.6, 0.5)
    assert metrics.relative_gain(correct, best).value == pytest.approx(0.1)
    found = metrics.relative_gain(correct, (best + other) / 2, name="Gain@Random")
    assert (found.name, round(found.value, 12)) == ("Gain@Random", 0.2)


def test_perf_gain_takes_the_best_setting():
    """The best of .5, .66 and .6 over a single model's .6."""
    assert metrics.perf_gain(rows(0.5, 0.66, 0.6), rows(0.6)[0]).value == pytest.approx(0.1)


def test_accuracies_are_means_over_benchmarks_and_costs_over_questions():
    """a has 300 questions and b 100. Settings .6 and .9, then .4 and .7: means .75 and .55; the single
    model's .5 and .7 give .6, so PerfGain is .25 (weighed by questions .675 / .55 - 1). The first setting
    costs 1 on a and 5 on b, 2 on average; the single model 4: 1 - 2 / 4."""
    names = ["a"] * 300 + ["b"] * 100
    right = np.hstack([rows(0.6, 0.4, n=300), rows(0.9, 0.7)])
    single = np.hstack([rows(0.5, n=300), rows(0.7)])[0]
    assert metrics.perf_gain(right, single, benchmarks=names).value == pytest.approx(0.25)
    assert metrics.perf_gain(right, single).value == pytest.approx(0.675 / 0.55 - 1)
    paid = np.hstack([flat(1, 1, n=300), flat(5, 5)])
    found = metrics.cost_save(right, paid, single, flat(4, n=400)[0], benchmarks=names)
    assert found.value == pytest.approx(0.5)


def test_cost_save_takes_the_cheapest_setting_that_is_as_accurate():
    """.5 is too little; .6 at cost 3 and .7 at cost 6 suffice: 1 - 3 / 4 of a single model's .6 at cost 4."""
    single = np.roll(rows(0.6)[0], 50)
    found = metrics.cost_save(rows(0.5, 0.6, 0.7), flat(1, 3, 6), single, flat(4)[0])
    assert found.value == pytest.approx(0.25)
    assert (
        found.low < 0 < found.high
    )  # in some resamples only the setting of cost 6 suffices, in others cost 1


def test_cost_save_is_null_where_no_setting_suffices():
    found = metrics.cost_save(rows(0.1), flat(1), rows(0.9)[0], flat(4)[0])
    assert math.isnan(found.value)
    assert found.undefined == 1
    assert math.isnan(found.low)


# -- RouterArena ----------------------------------------------------------------------------------------


def test_arena_score_at_its_ends():
    """At c_min C = 1: 1.1 A / (.1 A + 1); at c_max C = 0: 0. A = .5: .55 / 1.05."""
    assert metrics.arena_score(rows(0.5)[0], flat(0.0044 / 1000)[0]).value == pytest.approx(0.55 / 1.05)
    assert metrics.arena_score(rows(0.5)[0], flat(0.2)[0]).value == pytest.approx(0)


def test_arena_score_between():
    """At the geometric mean of both bounds C = 1/2: 1.1 x .6 x .5 / (.06 + .5) = .33 / .56."""
    cost = math.sqrt(200 * 0.0044) / 1000
    assert metrics.arena_score(rows(0.6)[0], flat(cost)[0]).value == pytest.approx(0.33 / 0.56)


def test_robustness_is_the_share_of_kept_choices():
    found = metrics.robustness(["a", "b", ("a", "b"), "c"], ["a", "c", ("a", "b"), "c"])
    assert found.estimate == 0.75
    assert found.low < 0.75 < found.high
    assert found.n == 4


# -- intervals ------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_like_metric_is_that_of_the_mean():
    """Gain over a constant reference of 1 is the accuracy minus 1: its interval is the binomial's."""
    found = metrics.relative_gain(rows(0.5, n=400)[0], np.ones(400), n_boot=4000)
    right = rows(0.5, n=400)[0]
    low, high = normal_ends(right)
    assert (found.low, found.high) == pytest.approx((low - 1, high - 1), abs=of_draws(right))


def test_no_spread_is_no_interval():
    found = metrics.relative_gain(np.ones(50), np.ones(50))
    assert found.value == 0
    assert math.isnan(found.low)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.aiq(rows(0.5, 0.4), flat(1)), "quality and cost need the same settings"),
        (lambda: metrics.aiq(rows(0.5), flat(1)), "AIQ needs a range of costs, given 1.0 to 1.0"),
        (lambda: metrics.gap_at_oracle([1, 0], [1]), "needs rows of the same questions"),
        (lambda: metrics.perf_gain([[1, math.nan]], [1, 1]), "no nulls"),
        (lambda: metrics.robustness([], []), "given 0 and 0"),
        (
            lambda: metrics.perf_gain(rows(0.5), rows(0.5)[0]).minus(metrics.perf_gain([[1, 0]], [1, 0])),
            "on the same questions and draws only, given 100 and 2",
        ),
    ],
)
def test_refused(call, message):
    with pytest.raises(SkillmoeError, match=message):
        call()
