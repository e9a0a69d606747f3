"""From several chains of thought to one answer (docs/method.md 1.7 and 1.8).

`votes` counts answers; `aggregator` builds the test by which the aggregator is chosen.
"""

from skillmoe_lib.aggregation.aggregator import Item, best_candidate, examine_candidate, make_items
from skillmoe_lib.aggregation.votes import read_answer, visible_text, vote

__all__ = [
    "Item",
    "best_candidate",
    "examine_candidate",
    "make_items",
    "read_answer",
    "visible_text",
    "vote",
]
