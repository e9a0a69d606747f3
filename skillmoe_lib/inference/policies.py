"""Which model is loaded next, and how few loads could do (docs/loads.md).

A policy is a function of what waits. Each load serves all requests that wait for its model, and those that
programs ask of it while it is loaded. What a program needs is a sequence of waves: the models that it asks at
a time. It gets on to the next wave when every model of this one has been loaded. So the shortest order of
loads is a shortest common supersequence of all programs' waves, which is hard to find. `fewest_loads` is a
lower bound of its length, and `look_ahead` compares models by that bound.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache

from skillmoe_lib.errors import unknown
from skillmoe_lib.generation import LoadKey, Request

#: The models that a program asks, a set for each wave.
Waves = tuple[frozenset[LoadKey], ...]


class Waiting(dict[LoadKey, Collection[Request]]):
    """The requests that wait for each model, in the order in which the models were first asked.

    `programs()` counts what the programs that wait need: the models that they wait for, and then those that
    they have said they will ask (`generation.Wave`).
    """

    def __init__(
        self,
        requests: Mapping[LoadKey, Collection[Request]],
        programs: Callable[[], Mapping[Waves, int]] = Counter,
    ) -> None:
        super().__init__(requests)
        self.programs = programs


Policy = Callable[[Waiting], LoadKey]


def naive(waiting: Mapping[LoadKey, Collection[Request]]) -> LoadKey:
    """The model asked first. `schedule.run` begins each program when the one before it has ended.

    That is a loop over questions, for comparison: a load for every model that a question asks.
    """
    return next(iter(waiting))


def most_waiting(
    waiting: Mapping[LoadKey, Collection[Request]], *, last: Collection[LoadKey] = ()
) -> LoadKey:
    """The model that the most requests wait for; ties go to the one asked first.

    Models in `last` (such as the aggregator's, which aggregates the others' answers) wait until no other
    model has requests, so that one load serves both their own answers and their aggregation.
    """
    return max(waiting, key=lambda key: (key not in last, len(waiting[key])))


def look_ahead(waiting: Waiting, *, last: Collection[LoadKey] = ()) -> LoadKey:
    """The model after which the fewest loads are left, by `fewest_loads`; ties as in `most_waiting`.

    It knows what programs say that they will ask later. Of two models that leave equally many loads the one
    is taken that fewer programs will ask again after another model.
    """
    needs = waiting.programs()

    def merit(key: LoadKey) -> tuple[bool, int, int, int]:
        left = Counter[Waves]()
        for waves, n in needs.items():
            left[after(waves, key)] += n
        again = sum(n for waves, n in left.items() if any(key in wave for wave in waves))
        return key in last, fewest_loads(left), again, -len(waiting[key])

    return min(waiting, key=merit)


#: By the name that a notebook's parameter gives.
POLICIES: Mapping[str, Policy] = {"naive": naive, "most_waiting": most_waiting, "look_ahead": look_ahead}


def find_policy(name: str) -> Policy:
    """The policy of that name; a `SkillmoeError` lists the known ones."""
    if name not in POLICIES:
        raise unknown("policy", name, POLICIES)
    return POLICIES[name]


# -- how few loads could do ------------------------------------------------------------------------


def fewest_loads(programs: Iterable[Waves]) -> int:
    """A lower bound of the loads that serve all these programs: no order of loads can do with fewer.

    Any program takes `loads_alone`, and each model that it does not ask, but another program does, takes one
    more. The bound is the largest of these sums.
    """
    each = set(programs)
    models = frozenset().union(*(wave for waves in each for wave in waves))
    return max((loads_alone(waves) + len(models - frozenset().union(*waves)) for waves in each), default=0)


@lru_cache(maxsize=100_000)
def loads_alone(waves: Waves) -> int:
    """The fewest loads that one program takes alone.

    One load for each model of each wave, but the model loaded last can serve the next wave too. (In a wave of
    several models it cannot also be the one that was left from the wave before.)
    """
    n_by_held: dict[LoadKey | None, int] = {None: 0}
    for wave in filter(None, waves):
        after_it: dict[LoadKey | None, int] = {}
        for held, n in n_by_held.items():
            for end in wave:
                kept = held in wave and (end != held or len(wave) == 1)
                after_it[end] = min(after_it.get(end, n + len(wave)), n + len(wave) - kept)
        n_by_held = after_it
    return min(n_by_held.values())


def after(waves: Waves, loaded: LoadKey) -> Waves:
    """What a program still needs when this model has been loaded."""
    left = list(waves)
    while left:
        left[0] = left[0] - {loaded}
        if left[0]:
            break
        left.pop(0)
    return tuple(left)
