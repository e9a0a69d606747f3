"""The benchmark of faults with a stand-in for vLLM: a kernel that is killed, then the same command again."""

from benchmarks import faults


def test_a_killed_kernel_loses_nothing_and_makes_nothing_twice():
    (fault,) = [fault for fault in faults.FAULTS if fault.name == "the kernel is killed"]
    told = faults.inject(fault, engine="stand-in", n_questions=20)
    assert "the kernel died" in told.line
    assert (told.lost, told.made_twice, told.missing) == (0, 0, 0)


def test_there_are_twenty_faults_and_each_has_a_name_of_its_own():
    assert len({fault.name for fault in faults.FAULTS}) == len(faults.FAULTS) >= 20


def test_a_run_killed_at_random_ends_with_the_tables_of_one_that_nobody_disturbed():
    told = faults.kill_at_random(2, engine="stand-in", n_questions=15)
    assert sum(told.kills.values()) == 2
    assert (told.n_rows, told.n_differ) == (30, 0)
    # The three that a step has just finished are not on disk yet if the kill falls before the next lines.
    assert told.lost == told.made_twice <= 3 * 2
