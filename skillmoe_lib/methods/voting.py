"""Votes of recruited experts, without an aggregator: over Symbolic-MoE's slots or those of another router.

Routers are compared by these votes: the program is the same, only the recruited experts differ.
"""

from collections.abc import Sequence
from math import isnan

from skillmoe_lib.aggregation import read_answer, vote
from skillmoe_lib.experts import Expert
from skillmoe_lib.generation import Program
from skillmoe_lib.methods.method import Method, Team
from skillmoe_lib.methods.single import ask
from skillmoe_lib.questions import Question
from skillmoe_lib.routing.committee import COMMITTEE_ROUTER
from skillmoe_lib.routing.confidence import CONFIDENCE_ROUTER
from skillmoe_lib.routing.controls import RANDOM_ROUTER, TOP_K_ROUTER
from skillmoe_lib.routing.embedding import CLUSTER_ROUTER, KNN_ROUTER, LOGISTIC_ROUTER


def majority_vote(
    question: Question, recruited: Sequence[Expert], *, seed: int, weights: Sequence[float] | None = None
) -> Program:
    """Vote of the recruited experts, weighted or not, without an aggregator. k calls.

    With five slots of one expert this is Self-Consistency (Wang et al. 2023).
    """
    generations = yield ask(question, recruited, seed=seed)
    ballots = [read_answer(question, expert, g) for expert, g in zip(recruited, generations, strict=True)]
    return vote(question, ballots, weights)


def of_slots(question: Question, team: Team, seed: int) -> Program:
    """The majority vote over a team's slots."""
    return majority_vote(question, team.recruited, seed=seed)


def of_weighted_slots(question: Question, team: Team, seed: int) -> Program:
    """The vote over a team's slots, each weighted by the probability with which it was drawn."""
    weights = [0.0 if isnan(slot.probability) else slot.probability for slot in team.slots]
    return majority_vote(question, team.recruited, seed=seed, weights=weights)


MAJORITY_VOTE = Method(
    "majority_vote",
    "Majority vote of the recruited",
    "baseline",
    about="The experts that Symbolic-MoE recruits; the answer that most of them give, without an aggregator.",
    calls="k",
    program=of_slots,
    route="symbolic_moe",
)
WEIGHTED_VOTE = Method(
    "weighted_vote",
    "Weighted vote of the recruited",
    "baseline",
    about="The experts that Symbolic-MoE recruits; each vote weighs its expert's probability of "
    "being recruited.",
    calls="k",
    program=of_weighted_slots,
    route="symbolic_moe",
)
RANDOM_K = Method(
    "random_k",
    "Random experts, vote",
    "control",
    about="Experts drawn at random for each question; majority vote.",
    calls="k",
    program=of_slots,
    route="random_k",
    router=RANDOM_ROUTER,
    n_experts="k",
)
TOP_K = Method(
    "top_k",
    "Fixed top k, vote",
    "control",
    about="The most accurate experts on validation, the same for every question; majority vote.",
    calls="k",
    program=of_slots,
    route="top_k",
    router=TOP_K_ROUTER,
    n_experts="k",
)
CONFIDENCE_SIZED = Method(
    "confidence_sized",
    "Confidence-sized recruiting, vote",
    "baseline",
    about="As many experts as reach a fixed probability of being recruited; majority vote.",
    calls="varies",
    program=of_slots,
    route="confidence_sized",
    router=CONFIDENCE_ROUTER,
)
CLUSTER = Method(
    "cluster_router",
    "Cluster router (Avengers), vote",
    "baseline",
    about="Experts that do best on validation questions in the same cluster of embeddings; majority vote.",
    calls="k",
    citation="Zhang et al. 2025 (Avengers)",
    program=of_slots,
    route="cluster_router",
    router=CLUSTER_ROUTER,
    n_experts="k",
)
KNN = Method(
    "knn_router",
    "kNN router, vote",
    "baseline",
    about="Experts that do best on the nearest validation questions by embedding; majority vote.",
    calls="k",
    program=of_slots,
    route="knn_router",
    router=KNN_ROUTER,
    n_experts="k",
)
LOGISTIC = Method(
    "logistic_router",
    "Logistic router, vote",
    "baseline",
    about="Experts that a logistic regression on the embedding expects to be right; majority vote.",
    calls="k",
    program=of_slots,
    route="logistic_router",
    router=LOGISTIC_ROUTER,
    n_experts="k",
)
COMMITTEE = Method(
    "committee",
    "Committee router (ours), vote",
    "method",
    about="The committee whose vote is expected to do best on the question, or the fixed top k; "
    "majority vote.",
    calls="k",
    program=of_slots,
    route="committee",
    router=COMMITTEE_ROUTER,
    n_experts="k",
)
