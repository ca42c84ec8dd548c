//! Every way in which a scan's pod can end, made to happen on a real cluster. The names of the
//! tests say how. All scans run at the same time, once for all tests, with an image that ends as
//! it is told (`hack/images.d/actor`); where a hand is needed — a pod deleted, an account taken
//! away between two steps — it is [`meddle`]'s.

#[path = "ends_meddle.rs"]
mod meddle;
#[path = "ends_stage.rs"]
mod stage;

use self::stage::{End, end_of};

/// The scan of this name, and that it ended so. That it holds nothing any more and left no pod,
/// whatever it ended of, the stage has waited for.
fn ended(name: &str, state: &str, reason: &str) -> &'static End {
    let end = end_of(name);
    assert_eq!(
        (&*end.state, &*end.reason),
        (state, reason),
        "{name}: {}",
        end.status
    );
    end
}

macro_rules! ends {
    ($($test:ident: $scan:literal $state:literal $reason:literal, $words:literal;)*) => {$(
        #[test]
        fn $test() {
            let end = ended($scan, $state, $reason);
            assert!(end.message.contains($words), "{}", end.message);
        }
    )*};
}

ends! {
    prowler_exits_0_with_a_file: "ok" "completed" "Completed", "";
    prowler_exits_0_without_a_file: "no-file" "failed" "NoOutput", "the file is empty";
    prowler_exits_0_in_the_middle_of_its_file: "truncated" "failed" "OutputTruncated", "without its closing bracket";
    prowler_writes_something_else_than_findings: "unreadable" "failed" "OutputUnreadable", "no JSON array";
    prowler_writes_findings_of_another_account: "other-account" "failed" "WrongAccount", "999999999999";
    prowler_exits_1: "exit-1" "failed" "ScanFailed", "exit code 1";
    prowler_exits_1_speaking_of_its_keys: "refused-keys" "failed" "AuthenticationFailed", "InvalidClientTokenId";
    prowler_exits_2: "exit-2" "failed" "ScanArgumentsInvalid", "did not accept its arguments";
    prowler_exits_3: "exit-3" "failed" "ScanFailed", "exit code 3";
    prowler_exits_42: "exit-42" "failed" "ScanFailed", "exit code 42";
    prowler_grows_beyond_its_memory: "oom" "failed" "OOMKilled", "It had 64Mi";
    a_child_of_prowler_grows_beyond_its_memory: "oom-child" "failed" "OOMKilled", "It had 64Mi";
    the_upload_container_runs_out_of_memory_by_its_cgroup: "ok-upload-oom" "failed" "UploadFailed", "more memory than its limit";
    the_deadline_passes_while_prowler_runs: "sleep-deadline" "failed" "DeadlineExceeded", "longer than its deadline";
    the_deadline_passes_while_no_server_is_there: "ok-no-server" "failed" "UploadFailed", "could not be sent";
    the_image_is_of_a_registry_that_is_not_there: "ok-no-image" "failed" "ImagePullFailed", "registry.invalid/prowler:1";
    no_node_has_so_many_processors: "ok-too-large" "failed" "Unschedulable", "Insufficient cpu";
    prowler_fills_its_disk_and_is_evicted_by_the_kubelet: "fill" "failed" "Evicted", "ephemeral";
    the_pod_is_evicted_as_kubectl_drain_does: "wait-drained" "failed" "Evicted", "drained";
    the_pod_is_preempted_by_one_that_must_not_run_beside_it: "wait-preempted" "failed" "Preempted", "more important";
    the_job_is_deleted_by_hand: "wait-job-deleted" "failed" "PodLost", "Job was deleted";
    the_pod_is_deleted_by_hand: "wait-pod-deleted" "failed" "PodLost", "deleted";
    a_second_pod_is_put_into_the_job_by_hand: "wait-second-pod" "failed" "PodLost", "";
    a_resource_quota_refuses_the_pod: "ok-quota" "failed" "PodRefused", "exceeded quota";
    a_limit_range_refuses_the_pod: "ok-range" "failed" "PodRefused", "maximum memory usage";
    an_admission_policy_refuses_the_pod: "ok-admission" "failed" "PodRefused", "no pods today";
    pod_security_refuses_a_pod_that_a_mutating_policy_put_on_the_host_s_network: "ok-psa" "failed" "PodRefused", "violates PodSecurity";
    the_service_account_goes_between_the_job_and_its_pod: "ok-no-account" "failed" "ServiceAccountNotFound", "not found";
    the_secret_of_variables_goes_between_the_job_and_its_pod: "ok-no-variables" "failed" "SecretNotFound", "not found";
    the_secret_of_files_goes_between_the_job_and_its_pod: "ok-no-files" "failed" "SecretNotFound", "not found";
    a_scan_that_hears_the_signal_is_cancelled: "wait-cancelled" "cancelled" "Cancelled", "Cancelled by its spec";
    a_scan_that_hears_no_signal_is_cancelled: "sleep-cancelled" "cancelled" "Cancelled", "Cancelled by its spec";
}

#[test]
fn a_cancelled_scan_says_so_at_once_and_is_free_when_its_grace_is_over() {
    for (name, grace) in [("wait-cancelled", 0), ("sleep-cancelled", 30)] {
        let end = end_of(name);
        let (told, free) = (end.told_after.unwrap(), end.free_after.unwrap());
        eprintln!("{name}: cancelled after {told:.1} s, free after {free:.1} s (grace {grace} s)");
        // One look may find both.
        assert!(told <= free);
        assert!(free >= f64::from(grace));
    }
}
