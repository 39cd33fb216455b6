"""Every fault that is promised to be survived: its injection point, and the tests that play it.

After every fault: no finished result is lost, no run is trained twice, a sentence says what
happened, and after the next start the results are bit for bit those of an undisturbed sweep on the
CPU.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROCESSES = "tests/faults/test_processes.py"
RUNS = "tests/faults/test_runs.py"
FILES = "tests/faults/test_store_files.py"
LAUNCH = "tests/sweeps/launch/test_launch.py"
DRIVER = "tests/sweeps/launch/test_driver.py"
WORKER = "tests/sweeps/launch/test_worker.py"
OBJECTS = "tests/store/test_object_storage.py"
CLUSTER = "tests/sweeps/launch/test_cluster.py"
PREFLIGHT = "tests/sweeps/launch/test_preflight.py"
JOURNAL = "tests/sweeps/status/test_journal.py"
LEASE = "tests/store/test_lease.py"
TRAINING = "tests/training/test_training_resume.py"


@dataclass(frozen=True)
class Row:
    """One kind of fault."""

    injection: str
    """Where and when the fault comes."""
    fast: tuple[str, ...]
    """Tests that run always, as FILE::FUNCTION."""
    full: tuple[str, ...] = ()
    """Tests of `make slow` that play it with Ray and in full."""


ROWS: dict[str, Row] = {
    "driver killed": Row(
        "SIGKILL to the driver, once or 20 times, after so many epochs or while Ray starts",
        (
            f"{PROCESSES}::test_killed_and_stopped_sweep_ends_with_the_same_results",
            f"{TRAINING}::test_killed_process_resumes",
        ),
        (
            f"{PROCESSES}::test_sweep_killed_20_times_ends_with_the_same_results",
            f"{PROCESSES}::test_nothing_of_ray_outlives_a_killed_driver",
        ),
    ),
    "stop signals": Row(
        "SIGINT, SIGTERM or SIGUSR1 to the driver after an epoch chosen by a seed",
        (
            f"{RUNS}::test_signal_between_epochs_stops_and_the_next_start_resumes",
            f"{DRIVER}::test_first_signal_ends_the_round_and_a_second_insists",
            f"{PROCESSES}::test_killed_and_stopped_sweep_ends_with_the_same_results",
        ),
        (f"{PROCESSES}::test_sweep_stopped_by_a_signal_ends_with_the_same_results",),
    ),
    "stop signal to the whole group": Row(
        "SIGTERM or SIGUSR1 to the driver's process group after an epoch chosen by a seed",
        (f"{PROCESSES}::test_killed_and_stopped_sweep_ends_with_the_same_results",),
        (f"{PROCESSES}::test_signal_to_the_whole_process_group_leaves_runs_resumable",),
    ),
    "exception in a run": Row(
        "RuntimeError out of the training after an epoch chosen by a seed",
        (
            f"{RUNS}::test_run_that_raised_is_tried_again_from_its_checkpoint",
            f"{LAUNCH}::test_processes_are_reused_and_failures_treated_by_their_kind",
        ),
    ),
    "run process killed": Row(
        "SIGKILL to a process of Ray that trains, after so many epochs by a seed",
        (f"{LAUNCH}::test_processes_are_reused_and_failures_treated_by_their_kind",),
        (f"{PROCESSES}::test_run_whose_process_is_killed_is_tried_again",),
    ),
    "raylet lost": Row(
        "SIGKILL to the raylet of a local Ray after five epochs",
        (f"{DRIVER}::test_after_a_crash_suspects_run_singly_and_nothing_is_lost",),
        (f"{LAUNCH}::test_sweep_whose_raylet_is_killed_ends_with_the_same_results",),
    ),
    "node lost": Row(
        "a raylet of a cluster of two killed after an epoch, another joining",
        (f"{DRIVER}::test_run_lost_with_its_node_is_requeued_so_many_times",),
        (f"{CLUSTER}::test_lost_node_costs_at_most_one_epoch",),
    ),
    "node incompatible": Row(
        "a node joins after the look at the cluster, with other versions or another store",
        (
            f"{DRIVER}::test_later_rounds_leave_an_incompatible_node_out",
            f"{DRIVER}::test_launch_ends_if_every_node_is_incompatible",
            f"{WORKER}::test_node_that_lacks_something_reports_it_and_trains_nothing",
            f"{PREFLIGHT}::test_answers_of_nodes_are_compared_and_the_node_named",
        ),
        (
            f"{CLUSTER}::test_runs_of_an_incompatible_node_are_trained_elsewhere",
            f"{CLUSTER}::test_sweep_without_a_compatible_node_ends_in_a_sentence",
        ),
    ),
    "object storage refuses": Row(
        "no credentials, wrong ones, or a prefix that holds other things, on a server of loopback",
        (
            f"{OBJECTS}::test_refused_credentials_are_one_sentence",
            f"{OBJECTS}::test_prefix_with_other_things_is_refused",
        ),
    ),
    "object storage is slow": Row(
        "a proxy that holds every answer back",
        (f"{OBJECTS}::test_slow_connection_is_waited_for",),
    ),
    "object storage drops connections": Row(
        "a proxy that cuts connections for good, in the middle of a PUT, or during an epoch",
        (
            f"{OBJECTS}::test_lost_connection_is_one_sentence_after_several_tries",
            f"{OBJECTS}::test_half_an_object_is_never_seen",
            f"{OBJECTS}::test_cut_off_run_resumes_from_its_last_whole_checkpoint",
        ),
    ),
    "memory monitor": Row(
        "a run's process takes 8 GB under a monitor that allows 5; or fit() raises what it raises",
        (f"{DRIVER}::test_run_that_crashes_three_rounds_is_given_up",),
        (
            f"{LAUNCH}::test_crash_of_fit_under_real_workers_loses_nothing",
            f"{PROCESSES}::test_run_killed_by_the_memory_monitor_is_trained_again",
        ),
    ),
    "disk full": Row(
        "a tmpfs of 32 MB under the store filled to the last byte after an epoch by a seed",
        (
            f"{RUNS}::test_full_disk_is_a_sentence_and_room_lets_the_sweep_resume",
            f"{DRIVER}::test_errors_of_the_disk_end_the_launch",
        ),
        (f"{PROCESSES}::test_full_disk_under_ray_is_a_sentence_and_the_sweep_resumes",),
    ),
    "store file damaged": Row(
        "each kind of file truncated, emptied, or as of a newer schema between two starts",
        (
            f"{FILES}::test_files_that_can_be_written_again_are",
            f"{FILES}::test_damaged_file_is_named_with_a_remedy_that_helps",
            f"{FILES}::test_file_of_a_newer_release_is_refused_and_left",
            f"{FILES}::test_damage_beside_a_result_is_named_by_its_reader",
            f"{JOURNAL}::test_event_after_a_torn_line_is_whole",
            f"{LEASE}::test_damaged_lease_is_replaced_where_a_lock_decides",
            f"{LEASE}::test_damaged_lease_is_refused_where_no_lock_decides",
            f"{LEASE}::test_newer_lease_is_refused_and_left",
        ),
    ),
    "checkpoint torn": Row(
        "latest.pt of an unfinished run cut in half or emptied between two starts",
        (
            f"{FILES}::test_damaged_file_is_named_with_a_remedy_that_helps",
            f"{TRAINING}::test_damaged_checkpoint_is_one_sentence",
        ),
    ),
    "two drivers": Row(
        "the same command again while it runs (refused); under another name (shares the runs)",
        (
            f"{PROCESSES}::test_killed_and_stopped_sweep_ends_with_the_same_results",
            f"{JOURNAL}::test_second_driver_is_refused_until_the_first_is_gone",
            f"{DRIVER}::test_runs_of_another_process_are_waited_for",
        ),
        (f"{PROCESSES}::test_two_drivers_on_one_store_share_its_runs",),
    ),
    "loss NaN": Row(
        "a task's loss times NaN in the second step of a run",
        (f"{RUNS}::test_nan_loss_fails_its_run_alone_and_can_be_retried",),
    ),
    "clock set back": Row(
        "time.time and the journal's clock a day back after an epoch, files from tomorrow",
        (f"{RUNS}::test_clock_set_back_changes_nothing",),
    ),
    "plan edited": Row(
        "fewer runs, then more, asked for under one name; plan.json edited by hand",
        (f"{RUNS}::test_edited_plan_trains_what_is_new_and_nothing_twice",),
    ),
    "worker outlives its driver": Row(
        "SIGSTOP to a run's process, SIGKILL to its driver, a new start, SIGCONT",
        (f"{DRIVER}::test_waiting_names_the_other_process_and_heeds_signals",),
        (f"{PROCESSES}::test_worker_that_outlives_its_driver_is_waited_for",),
    ),
}


PROMISED = {
    "driver killed", "stop signals", "stop signal to the whole group", "exception in a run",
    "run process killed", "raylet lost", "node lost", "node incompatible", "memory monitor",
    "disk full", "store file damaged", "checkpoint torn", "two drivers", "loss NaN",
    "clock set back", "plan edited", "worker outlives its driver", "object storage refuses",
    "object storage is slow", "object storage drops connections",
}  # fmt: skip
"""A row leaves the table only with its subject."""


def functions(file: str) -> dict[str, str]:
    """Return name -> decorators, as written, of a file's functions."""
    tree = ast.parse((ROOT / file).read_text())
    return {
        node.name: " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def test_every_promised_fault_has_a_row() -> None:
    assert ROWS.keys() >= PROMISED


@pytest.mark.parametrize("fault", ROWS)
def test_tests_of_a_fault_exist_and_are_slow_where_it_says(fault: str) -> None:
    row = ROWS[fault]
    assert row.injection
    assert row.fast, "no test of the fault runs always"
    for test in (*row.fast, *row.full):
        file, name = test.split("::")
        assert name in functions(file), f"{test} does not exist"
        decorators = functions(file)[name]
        wholly_slow = decorators.startswith("pytest.mark.slow")
        assert wholly_slow <= (test in row.full), f"{test} is slow"
        assert ("slow" in decorators) >= (test in row.full), f"{test} is not slow"
