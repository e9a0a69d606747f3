"""Games: which questions every sub-pool of a pool answers right under one method (docs/what_if.md).

Counted from recorded answers (`outcomes`); nothing is generated. `pool` asks what each expert is worth.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.routing import slots
from skillmoe_lib.studies import what_if as replay
from skillmoe_lib.studies.outcomes import Bools, Ints, Outcomes
from skillmoe_lib.studies.what_if import plurality

#: Methods with a game, and the largest pool whose every sub-pool is played. In "vote" all experts vote.
EXACT_UP_TO = {"vote": 16, "top_k": 16, "majority_vote": 12, "sequential": 8, "sequential_without_skills": 8}


@dataclass(frozen=True)
class Game:
    """Which questions each sub-pool answers right.

    Parameters
    ----------
    method
        One of `EXACT_UP_TO`.
    experts
        In the order of the bits: a sub-pool is a whole number whose bit i says whether it has expert i.
    play
        Sub-pools, shape (m,) -> whether each question is answered right, shape (m, n_questions). The empty
        pool answers nothing.
    """

    method: str
    experts: tuple[str, ...]
    question_ids: pd.Index
    play: Callable[[Ints], Bools]

    @property
    def whole(self) -> int:
        """The number of the whole pool."""
        return int(2 ** len(self.experts) - 1)


def game(
    outcomes: Outcomes,
    method: str = "vote",
    *,
    k: int = 3,
    split: str = "test",
    temperature: float | None = None,
    prior: float | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> Game:
    """The game of one method on one split.

    - "vote": every expert of the sub-pool votes; ties go to the most accurate on validation.
    - "top_k": its k most accurate experts on validation vote.
    - "majority_vote": k draws of the skill router (preset "skillmoe", without trimming) vote.
    - "sequential", "sequential_without_skills": experts are asked in turn until `threshold` (None: chosen
      on validation for the whole pool, for an average of k calls).

    Profiles and accuracies are learnt on validation, for each expert by itself, so those of a sub-pool are
    the whole pool's. On split "validation" they are judged where they were learnt: only for choosing.
    """
    if method not in EXACT_UP_TO:
        raise unknown("method", method, EXACT_UP_TO)
    if method in ("vote", "top_k"):
        return _vote_game(outcomes, method, split, k)
    if method == "majority_vote":
        return _drawn_game(outcomes, split, k, temperature, prior, seed)
    return _sequential_game(outcomes, method, split, k, threshold)


def _vote_game(pool: Outcomes, method: str, split: str, k: int) -> Game:
    """Votes by bit operations: the votes of an answer are the bits that a sub-pool shares with its voters."""
    right = pool.validation_scores.groupby("expert")["correct"].mean()
    order = sorted(range(len(pool.experts)), key=lambda i: (-right[pool.experts[i]], pool.experts[i]))
    if len(order) > 40:
        raise SkillmoeError(f"a game of votes has at most 40 experts, given {len(order)}")
    rows = pool.rows(split)
    number, correct = pool.answer[rows][:, order], pool.correct[rows][:, order]
    bits = 1 << np.arange(len(order), dtype=np.int64)
    voters: list[dict[bool, list[int]]] = []
    for given, hits in zip(number, correct, strict=True):
        sides: dict[bool, list[int]] = {True: [], False: []}
        for answer in np.unique(given[given >= 0]):
            who = given == answer
            sides[bool(hits[who].any())].append(int(bits[who].sum()))
        voters.append(sides)
    table = _standing(np.arange(2 ** len(order)), len(order)) if len(order) <= 16 else None

    def play(pools: Ints) -> Bools:
        asked, back = np.unique(_first_bits(pools, k) if method == "top_k" else pools, return_inverse=True)
        won = np.zeros((len(rows), len(asked)), dtype=bool)
        for row, sides in enumerate(voters):
            best = {True: np.zeros(len(asked), np.int64), False: np.zeros(len(asked), np.int64)}
            for side, masks in sides.items():
                for mask in masks:
                    shared = asked & mask
                    found = _standing(shared, len(order)) if table is None else table[shared]
                    np.maximum(best[side], found, out=best[side])
            won[row] = best[True] > best[False]
        return np.asarray(won.T[back])

    names = tuple(pool.experts[i] for i in order)
    return Game(method, names, pool.questions.index[rows], play)


def _standing(voters: Ints, n: int) -> Ints:
    """What decides between answers: how many voters, then whose first voter comes earlier. 0: no voter."""
    first = voters & -voters
    return np.asarray((np.bitwise_count(voters).astype(np.int64) << (n + 1)) - first)


def _first_bits(pools: Ints, k: int) -> Ints:
    """The lowest k bits of each number."""
    rest = np.array(pools)
    for _ in range(k):
        rest &= rest - 1  # takes the lowest bit away
    return np.asarray(pools ^ rest)


def members_of(pools: Ints, n: int) -> Bools:
    """Which of n experts each sub-pool has (bit i: expert i), shape (n_pools, n)."""
    return np.asarray((pools[:, None] >> np.arange(n)) & 1).astype(bool)


def _one_by_one(n_questions: int, n: int, answer_right: Callable[[Ints], Bools]) -> Callable[[Ints], Bools]:
    """A play that computes one sub-pool after the other, from the positions of its members."""

    def play(pools: Ints) -> Bools:
        won = np.zeros((len(pools), n_questions), dtype=bool)
        for i, members in enumerate(members_of(pools, n)):
            if members.any():
                won[i] = answer_right(np.flatnonzero(members))
        return won

    return play


def _drawn_game(
    pool: Outcomes, split: str, k: int, temperature: float | None, prior: float | None, seed: int
) -> Game:
    """The skill router's draws, with the uniform numbers of `routing.slots.draw`.

    Formula "fixed" divides relevances by the number of experts, so a sub-pool draws with the whole pool's
    probabilities to the power of whole / sub-pool.
    """
    router = replay.router_of("majority_vote", k, "skillmoe", temperature, prior, None)
    fitted = router.fit(replay.skills_of(pool, "validation"), pool.validation_scores)
    ids, n = pool.ids(split), len(pool.experts)
    chances = fitted.probabilities(replay.skills_of(pool, split), question_ids=ids)[list(pool.experts)]
    with np.errstate(divide="ignore"):
        relevance = np.log(chances.to_numpy())
    uniform = slots.uniform(ids, k, seed)
    rows, at = pool.rows(split)[:, None], np.arange(len(ids))[:, None]
    number, correct = pool.answer[rows[:, 0]], pool.correct[rows[:, 0]]

    def answer_right(members: Ints) -> Bools:
        w = relevance[:, members] * (n / len(members))
        reached = np.exp(w - w.max(axis=1, keepdims=True)).cumsum(axis=1)
        reached /= reached[:, -1:]
        drawn = members[(reached[:, None, :] <= uniform[:, :, None]).sum(axis=2)]
        given = number[at, drawn]
        return _right(given, correct[at, drawn], plurality(given))

    return Game("majority_vote", pool.experts, ids, _one_by_one(len(ids), n, answer_right))


def _sequential_game(pool: Outcomes, method: str, split: str, k: int, threshold: float | None) -> Game:
    turns = replay.turns_of(pool, method, split)
    if threshold is None:
        threshold = replay.chosen_threshold(pool, method, budget=k)
    n, ids = len(pool.experts), pool.ids(split)

    def answer_right(members: Ints) -> Bools:
        kept = np.isin(turns.order, members)
        at = np.argsort(~kept, axis=1, kind="stable")[:, : len(members)]
        given = np.take_along_axis(turns.given, at, axis=1)
        accuracy = np.take_along_axis(turns.accuracy, at, axis=1)
        correct = np.take_along_axis(turns.correct, at, axis=1)
        path = replay.believed(given, accuracy, turns.n_answers, until=threshold)
        return _right(given, correct, path.answer[:, -1])

    return Game(method, pool.experts, ids, _one_by_one(len(ids), n, answer_right))


def _right(given: Ints, correct: Bools, answer: Ints) -> Bools:
    return np.asarray((correct & (given == answer[:, None]) & (given >= 0)).any(axis=1))
