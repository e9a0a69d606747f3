"""Symbolic-MoE and every baseline, each a short program for ONE question (METHOD sections 1 and 4).

A method yields the requests it needs next and receives their generations; it knows nothing of batches,
engines, stores or other methods. All share prompts, extractor and sampling, so that a difference between
methods is never a difference in wording. The number of requests yielded is the method's calls a question.

`symbolic_moe` is the paper's method, `baselines` all others; `single` is what they are made of; `lineup`
names them all and makes their programs.
"""

from skillmoe_lib.methods.baselines import (
    best_of_n,
    complexity_vote,
    confidence,
    cot,
    debate,
    fusion_of_n,
    majority_vote,
    moa,
    reconcile,
    self_refine,
)
from skillmoe_lib.methods.single import Run, Single, ask, every_expert, single
from skillmoe_lib.methods.symbolic_moe import symbolic_moe

__all__ = [
    "Run",
    "Single",
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
    "reconcile",
    "self_refine",
    "single",
    "symbolic_moe",
]
