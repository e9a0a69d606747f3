"""Skills of questions and profiles of experts (docs/method.md 1.1 to 1.3).

`skills` finds a question's skills and matches them to a profile's words; `profiles` counts what each expert
got right and wrong, skill by skill.
"""

from skillmoe_lib.profiling.profiles import outcomes, profile, totals
from skillmoe_lib.profiling.skills import annotate, consistent, embed, load_encoder, match, parse_keywords

__all__ = [
    "annotate",
    "consistent",
    "embed",
    "load_encoder",
    "match",
    "outcomes",
    "parse_keywords",
    "profile",
    "totals",
]
