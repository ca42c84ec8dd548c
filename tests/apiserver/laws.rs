//! What holds for every kind, whatever goes wrong between the program and its servers.

use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use prowler_operator::api::{
    FINALIZER, Integration, MuteRule, Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant,
};
use prowler_operator::controllers::driver::Reconcile;
use serde_json::{Value, json};

use crate::support::operator::{ACCOUNT, Operator, Placed, World, aws, unique};

/// An object of a kind that makes sense in a furnished world.
trait Sample: Reconcile + Placed {
    const NAME: &'static str;

    fn example(world: &World) -> Value;

    /// Its name: cluster-wide ones must differ from test to test.
    fn name(_: &World) -> String {
        Self::NAME.to_owned()
    }
}

impl Sample for Tenant {
    const NAME: &'static str = "";

    fn example(world: &World) -> Value {
        json!({ "namespaces": [world.namespace], "displayName": "Team A" })
    }

    fn name(world: &World) -> String {
        world.tenant.clone()
    }
}

impl Sample for Provider {
    const NAME: &'static str = "production";

    fn example(_: &World) -> Value {
        aws(ACCOUNT, "keys")
    }
}

impl Sample for ProviderGroup {
    const NAME: &'static str = "group";

    fn example(_: &World) -> Value {
        json!({ "providerRefs": [{ "name": "production" }] })
    }
}

impl Sample for Role {
    const NAME: &'static str = "auditor";

    fn example(_: &World) -> Value {
        json!({ "permissions": ["MANAGE_SCANS"], "providerGroupRefs": [{ "name": "group" }],
                "subjects": [{ "kind": "User", "name": "ada" }] })
    }
}

impl Sample for ScanSchedule {
    const NAME: &'static str = "nightly";

    fn example(_: &World) -> Value {
        json!({ "schedule": "0 2 * * *", "providerRefs": [{ "name": "production" }] })
    }
}

impl Sample for Scan {
    const NAME: &'static str = "now";

    fn example(_: &World) -> Value {
        json!({ "providerRef": { "name": "production" } })
    }
}

impl Sample for Integration {
    const NAME: &'static str = "bucket";

    fn example(_: &World) -> Value {
        json!({ "type": "amazon_s3", "configuration": { "bucketName": "acme" },
                "providerRefs": [{ "name": "production" }],
                "credentials": { "secretRef": { "name": "keys" } } })
    }
}

impl Sample for MuteRule {
    const NAME: &'static str = "accepted";

    fn example(_: &World) -> Value {
        json!({ "reason": "Accepted until the move.", "findingUids": ["prowler-aws-a-1-eu-west-1-b"] })
    }
}

/// A namespace with one object of each kind, as written; nobody has looked at them yet.
async fn furnish(operator: &Operator) -> World {
    let world = World {
        tenant: unique("tenant"),
        namespace: operator.server.namespace().await,
    };
    operator.aws_secret(&world.namespace, "keys").await;
    put::<Tenant>(operator, &world).await;
    put::<Provider>(operator, &world).await;
    put::<ProviderGroup>(operator, &world).await;
    put::<Role>(operator, &world).await;
    put::<ScanSchedule>(operator, &world).await;
    put::<Scan>(operator, &world).await;
    put::<Integration>(operator, &world).await;
    put::<MuteRule>(operator, &world).await;
    world
}

async fn put<K: Sample>(operator: &Operator, world: &World) -> K {
    let name = K::name(world);
    operator
        .apply(&world.namespace, &name, K::example(world))
        .await
}

async fn object<K: Sample>(operator: &Operator, world: &World) -> K {
    operator.get(&world.namespace, &K::name(world)).await
}

async fn pass<K: Sample>(operator: &Operator, world: &World) {
    operator
        .pass::<K>(&world.namespace, &K::name(world))
        .await
        .unwrap();
}

/// Runs a law for each kind.
macro_rules! every_kind {
    ($law:ident, $operator:expr, $world:expr) => {
        Box::pin($law::<Tenant>($operator, $world)).await;
        Box::pin($law::<Provider>($operator, $world)).await;
        Box::pin($law::<ProviderGroup>($operator, $world)).await;
        Box::pin($law::<Role>($operator, $world)).await;
        Box::pin($law::<ScanSchedule>($operator, $world)).await;
        Box::pin($law::<Scan>($operator, $world)).await;
        Box::pin($law::<Integration>($operator, $world)).await;
        Box::pin($law::<MuteRule>($operator, $world)).await;
    };
}

#[tokio::test]
async fn the_first_pass_only_adds_the_finalizer() {
    async fn law<K: Sample>(operator: &Operator, world: &World) {
        let before: K = object(operator, world).await;
        let rows = operator.row_versions().await;
        operator.api.reset();
        pass::<K>(operator, world).await;
        assert_eq!(operator.api.calls(), 1, "{:?}", operator.api.log());
        assert_eq!(operator.row_versions().await, rows, "{}", K::KIND);
        let after: K = object(operator, world).await;
        assert_eq!(after.finalizers(), [FINALIZER], "{}", K::KIND);
        let status = |object: &K| serde_json::to_value(object).unwrap()["status"].clone();
        assert_eq!(status(&after), status(&before), "{}", K::KIND);
        assert_eq!(status(&after)["observedGeneration"], json!(-1));
    }
    let operator = Operator::new().await;
    let world = furnish(&operator).await;
    every_kind!(law, &operator, &world);
}

#[tokio::test]
async fn a_pass_over_a_settled_object_writes_nothing() {
    async fn law<K: Sample>(operator: &Operator, world: &World) {
        let rows = operator.row_versions().await;
        operator.api.reset();
        pass::<K>(operator, world).await;
        assert_eq!(operator.api.changes(), [""; 0], "{}", K::KIND);
        assert_eq!(operator.row_versions().await, rows, "{}", K::KIND);
        let settled = serde_json::to_value(object::<K>(operator, world).await).unwrap();
        assert_eq!(
            settled["status"]["observedGeneration"],
            settled["metadata"]["generation"],
            "{}",
            K::KIND
        );
    }
    let mut operator = Operator::new().await;
    let world = furnish(&operator).await;
    operator.settle(&world).await;
    every_kind!(law, &operator, &world);
    // Nor after a restart, with nothing remembered.
    operator.restart().await;
    every_kind!(law, &operator, &world);
    // Nor when nothing but time has passed.
    operator.wait(600);
    every_kind!(law, &operator, &world);
}

#[tokio::test]
async fn applying_the_same_yaml_again_changes_nothing() {
    async fn law<K: Sample>(operator: &Operator, world: &World) {
        let before: K = object(operator, world).await;
        let after: K = put(operator, world).await;
        assert_eq!(
            after.meta().generation,
            before.meta().generation,
            "{}",
            K::KIND
        );
        assert_eq!(
            after.resource_version(),
            before.resource_version(),
            "{}",
            K::KIND
        );
        pass::<K>(operator, world).await;
        let after: K = object(operator, world).await;
        assert_eq!(
            after.resource_version(),
            before.resource_version(),
            "{}",
            K::KIND
        );
    }
    let operator = Operator::new().await;
    let world = furnish(&operator).await;
    operator.settle(&world).await;
    every_kind!(law, &operator, &world);
}

#[tokio::test]
async fn an_object_goes_though_nothing_was_ever_stored_of_it() {
    async fn law<K: Sample>(operator: &Operator, world: &World) {
        let name = K::name(world);
        // Only the finalizer is there.
        pass::<K>(operator, world).await;
        operator.delete::<K>(&world.namespace, &name).await;
        assert!(!operator.is_gone::<K>(&world.namespace, &name).await);
        pass::<K>(operator, world).await;
        assert!(
            operator.is_gone::<K>(&world.namespace, &name).await,
            "{}",
            K::KIND
        );
    }
    let operator = Operator::new().await;
    let world = furnish(&operator).await;
    let rows = operator.row_versions().await;
    every_kind!(law, &operator, &world);
    assert_eq!(operator.row_versions().await, rows);
}

#[tokio::test]
async fn an_object_deleted_before_its_first_pass_is_left_alone() {
    async fn law<K: Sample>(operator: &Operator, world: &World) {
        let name = K::name(world);
        let api = K::guarded(&operator.client, &world.namespace);
        let deleted = api.get(&name).await.unwrap();
        operator.delete::<K>(&world.namespace, &name).await;
        // The watch has not shown the deletion yet.
        operator.api.reset();
        let cx = operator.cx.clone();
        prowler_operator::controllers::driver::pass::<K>(deleted.into(), cx).await;
        assert!(
            operator.is_gone::<K>(&world.namespace, &name).await,
            "{}",
            K::KIND
        );
    }
    let operator = Operator::new().await;
    let world = furnish(&operator).await;
    every_kind!(law, &operator, &world);
}

#[tokio::test]
async fn a_stale_copy_of_an_object_never_overwrites_a_newer_one() {
    async fn law<K: Sample>(operator: &Operator, world: &World) {
        let name = K::name(world);
        let api = K::guarded(&operator.client, &world.namespace);
        let stale = api.get(&name).await.unwrap();
        let label = json!({ "metadata": { "labels": { "touched": "yes" } } });
        let touched: K = operator.patch(&world.namespace, &name, label).await;
        let cx = operator.cx.clone();
        prowler_operator::controllers::driver::pass::<K>(stale.into(), cx).await;
        let after: K = object(operator, world).await;
        assert_eq!(
            after.resource_version(),
            touched.resource_version(),
            "{}",
            K::KIND
        );
    }
    let operator = Operator::new().await;
    let world = furnish(&operator).await;
    every_kind!(law, &operator, &world);
}

#[tokio::test]
async fn a_finalizer_of_somebody_else_stays() {
    async fn law<K: Sample>(operator: &Operator, world: &World) {
        let name = K::name(world);
        let api = K::typed(&operator.client, &world.namespace);
        let other = json!({ "metadata": { "finalizers": ["example.com/other"] } });
        let params = PatchParams::default();
        api.patch(&name, &params, &Patch::Merge(&other))
            .await
            .unwrap();
        pass::<K>(operator, world).await;
        let both: K = object(operator, world).await;
        assert_eq!(both.finalizers(), ["example.com/other", FINALIZER]);
        api.delete(&name, &DeleteParams::background())
            .await
            .unwrap();
        pass::<K>(operator, world).await;
        let left: K = object(operator, world).await;
        assert_eq!(left.finalizers(), ["example.com/other"], "{}", K::KIND);
        // Ours is off: there is nothing left to do, and nothing is done.
        operator.api.reset();
        pass::<K>(operator, world).await;
        assert_eq!(operator.api.changes(), [""; 0]);
    }
    let operator = Operator::new().await;
    let world = furnish(&operator).await;
    every_kind!(law, &operator, &world);
}
