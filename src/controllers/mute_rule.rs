//! MuteRule: mirrored, for whoever mutes findings.

use super::driver::{Cleanup, Outcome, Reconcile};
use super::error::Error;
use super::tenant::uid_of;
use super::{Context, placed};
use crate::api::MuteRule;
use crate::api::mute_rule::MuteRuleStatus;
use crate::store::admin::ownership::{Mirrored, tenant_of};
use crate::store::mute_rules::{self, MuteRuleRecord};

impl Reconcile for MuteRule {
    async fn apply(&self, status: &mut MuteRuleStatus, cx: &Context) -> Result<Outcome, Error> {
        let (name, tenant) = match placed(self, cx) {
            Ok(found) => found,
            Err(waiting) => {
                (status.rule_id, status.findings) = (None, None);
                return Ok(waiting);
            }
        };
        let id = cx.installation.mute_rule(&name);
        let record = MuteRuleRecord {
            object: uid_of(self)?,
            name,
            reason: self.spec.reason.clone(),
            enabled: self.spec.enabled,
            finding_uids: self.spec.finding_uids.clone(),
        };
        let mut tx = cx.store.tenant(tenant.id).await?;
        mute_rules::upsert(&mut tx, id, &record).await?;
        tx.commit().await?;

        let findings = record.finding_uids.len();
        status.rule_id = Some(id.to_string());
        status.findings = i64::try_from(findings).ok();
        Ok(Outcome::settled(if record.enabled {
            format!("A rule for {findings} finding uids is stored.")
        } else {
            "The rule is stored; it counts for no scan while spec.enabled is false.".to_owned()
        }))
    }

    async fn cleanup(&self, _: &mut MuteRuleStatus, cx: &Context) -> Result<Cleanup, Error> {
        let object = uid_of(self)?;
        while let Some(tenant) = tenant_of(&cx.admin, Mirrored::MuteRule, object).await? {
            let mut tx = cx.store.tenant(tenant).await?;
            mute_rules::remove(&mut tx, object).await?;
            tx.commit().await?;
        }
        Ok(Cleanup::Done)
    }
}
