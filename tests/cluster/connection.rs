//! Connection checks for real: Prowler's own library in the scanner's image for every way into
//! every type, and the whole way over Jobs on the cluster.

use std::sync::{Arc, Mutex};

use prowler_operator::api::account::ProviderType;
use prowler_operator::dispatch::check::{SCRIPT, Verdict};
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::domain::credentials::ways;
use prowler_operator::domain::reason::Reason;
use serde_json::{Value, json};

use crate::demo::{Demo, OTHER, await_tenant, other_tenant, remove_other, wait_for};
use crate::scanner::root;
use crate::support::command::{command, succeed};
use crate::support::credentials::{pfx, value};

/// What the check says in the image, as the user that pods run as and without a network.
fn check(kind: ProviderType, keys: &std::path::Path) -> String {
    succeed(command("chmod", &["-R", "a+rX", keys.to_str().unwrap()]));
    let root = root().to_str().unwrap();
    let script = "mkdir -p \"$1/credentials\" && mount --bind \"$2\" \"$1/credentials\"\n\
         told=$(mktemp -p \"$1/tmp\"); chmod 666 \"$told\"\n\
         chroot --userspec=1000:1000 \"$1\" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp \
         PYTHONPATH=/opt/prowler PYTHONDONTWRITEBYTECODE=1 AWS_EC2_METADATA_DISABLED=true \
         PROWLER_OPERATOR_PROVIDER=\"$3\" PROWLER_OPERATOR_UID=\"$4\" PROWLER_OPERATOR_KEYS=/credentials \
         PROWLER_OPERATOR_SECONDS=20 PROWLER_OPERATOR_TOLD=\"/tmp/$(basename \"$told\")\" python3 -c \"$5\" >/dev/null 2>&1 || true\n\
         cat \"$told\"; rm \"$told\"";
    succeed(command(
        "unshare",
        &[
            "--mount",
            "--net",
            "sh",
            "-ec",
            script,
            "sh",
            root,
            keys.to_str().unwrap(),
            kind.as_str(),
            kind.uid_rule().example,
            SCRIPT,
        ],
    ))
}

#[test]
fn whatever_opens_nothing_is_answered_by_a_reason_and_never_by_a_traceback() {
    root();
    let work: Vec<_> = ProviderType::ALL
        .into_iter()
        .flat_map(|kind| ways(kind).into_iter().map(move |way| (kind, way)))
        .collect();
    let (work, faults) = (Arc::new(Mutex::new(work)), Mutex::new(Vec::new()));
    let next = || work.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((kind, way)) = next() {
                    let keys = tempfile::tempdir().unwrap();
                    for key in &way.access.keys {
                        let value = value(key, kind.uid_rule().example);
                        std::fs::write(keys.path().join(key), value).unwrap();
                    }
                    let line = check(kind, keys.path());
                    let told: Value = serde_json::from_str(&line).unwrap_or_default();
                    let error = told["error"].as_str().unwrap_or("no answer");
                    let verdict = Verdict::of(&line);
                    println!(
                        "{kind} {}: {} {}",
                        way.name, verdict.reason, verdict.message
                    );
                    // These would be mistakes of the check, not refusals.
                    let ours = [
                        "no answer",
                        "TypeError",
                        "KeyError",
                        "AttributeError",
                        "NameError",
                        "ImportError",
                        "ModuleNotFoundError",
                        "UnboundLocalError",
                        "FileNotFoundError",
                    ];
                    let classified = [
                        Reason::AuthenticationFailed,
                        Reason::ConnectionFailed,
                        Reason::WrongAccount,
                    ];
                    let bad = ours.contains(&error)
                        || !classified.contains(&verdict.reason)
                        || verdict.message.contains("Traceback")
                        || way
                            .access
                            .keys
                            .iter()
                            .any(|key| verdict.message.contains(&format!("nothing-{key}")));
                    // A public image or repository needs no credentials, only a way to it.
                    if bad || verdict.connected != Some(false) {
                        faults
                            .lock()
                            .unwrap()
                            .push(format!("{kind} {}: {line}", way.name));
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_end_of_a_certificate_that_only_its_opener_sees_is_told() {
    root();
    let keys = tempfile::tempdir().unwrap();
    for (key, value) in [
        (
            "client_id",
            "3f2504e0-4f89-41d3-9a0c-0305e82c3301".to_owned(),
        ),
        (
            "tenant_id",
            "3f2504e0-4f89-41d3-9a0c-0305e82c3301".to_owned(),
        ),
        ("certificate_content", pfx(90)),
    ] {
        std::fs::write(keys.path().join(key), value).unwrap();
    }
    let verdict = Verdict::of(&check(ProviderType::M365, keys.path()));
    assert_eq!(verdict.connected, Some(false), "{verdict:?}");
    let left = verdict.expires.unwrap().duration_since(SystemClock.now());
    assert!((89..=90).contains(&(left.as_hours() / 24)), "{verdict:?}");
}

/// One account that can be reached, one that is somebody else's, and one that lets nobody in.
fn accounts() -> String {
    let provider = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: prowler-operator.dev/v1alpha1\nkind: Provider\n\
             metadata: {{name: {name}, namespace: {OTHER}}}\nspec: {spec}\n"
        )
    };
    let keys = "credentials: {type: static, secretRef: {name: keys}}";
    format!(
        "apiVersion: v1\nkind: Secret\n\
         metadata: {{name: keys, namespace: {OTHER}, labels: {{prowler-operator.dev/credentials: \"true\"}}}}\n\
         stringData: {{aws_access_key_id: other, aws_secret_access_key: other}}\n\
         ---\napiVersion: v1\nkind: ServiceAccount\n\
         metadata: {{name: nobody, namespace: {OTHER}, annotations: {{prowler-operator.dev/scanner: \"true\"}}}}\n\
         {}{}{}",
        provider(
            "ours",
            &format!("{{provider: aws, uid: \"123456789012\", {keys}}}")
        ),
        provider(
            "theirs",
            &format!("{{provider: aws, uid: \"210987654321\", {keys}}}")
        ),
        provider(
            "closed",
            "{provider: kubernetes, uid: closed, credentials: {serviceAccountName: nobody}}"
        ),
    )
}

/// The emulator as long as it looks at keys as AWS does; by itself it takes any.
struct Guarded<'a>(&'a Demo);

impl<'a> Guarded<'a> {
    /// Keys of a user of its account, made before the door closes.
    fn new(demo: &'a Demo) -> (Self, [String; 2]) {
        let made = Self(demo).run(
            "import boto3, json\n\
             iam = boto3.client('iam', region_name='us-east-1', endpoint_url='http://127.0.0.1:5000',\n\
                                aws_access_key_id='demo', aws_secret_access_key='demo')\n\
             key = iam.create_access_key(UserName='bob')['AccessKey']\n\
             print(json.dumps([key['AccessKeyId'], key['SecretAccessKey']]))",
        );
        let guarded = Self(demo);
        guarded.look_at_keys_after("0");
        (guarded, serde_json::from_str(&made).unwrap())
    }

    fn look_at_keys_after(&self, requests: &str) {
        self.run(&format!(
            "import urllib.request as r\n\
             r.urlopen(r.Request('http://127.0.0.1:5000/moto-api/reset-auth', data=b'{requests}', method='POST', headers={{'Content-Type': 'text/plain'}}))"
        ));
    }

    fn run(&self, python: &str) -> String {
        let pod = [
            "exec",
            "--namespace",
            "prowler-demo-aws",
            "deployment/emulator",
            "--",
        ];
        let command = ["python3", "-c", python];
        self.0.kubectl(&[&pod[..], &command].concat())
    }
}

impl Drop for Guarded<'_> {
    fn drop(&mut self) {
        self.look_at_keys_after("inf");
    }
}

/// State and reason of the connection once a check has ended after `since`.
fn connected(demo: &Demo, name: &str, than: &str) -> (String, String) {
    wait_for("the connection check", 180, || {
        let provider = demo.get(&["prowlerprovider", name, "--namespace", OTHER]);
        let conditions = provider["status"]["conditions"].as_array()?.clone();
        let found = conditions
            .into_iter()
            .find(|c| c["type"] == "Connected" && c["status"] != "Unknown")?;
        let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (word("reason") != than).then(|| (word("status"), word("reason")))
    })
}

#[test]
fn connections_are_checked_on_the_cluster_without_a_scan() {
    let demo = Demo::up();
    remove_other(&demo);
    demo.apply(&other_tenant());
    await_tenant(&demo);
    demo.apply(&accounts());
    for (name, state, reason) in [
        ("ours", "True", "Succeeded"),
        ("theirs", "False", "WrongAccount"),
        ("closed", "False", "AuthenticationFailed"),
    ] {
        let found = connected(&demo, name, "");
        assert_eq!(found, (state.to_owned(), reason.to_owned()), "{name}");
    }

    // Keys that AWS does not know, and then some that it does: each change is checked at once.
    let (guarded, right) = Guarded::new(&demo);
    let rotate = |id: &str, secret: &str| {
        let data =
            json!({ "stringData": { "aws_access_key_id": id, "aws_secret_access_key": secret } });
        let patch = data.to_string();
        demo.kubectl(&[
            "patch",
            "secret",
            "keys",
            "--namespace",
            OTHER,
            "--patch",
            &patch,
        ]);
    };
    rotate(
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    );
    let refused = connected(&demo, "ours", "Succeeded");
    assert_eq!(
        refused,
        ("False".to_owned(), "AuthenticationFailed".to_owned())
    );
    rotate(&right[0], &right[1]);
    let accepted = connected(&demo, "ours", "AuthenticationFailed");
    assert_eq!(accepted, ("True".to_owned(), "Succeeded".to_owned()));
    drop(guarded);

    let jobs = wait_for("the Jobs to be gone", 60, || {
        let jobs = demo.list(&["jobs", "--namespace", OTHER]);
        jobs.is_empty().then_some(jobs.len())
    });
    assert_eq!(jobs, 0);
    assert!(
        demo.list(&["prowlerscans", "--namespace", OTHER])
            .is_empty()
    );
    remove_other(&demo);
}
