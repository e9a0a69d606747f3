"""Key of 04_batches: loads are counted by advancing the chains, without the library's scheduler."""

from collections import Counter
from collections.abc import Callable, Mapping

from skillmoe_lib.classroom import Variant, recording
from skillmoe_lib.classroom.checks import check_values

Chains = Mapping[str, list[str]]
Policy = Callable[[dict[str, list[str]]], str]


def drawn(variant: Variant) -> tuple[str, Chains]:
    """The student's aggregator and chains."""
    pool = variant.pool(recording.load("answers")["expert"], 7)
    draw = variant.generator("chains")
    aggregator, *experts = draw.permutation(pool).tolist()
    chains = {
        f"q{i:02d}": [*draw.permutation(experts)[: draw.integers(2, 5)].tolist(), aggregator]
        for i in range(40)
    }
    return aggregator, chains


def advance(at: dict[str, int], chains: Chains, name: str) -> int:
    """Let a loaded model answer all it can; returns the number of its answers."""
    n = 0
    for question_id, chain in chains.items():
        while at[question_id] < len(chain) and chain[at[question_id]] == name:
            at[question_id] += 1
            n += 1
    return n


def n_loads(chains: Chains, policy: Policy) -> int:
    """Loads until every chain has ended."""
    at, n = dict.fromkeys(chains, 0), 0
    while True:
        waiting: dict[str, list[str]] = {}
        for question_id, chain in chains.items():
            if at[question_id] < len(chain):
                waiting.setdefault(chain[at[question_id]], []).append(question_id)
        if not waiting:
            return n
        advance(at, chains, policy(waiting))
        n += 1


def check_one_by_one(value: dict[str, object], variant: Variant) -> tuple[float, str]:
    """Two points, one each; the aggregator has a place of its own."""
    aggregator, chains = drawn(variant)
    loaded, n = "", 1
    for chain in chains.values():
        for name in chain:
            if name not in (loaded, aggregator):
                loaded = name
                n += 1
    truth = {"n_loads": n, "n_requests": sum(map(len, chains.values()))}
    return check_values(value, truth, points=2)


def check_grouped(value: dict[str, object], variant: Variant) -> tuple[float, str]:
    """Two points, one for the batches and one for the loads."""
    _, chains = drawn(variant)
    requests = Counter(name for chain in chains.values() for name in chain)
    if value["requests"] != dict(requests):
        return 0, "wrong: the number of requests of some model"
    return (2, "") if value["n_loads"] == len(requests) else (1, "wrong: the number of loads")


def check_policy(value: list[str], variant: Variant) -> tuple[float, str]:
    """Four points for as few loads as "most waiting, the aggregator last" takes, however ties are broken."""
    aggregator, chains = drawn(variant)
    at = dict.fromkeys(chains, 0)
    for i, name in enumerate(value, start=1):
        if not advance(at, chains, name):
            return 0, f"no question waits for the model of load {i}"
    if n_left := sum(at[question_id] < len(chain) for question_id, chain in chains.items()):
        return 0, f"{n_left} of the chains do not end"
    allowed = max(n_loads(chains, _most_waiting(aggregator, variant, i)) for i in range(30))
    if len(value) <= allowed:
        return 4, ""
    if len(value) < n_loads(chains, lambda waiting: min(waiting, key=lambda name: min(waiting[name]))):
        return 2, f"{len(value)} loads: fewer than first_come, but more than are needed"
    return 0, f"{len(value)} loads: no fewer than first_come"


def _most_waiting(aggregator: str, variant: Variant, tie: int) -> Policy:
    """The reference; ties in alphabetical order (0), or at random."""
    random = variant.generator("ties", tie)

    def policy(waiting: dict[str, list[str]]) -> str:
        names = sorted(name for name in waiting if name != aggregator) or [aggregator]
        names = names if tie == 0 else random.permutation(names).tolist()
        return max(names, key=lambda name: len(waiting[name]))

    return policy


def check_seconds(value: dict[str, object], variant: Variant) -> tuple[float, str]:
    """Two points in four parts."""
    draw = variant.generator("seconds")
    load, call = round(draw.uniform(20, 45), 1), round(draw.uniform(8, 20), 1)
    n_questions, n_calls = 198, 3 + 1
    total_alone = n_questions * n_calls * (load + call)
    total_grouped = 16 * load + n_questions * n_calls * call / 4
    truth = {
        "one_by_one_s": total_alone / n_questions,
        "grouped_s": total_grouped / n_questions,
        "speed_up": total_alone / total_grouped,
        "limit": (load + call) / (call / 4),
    }
    return check_values(value, truth, points=2, tolerance=0.01)
