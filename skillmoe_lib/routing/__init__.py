"""Who answers which question: routers, from skills or from embeddings, and their controls.

`skill_router` is the paper's recruiting (docs/method.md 1.4 and 1.5); `slots` draws from its probabilities;
`controls`, `embedding` and `committee` are what it is compared with (`ranked` is what these share);
`confidence` sizes the team by probability; `tuning` chooses settings on validation; `belief` is the
reasoning of sequential recruiting. `entry` says how a method's router is made.
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
