"""Outputs that others recorded -> tables that studies replay; nothing is generated.

`importing` recognises a file's format and imports it (`python -m skillmoe_lib import`); `recording` is what
comes of it, and the rules by which files that disagree are settled; `answerable` says what a recording can
answer, and what would need new calls. Readers, one a format: `lm_eval` (lm-evaluation-harness),
`inspect_log` (inspect_ai), `mmlu_pro`, `llmrouterbench`, `routerarena`, `helm`, `embedllm`, `routellm`,
`routerbench` (with `unpickle`, a process of its own) and `plain` (a table of your own). They share `opening`
(files, within limits) and `wording` (a recording's words put into ours). docs/recorded.md shows what each
reads and lacks.
"""

from skillmoe_lib.recorded.recording import Options, Recorded, Row, build, join, load, write

__all__ = ["Options", "Recorded", "Row", "build", "join", "load", "write"]
