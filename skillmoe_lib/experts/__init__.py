"""Experts: which model, how it is prompted, and where its files are.

`pool` reads a pool's YAML file; `model_files` finds a model on this machine; `model_check` checks that its
folder is complete; `devices` says what this machine computes with; `servers` are those that hold models
elsewhere.
"""

from skillmoe_lib.experts.pool import TRIM, Expert, Pool, load_pool, pool_table, read_examples

__all__ = ["TRIM", "Expert", "Pool", "load_pool", "pool_table", "read_examples"]
