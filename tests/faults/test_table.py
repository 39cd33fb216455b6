"""Every fault that is promised to be survived, and the tests that play it.

After every fault: no finished result is lost, no run is trained twice, a sentence says what
happened, and after the next start the results are bit for bit those of an undisturbed sweep on the
CPU. The sweeps train a network from outside, so that all of it holds for plugins too.
"""

import ast
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
CHECKPOINT = "tests/training/test_checkpoint.py"

FAULTS: dict[str, dict[str, list[str]]] = {
    # SIGKILL to the driver, once or 20 times, after so many epochs or while Ray starts.
    "driver killed": {
        PROCESSES: [
            "test_killed_and_stopped_sweep_ends_with_the_same_results",
            "test_sweep_killed_20_times_ends_with_the_same_results",
            "test_nothing_of_ray_outlives_a_killed_driver",
        ],
        TRAINING: ["test_killed_process_resumes"],
        CHECKPOINT: [
            "test_epochs_recorded_after_the_checkpoint_are_trained_again_and_recorded_once"
        ],
    },
    # SIGINT, SIGTERM or SIGUSR1 to the driver after an epoch chosen by a seed.
    "stop signals": {
        RUNS: ["test_signal_between_epochs_stops_and_the_next_start_resumes"],
        DRIVER: ["test_first_signal_ends_the_round_and_a_second_insists"],
        PROCESSES: [
            "test_killed_and_stopped_sweep_ends_with_the_same_results",
            "test_sweep_stopped_by_a_signal_ends_with_the_same_results",
        ],
    },
    # SIGTERM or SIGUSR1 to the driver's process group after an epoch chosen by a seed.
    "stop signal to the whole group": {
        PROCESSES: [
            "test_killed_and_stopped_sweep_ends_with_the_same_results",
            "test_signal_to_the_whole_process_group_leaves_runs_resumable",
        ],
    },
    # RuntimeError out of the training after an epoch chosen by a seed.
    "exception in a run": {
        RUNS: ["test_run_that_raised_is_tried_again_from_its_checkpoint"],
        LAUNCH: ["test_processes_are_reused_and_failures_treated_by_their_kind"],
    },
    # SIGKILL to a process of Ray that trains, after so many epochs by a seed.
    "run process killed": {
        LAUNCH: ["test_processes_are_reused_and_failures_treated_by_their_kind"],
        PROCESSES: ["test_run_whose_process_is_killed_is_tried_again"],
    },
    # SIGKILL to the raylet of a local Ray after five epochs.
    "raylet lost": {
        DRIVER: ["test_after_a_crash_suspects_run_singly_and_nothing_is_lost"],
        PROCESSES: ["test_sweep_whose_raylet_is_killed_ends_with_the_same_results"],
    },
    # A raylet of a cluster of two killed after an epoch, another joining.
    "node lost": {
        DRIVER: ["test_run_lost_with_its_node_is_requeued_so_many_times"],
        CLUSTER: ["test_lost_node_costs_at_most_one_epoch"],
    },
    # A node joins after the look at the cluster, with other versions or another store.
    "node incompatible": {
        DRIVER: [
            "test_later_rounds_leave_an_incompatible_node_out",
            "test_launch_ends_if_every_node_is_incompatible",
        ],
        WORKER: ["test_node_that_lacks_something_reports_it_and_trains_nothing"],
        PREFLIGHT: ["test_answers_of_nodes_are_compared_and_the_node_named"],
        CLUSTER: [
            "test_runs_of_an_incompatible_node_are_trained_elsewhere",
            "test_sweep_without_a_compatible_node_ends_in_a_sentence",
        ],
    },
    # No credentials, wrong ones, or a prefix that holds other things, on a server of loopback.
    "object storage refuses": {
        OBJECTS: [
            "test_refused_credentials_are_one_sentence",
            "test_prefix_with_other_things_is_refused",
        ],
    },
    # A proxy that holds every answer back.
    "object storage is slow": {
        OBJECTS: ["test_slow_connection_is_waited_for"],
    },
    # A proxy that cuts connections for good, in the middle of a PUT, or during an epoch.
    "object storage drops connections": {
        OBJECTS: [
            "test_lost_connection_is_one_sentence_after_several_tries",
            "test_half_an_object_is_never_seen",
            "test_cut_off_run_resumes_from_its_last_whole_checkpoint",
        ],
    },
    # A run's process takes 8 GB under a monitor that allows 5; or fit() raises what it raises.
    "memory monitor": {
        DRIVER: ["test_run_that_crashes_three_rounds_is_given_up"],
        LAUNCH: ["test_crash_of_fit_under_real_workers_loses_nothing"],
        PROCESSES: ["test_run_killed_by_the_memory_monitor_is_trained_again"],
    },
    # A tmpfs of 32 MB under the store filled to the last byte after an epoch by a seed.
    "disk full": {
        CHECKPOINT: ["test_error_of_the_thread_is_the_run_s_error"],
        RUNS: ["test_full_disk_is_a_sentence_and_room_lets_the_sweep_resume"],
        DRIVER: ["test_errors_of_the_disk_end_the_launch"],
        PROCESSES: ["test_full_disk_under_ray_is_a_sentence_and_the_sweep_resumes"],
    },
    # Each kind of file truncated, emptied, or as of a newer schema between two starts.
    "store file damaged": {
        FILES: [
            "test_files_that_can_be_written_again_are",
            "test_damaged_file_is_named_with_a_remedy_that_helps",
            "test_file_of_a_newer_release_is_refused_and_left",
            "test_damage_beside_a_result_is_named_by_its_reader",
        ],
        JOURNAL: ["test_event_after_a_torn_line_is_whole"],
        LEASE: [
            "test_damaged_lease_is_replaced_only_where_a_lock_decides",
            "test_newer_lease_is_refused_and_left",
        ],
    },
    # Latest.pt of an unfinished run cut in half or emptied between two starts.
    "checkpoint torn": {
        FILES: ["test_damaged_file_is_named_with_a_remedy_that_helps"],
        TRAINING: ["test_damaged_checkpoint_is_one_sentence"],
    },
    # The same command again while it runs (refused); under another name (shares the runs).
    "two drivers": {
        PROCESSES: [
            "test_killed_and_stopped_sweep_ends_with_the_same_results",
            "test_two_drivers_on_one_store_share_its_runs",
        ],
        JOURNAL: ["test_second_driver_is_refused_until_the_first_is_gone"],
        DRIVER: ["test_runs_of_another_process_are_waited_for"],
    },
    # A task's loss times NaN in the second step of a run.
    "loss NaN": {
        RUNS: ["test_nan_loss_fails_its_run_alone_and_can_be_retried"],
    },
    # Time.time and the journal's clock a day back after an epoch, files from tomorrow.
    "clock set back": {
        RUNS: ["test_clock_set_back_changes_nothing"],
    },
    # Fewer runs, then more, asked for under one name; plan.json edited by hand.
    "plan edited": {
        RUNS: ["test_edited_plan_trains_what_is_new_and_nothing_twice"],
    },
    # SIGSTOP to `python -m mtl.training` in the middle of a run, a sweep, SIGCONT. (A run's process
    # that is stopped dies with its driver: the kernel ends a stopped process without a session.)
    "run held by another process": {
        DRIVER: ["test_waiting_names_the_other_process_and_heeds_signals"],
        PROCESSES: ["test_run_that_another_process_trains_is_waited_for"],
    },
}
"""Fault -> file -> tests; a fault leaves the table only with its subject."""


def functions(file: str) -> dict[str, str]:
    """Return name -> decorators, as written, of a file's functions."""
    tree = ast.parse((ROOT / file).read_text())
    return {
        node.name: " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_has_a_test_that_always_runs(fault):
    decorators = []
    for file, names in FAULTS[fault].items():
        present = functions(file)
        assert present.keys() >= set(names)
        decorators += [present[name] for name in names]
    assert not all(text.startswith("pytest.mark.slow") for text in decorators)
