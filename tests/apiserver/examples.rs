//! The examples of provider types: whoever applies one as it stands has a Provider that is Ready.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::PostParams;
use prowler_operator::api::Provider;
use prowler_operator::api::account::ProviderType;
use serde_json::Value;

use crate::support::command::documents;
use crate::support::credentials;
use crate::support::operator::{Operator, Placed as _};

/// Puts keys and certificates where the example says "your key".
fn fill_in(secret: &mut Secret) {
    const HELD: [&str; 6] = [
        "service_account_key",
        "credentials_content",
        "github_app_key_content",
        "okta_private_key",
        "key_content",
        "certificate_content",
    ];
    for (key, value) in secret.string_data.iter_mut().flatten() {
        if HELD.contains(&&**key) {
            *value = credentials::value(key, "");
        }
        let authority = STANDARD.encode(credentials::certificate(30));
        *value = value.replace("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==", &authority);
    }
}

#[tokio::test]
async fn every_example_of_a_provider_type_becomes_ready() {
    let operator = Operator::new().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/providers");
    let mut types = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        // A tenant each: two examples may be of one account.
        let world = operator.tenant().await;
        for object in documents(&std::fs::read_to_string(&file).unwrap()) {
            match object["kind"].as_str().unwrap() {
                "Secret" => {
                    let mut secret: Secret = serde_json::from_value(object).unwrap();
                    fill_in(&mut secret);
                    Secret::typed(&operator.client, &world.namespace)
                        .create(&PostParams::default(), &secret)
                        .await
                        .unwrap();
                }
                "ServiceAccount" => {
                    let account: ServiceAccount = serde_json::from_value(object).unwrap();
                    ServiceAccount::typed(&operator.client, &world.namespace)
                        .create(&PostParams::default(), &account)
                        .await
                        .unwrap();
                }
                "Provider" => {
                    let name = object["metadata"]["name"].as_str().unwrap();
                    let spec: Value = object["spec"].clone();
                    types.insert(spec["provider"].as_str().unwrap().to_owned());
                    let says = operator
                        .becomes::<Provider>(&world.namespace, name, spec)
                        .await;
                    let why = operator.message::<Provider>(&world.namespace, name).await;
                    assert_eq!(says, "Current Succeeded", "{}: {why}", file.display());
                }
                // Rights that the cluster's administrator grants.
                "ClusterRole" | "ClusterRoleBinding" => {}
                other => panic!("{other}"),
            }
        }
    }
    let all: BTreeSet<_> = ProviderType::ALL
        .iter()
        .map(|provider| provider.as_str().to_owned())
        .collect();
    assert_eq!(types, all);
}
