//! From an admitted scan to its Job: the provider's spec as it stood at admission, with the
//! scan's own wishes laid over it, checked again at the moment the pod would get the keys.

use kube::Resource;
use serde::Deserialize;

use super::Context;
use super::credentials::Seen;
use super::error::Error;
use super::tenancy::TenantView;
use crate::api::Scan;
use crate::api::account::ProviderType;
use crate::api::common::{LocalRef, Quantity, ScanSettings};
use crate::api::provider::Credentials;
use crate::dispatch::job::Attempt;
use crate::dispatch::size;
use crate::domain::account::Account;
use crate::domain::credentials::{self, Access};
use crate::domain::ids::ObjectName;
use crate::domain::limits::{self, Ceilings, Images};
use crate::domain::reason::Reason;
use crate::domain::violation::Violation;
use crate::domain::{quantity, scanner, scope};
use crate::store::scans::ScanRow;

/// The provider as it stood at admission.
#[derive(Debug, Deserialize)]
struct Admitted {
    provider: ProviderType,
    uid: String,
    scan: ScanSettings,
    credentials: Option<Access>,
}

/// An attempt ready to start, or why it cannot.
pub type Planned = Result<Attempt, (Reason, String)>;

/// Plans the attempt of an admitted scan.
pub async fn plan(
    scan: &Scan,
    row: &ScanRow,
    tenant: &TenantView,
    cx: &Context,
) -> Result<Planned, Error> {
    let unreadable = || {
        Error::Operator(format!(
            "scan {} was stored in a form this version cannot read",
            row.id
        ))
    };
    let admitted: Admitted = row
        .admitted
        .clone()
        .and_then(|admitted| serde_json::from_value(admitted).ok())
        .ok_or_else(unreadable)?;
    let wishes: ScanSettings =
        serde_json::from_value(row.scanner_args.clone()).map_err(|_| unreadable())?;
    let kind = admitted.provider;
    let account = match Account::parse(kind, &admitted.uid) {
        Ok(account) => account,
        Err(violation) => return Ok(Err((violation.reason(), violation.to_string()))),
    };
    let settings = scope::merge(&admitted.scan, Some(&wishes));
    let mut access = admitted.credentials.unwrap_or_default();
    let ceilings = ceilings(tenant, cx);
    let mut violations = limits::check(&settings, &ceilings, &images(cx), "spec.scan");
    violations.extend(scope::check(kind, &settings, "spec.scan"));
    match check_access(&account, &access, scan, cx).await? {
        // The keys as they are now: one that came since is given, one that went is not.
        Ok(now) => access = now,
        Err(more) => violations.extend(more),
    }
    if access == Access::default() && !credentials::optional(kind) {
        let message = "The Provider has no credentials; give it spec.credentials.".to_owned();
        return Ok(Err((Reason::CredentialsMissing, message)));
    }
    if let Some(first) = violations.first() {
        let message = violations
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ");
        return Ok(Err((first.reason(), message)));
    }
    let server_ca = tokio::fs::read_to_string(&cx.settings.server_ca_file)
        .await
        .map_err(|error| {
            Error::Operator(format!(
                "the CA file {} cannot be read: {error}",
                cx.settings.server_ca_file.display()
            ))
        })?;
    let owner = scan.controller_owner_ref(&()).ok_or(Error::Outdated)?;
    Ok(Ok(Attempt {
        tenant: tenant.id,
        provider: row.provider,
        scan: row.id,
        attempt: row.attempt,
        object: super::name_of(scan),
        owner,
        run: scanner::invocation(&account, &settings, &access),
        in_cluster: kind == ProviderType::Kubernetes && access.kind.is_none(),
        secret: access.secret.clone(),
        image: settings
            .image
            .clone()
            .unwrap_or_else(|| cx.config.scanner.image.clone()),
        resources: size::of_scan(&settings, &cx.config, &ceilings, row.memory_bytes),
        deadline_seconds: settings.active_deadline_seconds.unwrap_or_else(|| {
            cx.config
                .limits
                .scan_deadline_seconds
                .default
                .min(ceilings.deadline_seconds)
        }),
        server_url: cx.settings.server_url.clone(),
        server_ca,
    }))
}

/// The doors again, at the last moment: a label taken off since admission closes them.
async fn check_access(
    account: &Account,
    access: &Access,
    scan: &Scan,
    cx: &Context,
) -> Result<Result<Access, Vec<Violation>>, Error> {
    if *access == Access::default() {
        return Ok(Ok(Access::default()));
    }
    let named = Credentials {
        kind: access.kind,
        secret_ref: access.secret.as_deref().map(LocalRef::new),
        service_account_name: access.service_account.clone(),
    };
    let provider = ObjectName {
        namespace: super::name_of(scan).namespace,
        name: scan.spec.provider_ref.name.clone(),
    };
    let seen = Seen::live(Some(&named), &provider.namespace, cx).await?;
    let values = seen.values(Some(&named), &provider.namespace, cx).await?;
    Ok(credentials::check(
        account.provider(),
        account.uid(),
        Some(&named),
        &seen.named(&values, cx.clock.now()),
    ))
}

/// The most a scan of this tenant may use: its own limits within the installation's ceilings.
pub fn ceilings(tenant: &TenantView, cx: &Context) -> Ceilings {
    let limits = &cx.config.limits;
    let own = tenant.spec.limits.clone().unwrap_or_default();
    let text = |wish: Option<Quantity>, ceiling: &str| {
        wish.map_or_else(
            || ceiling.to_owned(),
            |Quantity(wish)| quantity::smaller(&wish, ceiling).to_owned(),
        )
    };
    Ceilings {
        memory: text(own.scan_memory, &limits.scan_memory.ceiling),
        cpu: text(own.scan_cpu, &limits.scan_cpu.ceiling),
        deadline_seconds: own
            .scan_deadline_seconds
            .unwrap_or(limits.scan_deadline_seconds.ceiling)
            .min(limits.scan_deadline_seconds.ceiling),
    }
}

/// The images a Provider may name.
pub fn images(cx: &Context) -> Images {
    Images {
        default: cx.config.scanner.image.clone(),
        allowed: cx.config.scanner.allowed_images.clone(),
    }
}

/// Memory that the attempt had, and that of the next after an `OOMKilled`: half as much again, up
/// to the ceiling; `None` when it had that already. Bytes.
pub fn more_memory(row: &ScanRow, tenant: &TenantView, cx: &Context) -> (Option<i64>, Option<i64>) {
    let ceilings = ceilings(tenant, cx);
    let of_provider: ScanSettings = row
        .admitted
        .as_ref()
        .and_then(|admitted| serde_json::from_value(admitted.get("scan")?.clone()).ok())
        .unwrap_or_default();
    let of_scan: Option<ScanSettings> = serde_json::from_value(row.scanner_args.clone()).ok();
    let settings = scope::merge(&of_provider, of_scan.as_ref());
    let had = size::memory(&settings, &cx.config, &ceilings, row.memory_bytes);
    let (Some(had), Some(ceiling)) = (quantity::units(&had), quantity::units(&ceilings.memory))
    else {
        return (None, None);
    };
    let next = had.saturating_add(had / 2).min(ceiling);
    (Some(had), (next > had).then_some(next))
}

/// What of a scan's or a schedule's own settings is above the tenant's limits, or an image that is
/// not allowed.
pub(super) fn excessive(
    wishes: Option<&ScanSettings>,
    tenant: &TenantView,
    cx: &Context,
) -> Vec<Violation> {
    wishes.map_or_else(Vec::new, |wishes| {
        limits::check(wishes, &ceilings(tenant, cx), &images(cx), "spec.scan")
    })
}
