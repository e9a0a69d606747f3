"""Grouped batch inference (docs/method.md 1.6): every method's requests, each model loaded once.

`schedule` advances all programs together, `policies` say which model is loaded next; `store` keeps every
generation, `journal` the newest ones while a model generates; `identity` compares the prompts of what is
stored with those of now, and `migration` does so once for an old store; `ledger` computes costs, `money` what
paid services charged, by the list of `prices`; `engines` generate. `rehearsal` stands in for an engine to see
what a run would ask, `forecast` says what that would take.
"""

from skillmoe_lib.inference.engines import connect
from skillmoe_lib.inference.policies import most_waiting
from skillmoe_lib.inference.schedule import Outcome, run
from skillmoe_lib.inference.store import Batch, GenerationStore, StoreWarning

__all__ = ["Batch", "GenerationStore", "Outcome", "StoreWarning", "connect", "most_waiting", "run"]
