"""The pocket pool: small experts that this project trains itself, from question families to weights.

`families` (worked questions) -> `lessons` (prompts and replies to learn), `primer` (what all learn first)
-> `tokenizer`, `start` -> `training` -> `pool` (who is in it) -> `cards`. Nothing here is needed to use the
pool, only to make it again: `make pocket`, which is `python -m skillmoe_lib.pocket`.
"""
