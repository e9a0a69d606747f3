"""Routers: which experts answer which question, by skills or by embeddings, and controls.

`skill_router` is the paper's recruiting (docs/method.md 1.4 and 1.5); `slots` draws from its probabilities;
`controls`, `embedding` and `committee` are the routers that it is compared with (`ranked` is their base);
`confidence` recruits as many experts as reach a summed probability; `tuning` chooses settings on validation;
`belief` is the reasoning of sequential recruiting. `entry` describes how a method's router is made.
"""

from skillmoe_lib.routing.committee import CommitteeRouter
from skillmoe_lib.routing.confidence import ConfidenceSizedRouter, confidence_sized
from skillmoe_lib.routing.controls import GlobalTopK, RandomRouter
from skillmoe_lib.routing.embedding import ClusterRouter, KNNRouter, LogisticRouter
from skillmoe_lib.routing.entry import Router, RouterEntry, Settings
from skillmoe_lib.routing.skill_router import SkillRouter

__all__ = [
    "ClusterRouter",
    "CommitteeRouter",
    "ConfidenceSizedRouter",
    "GlobalTopK",
    "KNNRouter",
    "LogisticRouter",
    "RandomRouter",
    "Router",
    "RouterEntry",
    "Settings",
    "SkillRouter",
    "confidence_sized",
]
