"""Grouped batch inference (docs/method.md 1.6): every method's requests, each model loaded once.

`schedule` advances all programs together; `store` keeps every generation, `journal` the newest ones while a
model generates; `ledger` computes costs; `engines` generate.
"""

from skillmoe_lib.inference.engines import connect
from skillmoe_lib.inference.schedule import Outcome, most_waiting, run
from skillmoe_lib.inference.store import Batch, GenerationStore, StoreWarning

__all__ = ["Batch", "GenerationStore", "Outcome", "StoreWarning", "connect", "most_waiting", "run"]
