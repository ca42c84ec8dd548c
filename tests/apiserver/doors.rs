//! What a tenant's user may point at, tried by one who may write Providers, schedules and scans in
//! one namespace and nothing else: the operator reads Secrets, runs as service accounts and pulls
//! images with its own rights, and lends them to nobody.

use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use prowler_operator::api::{Provider, Scan, ScanSchedule};
use serde_json::{Value, json};

use crate::support::operator::{ACCOUNT, Operator, Placed, World, aws};

/// A world with what others keep in it, and somebody who may only declare.
struct House {
    operator: Operator,
    world: World,
    ada: Client,
}

impl House {
    async fn new() -> Self {
        let operator = Operator::new().await;
        let limits = json!({ "scanMemory": "4Gi", "scanCPU": "2", "scanDeadlineSeconds": 7200 });
        let world = operator.tenant_with(json!({ "limits": limits })).await;
        let namespace = &world.namespace;
        operator.aws_secret(namespace, "keys").await;
        operator.service_account(namespace, "scanner", true).await;
        // Of somebody else, who did not mean them for scans.
        let keys = [("aws_access_key_id", "x"), ("aws_secret_access_key", "y")];
        operator.secret(namespace, "billing", false, &keys).await;
        operator.service_account(namespace, "deployer", false).await;
        let user = format!("ada-{namespace}");
        let role: Role = serde_json::from_value(json!({
            "metadata": { "name": "declares" },
            "rules": [{ "apiGroups": ["prowler-operator.dev"], "verbs": ["*"],
                        "resources": ["prowlerproviders", "scanschedules", "prowlerscans"] }],
        }))
        .unwrap();
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": { "name": "declares" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "declares" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        }))
        .unwrap();
        let params = PostParams::default();
        Api::namespaced(operator.client.clone(), namespace)
            .create(&params, &role)
            .await
            .unwrap();
        Api::namespaced(operator.client.clone(), namespace)
            .create(&params, &binding)
            .await
            .unwrap();
        let ada = operator.server.client_as(&user, &["system:authenticated"]);
        let house = Self {
            operator,
            world,
            ada,
        };
        house.may_declare().await;
        house
    }

    /// Waits until the authorizer knows of the role.
    async fn may_declare(&self) {
        let providers = Api::<Provider>::namespaced(self.ada.clone(), &self.world.namespace);
        while providers
            .list(&kube::api::ListParams::default())
            .await
            .is_err()
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// What `kubectl apply` by the user says, if it is refused.
    async fn applies<K: Placed + Clone + serde::de::DeserializeOwned + std::fmt::Debug>(
        &self,
        name: &str,
        spec: Value,
    ) -> Result<(), String> {
        let object = json!({ "apiVersion": K::api_version(&()), "kind": K::kind(&()),
                             "metadata": { "name": name }, "spec": spec });
        let mut params = PatchParams::apply("kubectl").force();
        params.field_validation = Some(kube::api::ValidationDirective::Strict);
        K::typed(&self.ada, &self.world.namespace)
            .patch(name, &params, &Patch::Apply(&object))
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// State and message of a Provider of the user.
    async fn provider(&self, name: &str, spec: Value) -> (String, String) {
        self.applies::<Provider>(name, spec).await.unwrap();
        let namespace = &self.world.namespace;
        let says = self.operator.now_says::<Provider>(namespace, name).await;
        (
            says,
            self.operator.message::<Provider>(namespace, name).await,
        )
    }
}

/// Everything behind a door, as the scan settings have it, with what is said of it.
fn wishes() -> [(Value, &'static str, &'static str); 4] {
    [
        (
            json!({ "image": "attacker.example/prowler:1" }),
            "Failed ImageNotAllowed",
            "none of those this installation allows (prowler:test, prowler:other, mirror.example/*); name one of them",
        ),
        (
            json!({ "resources": { "limits": { "memory": "15Gi" } } }),
            "Failed LimitExceeded",
            "is above the limit of a scan, 4Gi; lower it, or have spec.limits.scanMemory of the Tenant raised",
        ),
        (
            json!({ "resources": { "requests": { "cpu": "15" } } }),
            "Failed LimitExceeded",
            "lower it, or have spec.limits.scanCPU of the Tenant raised",
        ),
        (
            json!({ "activeDeadlineSeconds": 604_800 }),
            "Failed LimitExceeded",
            "lower it, or have spec.limits.scanDeadlineSeconds of the Tenant raised",
        ),
    ]
}

#[tokio::test]
async fn who_may_only_declare_opens_none_of_the_doors() {
    let house = House::new().await;
    let secret = |name: &str| aws(ACCOUNT, name);
    let account = json!({ "provider": "aws", "uid": ACCOUNT,
                          "credentials": { "serviceAccountName": "deployer" } });
    for (spec, says, cure) in [
        (
            secret("billing"),
            "Failed SecretNotAllowed",
            "give it the label prowler-operator.dev/credentials: \"true\"",
        ),
        (
            account,
            "Failed ServiceAccountNotAllowed",
            "give it the annotation prowler-operator.dev/scanner: \"true\"",
        ),
    ] {
        let (state, message) = house.provider("tried", spec.clone()).await;
        assert_eq!(state, says, "{message}");
        assert!(message.contains(cure), "{message}");
        assert_eq!(
            house.operator.count("providers").await,
            0,
            "nothing is stored"
        );
        // The same of a Provider that was sound before: what was stored stays, and nothing more.
        house.provider("sound", secret("keys")).await;
        let before = house
            .operator
            .sql("select credentials::text from providers")
            .await;
        let (state, _) = house.provider("sound", spec).await;
        assert_eq!(state, says);
        assert_eq!(
            house
                .operator
                .sql("select credentials::text from providers")
                .await,
            before
        );
        house
            .operator
            .deletes::<Provider>(&house.world.namespace, "sound")
            .await;
    }
    for (wish, says, cure) in wishes() {
        let mut spec = secret("keys");
        spec["scan"] = wish;
        let (state, message) = house.provider("tried", spec).await;
        assert_eq!(state, says, "{message}");
        assert!(message.contains(cure), "{message}");
        assert_eq!(house.operator.count("providers").await, 0);
    }
}

#[tokio::test]
async fn no_schedule_and_no_scan_is_a_way_around() {
    let house = House::new().await;
    let namespace = &house.world.namespace;
    house.provider("production", aws(ACCOUNT, "keys")).await;
    for (n, (wish, says, cure)) in wishes().into_iter().enumerate() {
        let name = format!("around-{n}");
        let schedule = json!({ "schedule": "*/5 * * * *", "scan": wish,
                               "providerRefs": [{ "name": "production" }] });
        house
            .applies::<ScanSchedule>(&name, schedule)
            .await
            .unwrap();
        let scan = json!({ "providerRef": { "name": "production" }, "scan": wish });
        house.applies::<Scan>(&name, scan).await.unwrap();
        let operator = &house.operator;
        for (state, message) in [
            (
                operator.now_says::<ScanSchedule>(namespace, &name).await,
                operator.message::<ScanSchedule>(namespace, &name).await,
            ),
            (
                operator.now_says::<Scan>(namespace, &name).await,
                operator.message::<Scan>(namespace, &name).await,
            ),
        ] {
            assert_eq!(state, says, "{message}");
            assert!(message.contains(cure), "{message}");
        }
    }
    house.operator.wait(120);
    for n in 0..4 {
        house
            .operator
            .now_says::<ScanSchedule>(namespace, &format!("around-{n}"))
            .await;
    }
    assert_eq!(house.operator.count("scans").await, 0);
    assert_eq!(house.operator.jobs(&house.world).await.len(), 0);
}

#[tokio::test]
async fn a_word_of_the_scope_that_looks_like_a_flag_is_refused_at_the_door() {
    let house = House::new().await;
    for field in [
        "services",
        "checks",
        "excludedChecks",
        "excludedServices",
        "compliances",
        "categories",
        "regions",
    ] {
        for word in [
            "--role",
            "-z",
            "$(AWS_SECRET_ACCESS_KEY)",
            "a b",
            "a\nb",
            "",
        ] {
            let mut spec = aws(ACCOUNT, "keys");
            spec["scan"] = json!({ field: [word] });
            let scan = spec["scan"].clone();
            let schedule = json!({ "schedule": "*/5 * * * *", "scan": scan,
                                   "providerRefs": [{ "name": "production" }] });
            let once = json!({ "providerRef": { "name": "production" }, "scan": scan });
            for refused in [
                house.applies::<Provider>("tried", spec).await,
                house.applies::<ScanSchedule>("tried", schedule).await,
                house.applies::<Scan>("tried", once).await,
            ] {
                let told = refused.expect_err(word);
                assert!(told.contains(&format!("spec.scan.{field}[0]")), "{told}");
            }
        }
    }
}

/// A reference has a name and nothing else: no other namespace, and no path to one.
#[tokio::test]
async fn nothing_of_another_namespace_can_be_named() {
    let house = House::new().await;
    let elsewhere = house.operator.server.namespace().await;
    house
        .operator
        .aws_secret(&elsewhere, "keys-of-others")
        .await;
    let mut with_namespace = aws(ACCOUNT, "keys-of-others");
    with_namespace["credentials"]["secretRef"]["namespace"] = json!(elsewhere);
    let told = house
        .applies::<Provider>("tried", with_namespace)
        .await
        .unwrap_err();
    assert!(told.contains("namespace"), "{told}");
    for path in [
        format!("{elsewhere}/keys-of-others"),
        format!("../{elsewhere}/keys-of-others"),
        format!("..%2f{elsewhere}"),
    ] {
        let told = house
            .applies::<Provider>("tried", aws(ACCOUNT, &path))
            .await
            .unwrap_err();
        assert!(told.contains("spec.credentials.secretRef.name"), "{told}");
    }
    let (state, message) = house
        .provider("tried", aws(ACCOUNT, "keys-of-others"))
        .await;
    assert_eq!(state, "InProgress SecretNotFound");
    assert!(!message.contains(&elsewhere), "{message}");
}

/// The doors are the owners' to open: none of them opens with the rights tried here.
#[tokio::test]
async fn who_may_only_declare_cannot_open_a_door_himself() {
    let house = House::new().await;
    let namespace = &house.world.namespace;
    let label = Patch::Merge(
        json!({ "metadata": { "labels": { "prowler-operator.dev/credentials": "true" } } }),
    );
    let annotation = Patch::Merge(
        json!({ "metadata": { "annotations": { "prowler-operator.dev/scanner": "true" } } }),
    );
    let params = PatchParams::default();
    let secrets = Api::<Secret>::namespaced(house.ada.clone(), namespace);
    let accounts = Api::<ServiceAccount>::namespaced(house.ada.clone(), namespace);
    let pods = Api::<Pod>::namespaced(house.ada.clone(), namespace);
    for refused in [
        secrets.patch("billing", &params, &label).await.map(drop),
        secrets.get("keys").await.map(drop),
        accounts
            .patch("deployer", &params, &annotation)
            .await
            .map(drop),
        pods.create(&PostParams::default(), &Pod::default())
            .await
            .map(drop),
    ] {
        let kube::Error::Api(status) = refused.unwrap_err() else {
            panic!("not asked")
        };
        assert!([403, 422].contains(&status.code), "{status:?}");
    }
}
