"""The draw of keywords in the interval: a small world where validation questions matter and words do not."""

import numpy as np
import pandas as pd
import pytest
import world

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.profiling import skills
from skillmoe_lib.routing.skill_router import SkillRouter
from skillmoe_lib.studies import keyword_variance as study


@pytest.fixture(autouse=True)
def no_encoder(monkeypatch):
    """Words of equal length are near each other."""
    monkeypatch.setattr(skills, "load_encoder", lambda: None)
    monkeypatch.setattr(
        skills, "embed", lambda texts, encoder=None: np.array([[len(t), 1.0] for t in texts], np.float32)
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skills, "load_encoder", lambda: None)
        patch.setattr(skills, "embed", lambda texts, encoder=None: np.ones((len(texts), 1), np.float32))
        session = world.session_at(tmp_path_factory.mktemp("store"))
        return session, world.Flow(session)


def varied(ran, **options):
    session, flow = ran
    passes = study.stored_passes(session, world.QUESTIONS)
    return study.keyword_variance(
        session, world.QUESTIONS, passes, flow.scores, flow.routes, flow.choice, SkillRouter(k=3), **options
    )


def test_both_intervals_from_what_is_stored(ran):
    session, flow = ran
    n_before = len(session.engine.requests)
    table = varied(ran, n_draws=30).set_index(["method", "resampled"])
    assert len(session.engine.requests) == n_before
    observed = flow.done.results.groupby("method")["correct"].mean()
    for method in ("majority_vote", "symbolic_moe"):
        alone, both = table.loc[method, study.QUESTIONS_ONLY], table.loc[method, study.ALL]
        assert alone["accuracy"] == both["accuracy"] == observed[method]
        assert alone["low"] <= alone["accuracy"] <= alone["high"]
        assert both["low"] <= both["accuracy"] <= both["high"]
        assert (alone["sd_draw"], alone["n_questions"]) == (0, 8)
        assert 0 <= both["stand_ins"] <= 1 and 0 <= both["reused"] <= 1
    # Resampled validation questions make other profiles: some draws recruit others.
    assert table.loc[("majority_vote", study.ALL), "sd_draw"] > 0
    assert table.loc[("majority_vote", study.ALL), "stand_ins"] == 0


def test_the_seed_decides(ran):
    pd.testing.assert_frame_equal(varied(ran, n_draws=5), varied(ran, n_draws=5))


def test_passes_as_they_were_named(ran):
    passes = study.stored_passes(ran[0], world.QUESTIONS)
    assert passes["t-sums-0"] == [["sums", "reading"]] * 5
    with pytest.raises(SkillmoeError, match="no keyword pass of 16 question"):
        study.stored_passes(ran[0]._replace(store=GenerationStore("nowhere")), world.QUESTIONS)
