//! Reading Secrets, namespace by namespace: the controller binds the chart's `…-secret-reader`
//! `ClusterRole` to itself where a tenant claims, and nowhere else.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams};

use super::error::Error;
use super::{Context, delete, only, takes_objects};
use crate::api::FIELD_MANAGER;

/// Makes sure that the controller may read the labelled Secrets of `namespace`. A namespace
/// that is not there yet is bound when it comes; one that is going takes no new objects.
pub async fn grant(cx: &Context, namespace: &str) -> Result<(), Error> {
    let api: Api<RoleBinding> = Api::namespaced(cx.client.clone(), namespace);
    let wanted = binding(cx, namespace);
    let name = wanted.metadata.name.clone().unwrap_or_default();
    // Reading is cheaper than a server-side apply that changes nothing.
    let found = api.get_opt(&name).await?;
    if let Some(found) = &found
        && found.role_ref == wanted.role_ref
        && found.subjects == wanted.subjects
    {
        return Ok(());
    }
    if !takes_objects(cx, namespace).await? {
        return Ok(());
    }
    if let Some(found) = found
        && found.role_ref != wanted.role_ref
    {
        // A user of the namespace was first; which role a binding gives can never be changed.
        delete(&api, &name, &only(found.metadata.uid)).await?;
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&name, &params, &Patch::Apply(&wanted)).await?;
    Ok(())
}

/// Takes the right back when a namespace is released.
pub async fn revoke(cx: &Context, namespace: &str) -> Result<(), Error> {
    let api: Api<RoleBinding> = Api::namespaced(cx.client.clone(), namespace);
    delete(
        &api,
        &cx.settings.secret_reader_role,
        &DeleteParams::default(),
    )
    .await
}

fn binding(cx: &Context, namespace: &str) -> RoleBinding {
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(cx.settings.secret_reader_role.clone()),
            namespace: Some(namespace.to_owned()),
            labels: Some(
                [(
                    "app.kubernetes.io/managed-by".to_owned(),
                    FIELD_MANAGER.to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: cx.settings.secret_reader_role.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: cx.settings.service_account.clone(),
            namespace: Some(cx.settings.namespace.clone()),
            ..Subject::default()
        }]),
    }
}
