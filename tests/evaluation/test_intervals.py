"""Golden values computed by hand, properties, and claims that must never be made."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.intervals import (
    Flips,
    Interval,
    accuracy_table,
    bootstraps,
    compare,
    detectable,
    flips,
    holm,
    mcnemar_exact,
    minimum_detectable_difference,
    paired_bootstrap,
    questions_needed,
    tost,
    verdict_against,
    wilson,
)
from skillmoe_lib.seeding import generator

binary_pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def outcomes(both_right: int, only_a: int, only_b: int, both_wrong: int) -> tuple[np.ndarray, np.ndarray]:
    a = [1] * both_right + [1] * only_a + [0] * only_b + [0] * both_wrong
    b = [1] * both_right + [0] * only_a + [1] * only_b + [0] * both_wrong
    return np.array(a), np.array(b)


def results(table: dict[tuple[str, int], str], benchmark: str = "toy") -> pd.DataFrame:
    """Results from a string a run: 1 right, 0 wrong, ? unparsed, c cut, o overflow, - not run, space none."""
    status = {"1": "answered", "0": "answered", "?": "unparsed", "c": "cut", "o": "overflow", "-": "not_run"}
    rows = [
        (method, benchmark, seed, f"q{i}", status[mark], mark == "1")
        for (method, seed), marks in table.items()
        for i, mark in enumerate(marks)
        if mark != " "
    ]
    return pd.DataFrame(rows, columns=["method", "benchmark", "seed", "question_id", "status", "correct"])


class TestWilson:
    def test_by_hand(self):
        # n = 10, 7 right, z = 1.959964, z^2 = 3.841459: centre (.7 + .1920729) / 1.3841459 = .6444934;
        # half (z / 1.3841459) sqrt(.021 + .0096036) = 1.4160097 * .1749390 = .2477153.
        assert wilson(7, 10) == pytest.approx((0.7, 0.3967781, 0.8922087, 10), abs=1e-6)

    def test_never_a_point(self):
        # 0 of n: high = z^2 / (n + z^2); for n = 1 that is 3.841459 / 4.841459 = .7934507.
        assert wilson(0, 1) == pytest.approx((0, 0, 0.7934507, 1), abs=1e-6)
        assert wilson(1, 1) == pytest.approx((1, 1 - 0.7934507, 1, 1), abs=1e-6)

    @given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_mirror_and_bounds(self, counts):
        n_correct, n = counts
        value, mirror = wilson(n_correct, n), wilson(n - n_correct, n)
        assert 0 <= value.low <= value.estimate <= value.high <= 1
        assert value.low == pytest.approx(1 - mirror.high, abs=1e-9)

    @pytest.mark.parametrize(
        ("n_correct", "n", "level"), [(0, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 95)]
    )
    def test_refuses(self, n_correct, n, level):
        with pytest.raises(SkillmoeError, match="given"):
            wilson(n_correct, n, level)


class TestPairedBootstrap:
    def test_two_questions_by_hand(self):
        # Differences +1 and 0: resampled means are 0, .5, 1 with chances 1/4, 1/2, 1/4.
        assert paired_bootstrap([1, 1], [0, 1]) == (0.5, 0.0, 1.0, 2)
        # At level .4 the quantiles are .3 and .7, both inside the middle half: the point .5, and so no
        # width; the bound takes over: u = 1 - .3^(1/2) = .4522774, low .5 - 1.5 u, high .5 + .5 u.
        value = paired_bootstrap([1, 1], [0, 1], level=0.4)
        assert value == pytest.approx((0.5, -0.1784162, 0.7261387, 2), abs=1e-6)

    @pytest.mark.parametrize(
        ("a", "b", "low", "high"),
        [
            # u = 1 - .025^(1/n). n = 10: .025^.1 = exp(-.3688879) = .6915029, u = .3084971.
            ([1] * 10, [1] * 10, -0.3084971, 0.3084971),
            ([0] * 10, [0] * 10, -0.3084971, 0.3084971),
            # All +1: low = 1 - 2 u.
            ([1] * 10, [0] * 10, 0.3830058, 1.0),
            ([0] * 10, [1] * 10, -1.0, -0.3830058),
            # n = 1: u = .975.
            ([1], [1], -0.975, 0.975),
            ([1], [0], -0.95, 1.0),
        ],
    )
    def test_constant_differences_keep_a_width(self, a, b, low, high):
        value = paired_bootstrap(a, b)
        assert (value.low, value.high) == pytest.approx((low, high), abs=1e-6)

    @given(binary_pairs, st.integers(0, 3))
    def test_antisymmetric_and_bounded(self, pairs, seed):
        a, b = np.array(pairs, dtype=float).T
        there, back = (paired_bootstrap(x, y, n_boot=50, seed=seed) for x, y in ((a, b), (b, a)))
        assert there.estimate == pytest.approx(a.mean() - b.mean())
        assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-9)
        assert -1 <= there.low <= there.high <= 1
        assert there.high - there.low > 0

    def test_order_of_rows_does_not_matter_with_groups(self):
        random = generator("rows")
        a, b, ids = random.integers(2, size=60), random.integers(2, size=60), np.repeat(np.arange(20), 3)
        shuffled = random.permutation(60)
        again = paired_bootstrap(a[shuffled], b[shuffled], groups=ids[shuffled])
        assert paired_bootstrap(a, b, groups=ids) == again

    def test_seeds_are_not_new_questions(self):
        # Three identical seeds: pooled as 120 rows the interval would shrink by sqrt(3).
        a, b = outcomes(14, 12, 4, 10)
        ids = np.arange(40)
        one = paired_bootstrap(a, b, groups=ids)
        three = paired_bootstrap(np.tile(a, 3), np.tile(b, 3), groups=np.tile(ids, 3))
        assert three == pytest.approx(one)
        assert three.n == 40
        pooled = paired_bootstrap(np.tile(a, 3), np.tile(b, 3))
        assert pooled.high - pooled.low < 0.7 * (three.high - three.low)

    def test_the_seed_decides(self):
        a, b = outcomes(14, 12, 4, 10)
        assert paired_bootstrap(a, b, seed=1) == paired_bootstrap(a, b, seed=1)
        assert paired_bootstrap(a, b, seed=1) != paired_bootstrap(a, b, seed=2)

    def test_coverage(self):
        # True difference .1 (P(only a) .25, P(only b) .15). Of 300 intervals 95% should hold it; the
        # percentile bootstrap at n = 80 is a little short. Binomial error at 300: about 1.3 points.
        random = generator("coverage")
        held = 0
        for run in range(300):
            difference = random.choice([1, -1, 0], p=[0.25, 0.15, 0.6], size=80)
            value = paired_bootstrap(difference > 0, difference < 0, n_boot=200, seed=run)
            held += value.low <= 0.1 <= value.high
        assert 0.91 <= held / 300 <= 0.98

    @pytest.mark.parametrize(
        ("a", "b", "groups"),
        [
            ([], [], None),
            ([1, 0], [1], None),
            ([1, 0], [1, math.nan], None),
            ([2], [1], None),
            ([1, 0], [1, 0], ["q"]),
        ],
    )
    def test_refuses(self, a, b, groups):
        with pytest.raises(SkillmoeError):
            paired_bootstrap(a, b, groups=groups)


class TestPairedTests:
    def test_flips(self):
        assert flips(*outcomes(5, 8, 2, 4)) == Flips(5, 8, 2, 4, 19)
        with pytest.raises(SkillmoeError, match="right"):
            flips([0.5], [1])

    @pytest.mark.parametrize(
        ("cells", "p"),
        [
            # 8 against 2: 2 (1 + 10 + 45) / 1024 = 112 / 1024.
            ((5, 8, 2, 4), 0.109375),
            # 5 against 0: 2 / 32.
            ((0, 5, 0, 9), 0.0625),
            ((3, 1, 0, 0), 1.0),  # 2 * 1/2
            ((1, 0, 0, 0), 1.0),  # nothing differs
            ((2, 4, 4, 2), 1.0),  # capped: 2 * .637
        ],
    )
    def test_mcnemar_by_hand(self, cells, p):
        assert mcnemar_exact(*outcomes(*cells)) == pytest.approx(p)

    @given(binary_pairs)
    def test_mcnemar_agrees_with_statsmodels_and_with_one_seed_a_question(self, pairs):
        a, b = np.array(pairs).T
        cells = flips(a, b)
        theirs = mcnemar(
            [[cells.both_right, cells.only_a], [cells.only_b, cells.both_wrong]], exact=True
        ).pvalue
        assert mcnemar_exact(a, b) == pytest.approx(min(1, theirs)) == mcnemar_exact(b, a)
        assert mcnemar_exact(a, b, groups=[f"q{i}" for i in range(len(a))]) == mcnemar_exact(a, b)

    def test_sign_flips_by_hand(self):
        # Question sums over three seeds 3, 2, 1: of the 8 sign patterns only +++ and --- reach 6.
        a = [1, 1, 1, 1, 1, 0, 1, 0, 0]
        assert mcnemar_exact(a, [0] * 9, groups=[*"xxxyyyzzz"]) == pytest.approx(2 / 8)
        # Sums 3, 2, -1 (total 4): reached by +++ (6), ++- (4) and their mirrors.
        b = [0, 0, 0, 0, 0, 0, 0, 0, 1]
        assert mcnemar_exact([1, 1, 1, 1, 1, 0, 0, 0, 0], b, groups=[*"xxxyyyzzz"]) == pytest.approx(4 / 8)

    def test_repeated_seeds_add_no_evidence(self):
        a, b = outcomes(5, 8, 2, 4)
        tripled = mcnemar_exact(np.tile(a, 3), np.tile(b, 3), groups=np.tile(np.arange(19), 3))
        assert tripled == pytest.approx(mcnemar_exact(a, b))
        assert mcnemar_exact(np.tile(a, 3), np.tile(b, 3)) < 0.01  # what pooling would have claimed

    def test_holm_by_hand(self):
        # Sorted .01 * 3 = .03, .02 * 2 = .04, .03 * 1 = .03, made monotone: .04. The null p takes no part.
        adjusted = holm({"a": 0.03, "b": 0.01, "gap": math.nan, "c": 0.02})
        assert list(adjusted) == ["a", "b", "gap", "c"]
        assert math.isnan(adjusted.pop("gap"))
        assert adjusted == pytest.approx({"b": 0.03, "c": 0.04, "a": 0.04})
        assert holm({}) == {}

    def test_equivalence(self):
        same = np.tile([1, 0], 200)
        # u at 90% and n = 400: 1 - .05^(1/400) = .0074613, below the margin; at n = 4: .5271.
        assert tost(same, same, margin=0.02).high == pytest.approx(0.0074613, abs=1e-6)
        assert tost(same, same, margin=0.02).verdict == "agrees"
        assert tost(same[:4], same[:4], margin=0.02).verdict == "cannot tell"
        assert tost(np.ones(40), np.zeros(40), margin=0.02).verdict == "differs"


class TestPower:
    def test_by_hand(self):
        # psi .2, n 100, z .8416212 and 1.9599640: sqrt(.2) (19.59964 + .8416212 sqrt(100 + .7083263
        # - 3.8414588)) / 100.7083263 = .4472136 * 27.8829 / 100.7083 = .1238193.
        assert minimum_detectable_difference(100, discordance=0.2) == pytest.approx(0.1238193, abs=1e-6)
        # d .1, psi .2: ((1.9599640 * .4472136 + .8416212 sqrt(.19)) / .1)^2 = (12.433845)^2 = 154.6.
        assert questions_needed(0.1, discordance=0.2) == 155

    @given(st.integers(20, 20_000), st.floats(0.05, 1))
    def test_inverse_of_each_other(self, n, discordance):
        difference = minimum_detectable_difference(n, discordance=discordance)
        if math.isnan(difference):
            # At the largest difference there is, psi itself, Connor's equation is still not met.
            z_terms = 1.959964 * math.sqrt(discordance) + 0.841621 * math.sqrt(discordance - discordance**2)
            assert math.sqrt(n) * discordance < z_terms + 1e-6
        else:
            assert 0 < difference <= discordance + 1e-12
            assert abs(questions_needed(min(difference, discordance), discordance=discordance) - n) <= 1

    def test_power_is_reached(self):
        # 155 questions, P(only a) .15 and P(only b) .05: the exact test is a little short of 80%.
        random = generator("power")
        draws = random.choice([1, -1, 0], p=[0.15, 0.05, 0.8], size=(300, 155))
        found = np.mean([mcnemar_exact(draw > 0, draw < 0) < 0.05 for draw in draws])
        assert 0.65 <= found <= 0.85

    def test_too_few_questions(self):
        assert math.isnan(minimum_detectable_difference(10, discordance=0.1))
        with pytest.raises(SkillmoeError, match="discordance"):
            questions_needed(0.3, discordance=0.2)


class TestAccuracyTable:
    def test_counts_and_wilson_for_one_seed(self):
        row = accuracy_table(results({("CoT", 0): "1111111000?c--"})).iloc[0]
        # 12 ran, 7 right.
        assert (row["accuracy"], row["low"], row["high"]) == pytest.approx(wilson(7, 12)[:3])
        counts = row[
            ["n_questions", "n_seeds", "n_correct", "n_answered", "n_unparsed", "n_cut", "n_not_run"]
        ]
        assert counts.tolist() == [12, 1, 7, 10, 1, 1, 2]

    def test_a_prompt_that_does_not_fit_is_wrong_not_missing(self):
        row = accuracy_table(results({("Debate", 0): "1" * 54 + "0" * 6 + "o" * 40})).iloc[0]
        assert row["accuracy"] == pytest.approx(0.54)  # and not 54 of 60, 90%
        assert row[["n_questions", "n_overflow", "n_not_run"]].tolist() == [100, 40, 0]

    def test_several_seeds_are_clustered(self):
        marks = "11100" * 8
        one = accuracy_table(results({("CoT", 0): marks})).iloc[0]
        three = accuracy_table(results({("CoT", seed): marks for seed in range(3)})).iloc[0]
        assert three["accuracy"] == pytest.approx(0.6)
        assert (three["n_questions"], three["n_seeds"], three["n_correct"]) == (40, 3, 72)
        # Identical seeds: the width of 40 questions, not of 120 rows.
        assert three["high"] - three["low"] == pytest.approx(one["high"] - one["low"], rel=0.15)

    @pytest.mark.parametrize("marks", ["1", "0", "11111", "00000"])
    def test_all_right_or_all_wrong_keeps_a_width(self, marks):
        for seeds in (1, 3):
            row = accuracy_table(results({("CoT", seed): marks for seed in range(seeds)})).iloc[0]
            expected = wilson(marks.count("1"), len(marks))
            assert (row["accuracy"], row["low"], row["high"], row["n_questions"]) == pytest.approx(expected)

    def test_nothing_ran_is_null_not_zero(self):
        row = accuracy_table(results({("CoT", 0): "---"})).iloc[0]
        assert row[["accuracy", "low", "high"]].isna().all()
        assert (row["n_questions"], row["n_not_run"]) == (0, 3)

    @pytest.mark.parametrize("broken", ["no column", "null", "twice", "empty", "status"])
    def test_refuses(self, broken):
        frame = results({("CoT", 0): "110"})
        if broken == "no column":
            frame = frame.drop(columns="correct")
        elif broken == "null":
            frame["correct"] = [True, None, False]
        elif broken == "twice":
            frame = pd.concat([frame, frame])
        elif broken == "empty":
            frame = frame[:0]
        else:
            frame["status"] = "failed"
        with pytest.raises(SkillmoeError) as error:
            accuracy_table(frame)
        assert "\n" not in str(error.value)


class TestCompare:
    def test_by_hand(self):
        frame = results(
            {("Ours", 0): "1" * 30 + "0" * 10, ("CoT", 0): "1" * 15 + "0" * 25, ("Same", 0): "01" * 20}
        )
        table = compare(frame, baseline="CoT").set_index("method")
        ours = table.loc["Ours"]
        # 15 flips, all ours: p = 2 / 2^15; the other: 7 right of the first 15, 13 of the rest: 8 against 13.
        assert ours["difference"] == pytest.approx(15 / 40)
        assert ours[["both_right", "only_method", "only_baseline", "both_wrong"]].tolist() == [15, 15, 0, 10]
        assert ours["p"] == pytest.approx(2 / 2**15)
        assert ours["p_holm"] == pytest.approx(2 * 2 / 2**15)
        assert (ours["verdict"], table.loc["Same", "verdict"]) == ("better", "cannot tell")
        assert table.loc["Same", ["only_method", "only_baseline"]].tolist() == [13, 8]
        assert ours[["n_questions", "n_seeds", "n_missing"]].tolist() == [40, 1, 0]

    def test_turned_round(self):
        frame = results({("Ours", 0): "1" * 30 + "0" * 10, ("CoT", 0): "1" * 15 + "0" * 25})
        there, back = (compare(frame, baseline=name).iloc[0] for name in ("CoT", "Ours"))
        assert (there["verdict"], back["verdict"]) == ("better", "worse")
        assert there["low"] == pytest.approx(-back["high"])
        assert there["p"] == back["p"]

    def test_few_flips_claim_nothing(self):
        # 4 flips of 40, all one way: the percentile interval excludes 0, McNemar's p is 2 / 16.
        row = compare(results({("Ours", 0): "1" * 40, ("CoT", 0): "1" * 36 + "0000"}), baseline="CoT").iloc[0]
        assert row["low"] > 0
        assert row["p"] == pytest.approx(0.125)
        assert row["verdict"] == "cannot tell"

    def test_missing_pairs_are_counted(self):
        frame = results({("Ours", 0): "11-1 ", ("CoT", 0): "10111", ("CoT", 1): "10111"})
        row = compare(frame, baseline="CoT").iloc[0]
        # Of 10 seed-question pairs 3 ran on both sides: seed 0, q0, q1 and q3.
        assert row[["n_questions", "n_missing"]].tolist() == [3, 7]
        assert row["difference"] == pytest.approx(1 / 3)

    def test_a_prompt_that_does_not_fit_is_compared_as_wrong(self):
        row = compare(results({("Ours", 0): "11oo", ("CoT", 0): "1010"}), baseline="CoT").iloc[0]
        assert row[["n_questions", "n_missing", "only_method", "only_baseline"]].tolist() == [4, 0, 1, 1]

    def test_nothing_ran_is_a_gap(self):
        frame = results({("Ours", 0): "---", ("CoT", 0): "101", ("Other", 0): "111"})
        row = compare(frame, baseline="CoT").set_index("method").loc["Ours"]
        assert row[["difference", "low", "high", "p", "p_holm"]].isna().all()
        assert row[["n_questions", "n_missing", "verdict"]].tolist() == [0, 3, "cannot tell"]

    def test_family(self):
        toy = results({("Ours", 0): "1" * 12, ("CoT", 0): "0" * 12})
        both = pd.concat([toy, toy.assign(benchmark="other")])
        alone = compare(both, baseline="CoT")
        together = compare(both, baseline="CoT", family="all")
        assert together["p_holm"].tolist() == pytest.approx((2 * alone["p_holm"]).tolist())
        with pytest.raises(SkillmoeError, match="unknown family 'each'"):
            compare(both, baseline="CoT", family="each")

    def test_what_is_no_test_takes_no_part_in_holms_family(self):
        """Two real comparisons, an oracle, the baseline under a second name, and CoT under a second name."""
        marks = {"Ours": "1" * 30 + "0" * 10, "CoT": "1" * 15 + "0" * 25, "Vote": "01" * 20}
        marks |= {"instance_oracle": "1" * 40, "Ours again": marks["Ours"], "Best": marks["CoT"]}
        frame = results({(method, 0): text for method, text in marks.items()})
        cost = frame["method"].map({"Ours": 4, "Ours again": 4, "CoT": 1, "Best": 1, "Vote": 3}).fillna(0)
        frame = frame.assign(answer=frame["correct"].astype(str), calls=cost)
        frame = frame.assign(prompt_tokens=10 * cost, output_tokens=5 * cost)
        table = compare(frame, baseline="Ours").set_index("method")
        assert table["verdict"].to_dict() == {
            "CoT": "worse",
            "Vote": "worse",
            "instance_oracle": "bound",
            "Ours again": "same as the baseline",
            "Best": "worse",
        }
        assert table["p"].isna().to_dict() == {
            "CoT": False,
            "Vote": False,
            "instance_oracle": True,
            "Ours again": True,
            "Best": False,
        }
        assert table.loc[["Ours again", "Best"], "same_as"].tolist() == ["Ours", "CoT"]
        # A family of two, not of five: 2 * 2 / 2^15. Vote: 15 against 5, p = .041, which five would bury.
        assert table.loc["CoT", "p_holm"] == table.loc["Best", "p_holm"] == pytest.approx(2 * 2 / 2**15)
        assert detectable(compare(frame, baseline="Ours")).n_tests == 2

    def test_equal_outcomes_of_different_requests_are_a_test(self):
        frame = results({("Ours", 0): "1100", ("CoT", 0): "1100"}).assign(answer="A", output_tokens=1)
        frame["prompt_tokens"] = frame["method"].map({"Ours": 7, "CoT": 5})
        row = compare(frame, baseline="CoT").iloc[0]
        assert (row["p"], row["same_as"], row["verdict"]) == (1, None, "cannot tell")

    def test_detectable_difference_by_hand(self):
        """One test of 100 pairs, 20 of them discordant: the value of TestPower, at the full level."""
        marks = {("Ours", 0): "1" * 15 + "0" * 5 + "1" * 80, ("CoT", 0): "0" * 15 + "1" * 5 + "1" * 80}
        found = detectable(compare(results(marks), baseline="CoT"))
        assert found[:5] == pytest.approx((0.1238193, 100, 0.2, 0.05, 1), abs=1e-6)
        assert str(found) == (
            "100 questions, of which 20 of 100 are right by only one of two methods (the median of 1 tests), "
            "each test at 5%: a power of 80% takes 12.4 points."
        )

    def test_a_second_test_halves_the_level(self):
        marks = {("Ours", 0): "1" * 60 + "0" * 40, ("CoT", 0): "1" * 50 + "0" * 50}
        one, two = (
            detectable(compare(results(marks | more), baseline="CoT"))
            for more in ({}, {("Vote", 0): "1" * 60 + "0" * 40})
        )
        assert (one.alpha, two.alpha, two.n_tests) == (0.05, 0.025, 2)
        assert two.difference > one.difference
        nothing = detectable(compare(results({("Ours", 0): "1-", ("CoT", 0): "-1"}), baseline="CoT"))
        assert str(nothing) == "Nothing was tested."

    def test_refuses(self):
        frame = results({("Ours", 0): "11  ", ("CoT", 0): "  10"})
        with pytest.raises(SkillmoeError, match="share no question"):
            compare(frame, baseline="CoT")
        with pytest.raises(SkillmoeError, match="unknown baseline on toy 'Cot': it must be one of CoT, Ours"):
            compare(frame, baseline="Cot")
        with pytest.raises(SkillmoeError, match="nothing to compare"):
            compare(frame[frame["method"] == "CoT"], baseline="CoT")

    def test_seeds_and_order_do_not_shift_the_draws(self):
        frame = results(
            {("Ours", s): "1101100110" for s in range(3)} | {("CoT", s): "1001010010" for s in range(3)}
        )
        shuffled = frame.sample(frac=1, random_state=1)
        columns = ["difference", "low", "high", "p", "n_questions", "n_seeds"]
        there, back = (compare(x, baseline="CoT").iloc[0][columns].tolist() for x in (frame, shuffled))
        assert there == back
        assert there[4:] == [10, 3]


class TestVerdictAgainst:
    def test_by_hand(self):
        # Ours 50 [44, 56]; published 50 of n 400 without std: Wilson half = 1.959964 sqrt(.000625 +
        # .0000240091 ) / 1.0096036 = .0487646 (centre .5); half of the difference sqrt(.06^2 + .0487646^2).
        value = verdict_against(0.5, Interval(0.5, 0.44, 0.56, 260), n=400)
        assert (value.difference, value.low, value.high) == pytest.approx(
            (0, -0.0773169, 0.0773169), abs=1e-5
        )
        assert value.verdict == "cannot tell"

    def test_std_over_seeds_counts_with_students_t(self):
        # t(2, .975) = 4.302653; std .03 over 3 seeds: 4.302653 * .03 / 1.7320508 = .0745241.
        ours = Interval(0.5, 0.44, 0.56, 260)
        value = verdict_against(0.5, ours, n=400, std=0.03)
        assert value.high == pytest.approx(math.hypot(0.0773169, 0.0745241), abs=1e-5)

    def test_verdicts(self):
        sharp = Interval(0.5, 0.495, 0.505, 40_000)
        assert verdict_against(0.5, sharp, n=40_000).verdict == "agrees"
        assert verdict_against(0.5, sharp, n=40_000, margin=0.001).verdict == "cannot tell"
        assert verdict_against(0.6, sharp, n=40_000).verdict == "differs"
        assert verdict_against(0.4, sharp, n=40_000).verdict == "differs"

    def test_thirty_questions_settle_little(self):
        # AIME: 68.88 +- 5.08 over 30 questions; 15 points lower cannot be told from it.
        assert verdict_against(0.6888, wilson(16, 30), n=30, std=0.0508).verdict == "cannot tell"

    def test_refuses_percentages(self):
        with pytest.raises(SkillmoeError, match=r"63\.71"):
            verdict_against(63.71, wilson(6, 10), n=100)
        with pytest.raises(SkillmoeError):
            verdict_against(0.6, wilson(6, 10), n=100, std=0.01, n_seeds=1)


def test_many_bootstraps_at_once_are_each_as_by_itself():
    random = generator("test", 3)
    a, b = random.random((4, 60)).round(), random.random((4, 60))
    b[3] = a[3]  # no spread
    found = bootstraps(a - b, n_boot=300, level=0.9, seed=5)
    for one, x, y in zip(found, a, b, strict=True):
        assert one == pytest.approx(paired_bootstrap(x, y, n_boot=300, level=0.9, seed=5), abs=1e-12)
    assert bootstraps([]) == []
    for wrong in ([[0.0, 1.5]], [[0.0, math.nan]]):
        with pytest.raises(SkillmoeError, match="from -1 to 1, without nulls"):
            bootstraps(wrong)
