"""The pocket pool: small experts that this project trains itself, from question families to weights.

`chains` (worked chains of thought) -> `families`, `mixed` (worked questions) -> `lessons` (prompts and
replies to learn), `primer` (what all learn first) -> `tokenizer`, `start` -> `training` (with `muon`) ->
`pool` (its members) -> `cards`. Nothing here is needed to use the pool, only to rebuild it: `make pocket`,
which is `python -m skillmoe_lib.pocket`.
"""
