"""Symbolic-MoE and every baseline, each a short program for ONE question (docs/method.md 1, 4 and 5).

A method yields the requests it needs next and receives their generations; it knows nothing of batches,
engines, stores or other methods. All share prompts, extractor and sampling, so that a difference between
methods is never a difference in wording. The number of requests yielded is the method's calls a question.

`symbolic_moe` is the paper's method, `sequential` is ours; `one_model`, `worked_examples` (chosen by
`example_bank`), `discussion` and `voting` hold the others. Each method's entry (`method`: its name, label,
citation, calls, and what it needs) stands beside its program, and `lineup` lists the entries and makes the
programs of a run. `single` is what methods are made of.
"""

from skillmoe_lib.methods.discussion import confidence, debate, moa, reconcile
from skillmoe_lib.methods.method import Method, Slot, Team
from skillmoe_lib.methods.one_model import best_of_n, complexity_vote, cot, fusion_of_n, self_refine
from skillmoe_lib.methods.sequential import sequential
from skillmoe_lib.methods.single import Run, Single, ask, every_expert, single
from skillmoe_lib.methods.symbolic_moe import symbolic_moe
from skillmoe_lib.methods.voting import majority_vote
from skillmoe_lib.methods.worked_examples import adaptmi, own_examples

__all__ = [
    "Method",
    "Run",
    "Single",
    "Slot",
    "Team",
    "adaptmi",
    "ask",
    "best_of_n",
    "complexity_vote",
    "confidence",
    "cot",
    "debate",
    "every_expert",
    "fusion_of_n",
    "majority_vote",
    "moa",
    "own_examples",
    "reconcile",
    "self_refine",
    "sequential",
    "single",
    "symbolic_moe",
]
