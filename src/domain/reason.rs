//! Why something is as it is: the closed list of words that conditions, events, scans and
//! metrics use. `docs/reasons.md` gives cause, cure and an example of each.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! reasons {
    ($($name:ident $kind:ident $doc:literal,)*) => {
        /// Why something is as it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $doc] $name,)*
        }

        impl Reason {
            /// All reasons, in the order of the page that explains them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word: `CamelCase`, as conditions want it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $doc,)*
                }
            }

            fn kind(self) -> Kind {
                match self {
                    $(Self::$name => Kind::$kind,)*
                }
            }
        }
    };
}

/// What follows from a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All is well, or a stage on the way.
    Fine,
    /// It goes on by itself, or when something else comes.
    Waits,
    /// Only a person can help.
    Stalled,
    /// Not of the object's making, and no hindrance to it; somebody must act elsewhere.
    Alarm,
    /// A scan's attempt failed; another may succeed.
    Retried,
    /// A scan's attempt failed; if the next fails so too, no other will succeed.
    RetriedOnce,
    /// A scan failed; another attempt would too.
    Final,
}

reasons! {
    // Any object
    Succeeded Fine "The object does what its spec asks.",
    Progressing Waits "The operator is at work on the object.",
    ProgressingWithRetry Waits "A pass over the object failed and is tried again.",
    DependencyNotReady Waits "Something the object names is there but not ready.",
    Suspended Fine "The object is suspended: nothing new starts.",
    Deleting Waits "The object and what hangs on it are being deleted.",
    DatabaseUnavailable Waits "The database does not answer.",
    KubernetesUnavailable Waits "The Kubernetes API does not answer, or refuses the operator.",
    MalformedObject Stalled "The stored object does not fit the kind's definition.",
    InvalidSpec Stalled "A field of the spec is not allowed as it is.",
    LimitExceeded Stalled "A wish in the spec is above the limit of the tenant or the installation.",

    // Tenants and namespaces
    TenantNotFound Waits "No tenant holds the object's namespace.",
    NamespaceConflict Stalled "Another tenant holds a namespace that this tenant claims.",
    NamespaceDenied Stalled "A claimed namespace can never belong to a tenant.",
    TenantLimitReached Stalled "The tenant has as much as it may have.",
    IsolationBroken Alarm "The database does not keep tenants apart any more.",

    // Providers
    InvalidUID Stalled "The uid is not how accounts of this provider type are named.",
    DuplicateUID Stalled "Another Provider of the tenant holds this account.",
    SecretNotFound Waits "The Secret that the credentials name does not exist.",
    SecretKeyMissing Stalled "The Secret lacks a key that the provider type needs.",
    SecretNotAllowed Stalled "The Secret does not carry the label that allows its use.",
    ServiceAccountNotFound Waits "The ServiceAccount that the credentials name does not exist.",
    ServiceAccountNotAllowed Stalled "The ServiceAccount does not carry the annotation that allows its use.",
    ImageNotAllowed Stalled "The scanner image is none of those the installation allows.",
    InvalidScope Stalled "The scan settings name something that cannot be scanned so.",
    CredentialsMissing Stalled "The Provider has no credentials, and its type cannot be scanned without.",

    CredentialsExpiring Alarm "What the credentials get in with ends soon.",
    CredentialsExpired Stalled "What the credentials get in with has ended.",

    ConnectionFailed Retried "The account could not be reached.",
    RateLimited Retried "The account answers too many requests.",
    CheckFailed Retried "The check of the connection came to nothing.",
    CredentialsChanged Fine "The credentials changed; the connection is checked again.",

    // Groups, roles, schedules, integrations
    ProviderNotFound Waits "A Provider that the object names does not exist.",
    ProviderGroupNotFound Waits "A ProviderGroup that the Role names does not exist.",
    RoleNotAllowedHere Stalled "The Role lies in a namespace in which roles do not count.",
    InvalidSchedule Stalled "The schedule cannot be read.",
    UnknownTimeZone Stalled "The time zone does not exist.",
    TooFrequent Stalled "The schedule is due more often than the installation allows.",
    MissedSchedule Fine "A due time passed without a scan.",
    ScanStillActive Fine "A due time was left out, for the last scan of the schedule had not ended.",
    DuplicateIntegration Stalled "Another Integration sends the same findings to the same place.",

    // Scans on their way
    Queued Waits "The scan waits for its turn.",
    KueueMissing Waits "The installation lets Kueue start scans, and the cluster has no Kueue.",
    Starting Waits "The scan's pod is being made.",
    Scanning Waits "Prowler runs.",
    Ingesting Waits "The findings are being stored.",
    Completed Fine "The scan has ended and its findings are published.",
    RecordsQuarantined Alarm "Records of the file of findings could not be kept, and were set aside.",
    Recounted Fine "What was written of the scan did not fit the cluster, and was put right.",
    Cancelled Final "The scan was ended before it was done.",
    ProviderDeleted Final "The Provider was deleted while the scan waited or ran.",

    // Failed attempts
    NoOutput RetriedOnce "Prowler ended without a file of findings.",
    OutputTruncated RetriedOnce "The file of findings ends in the middle.",
    OutputUnreadable Final "The file of findings cannot be read.",
    OutputPoisoned Final "Too many records of the file of findings could not be kept.",
    OutputTooLarge Final "The file of findings is larger than the server takes.",
    WrongAccount Final "The findings are of another account than the Provider's.",
    ScanFailed Retried "Prowler ended with an error.",
    ScanArgumentsInvalid Final "Prowler did not accept its arguments.",
    AuthenticationFailed Final "The cloud did not accept the credentials.",
    OOMKilled Retried "The scanner needed more memory than it had.",
    DeadlineExceeded Retried "The scan ran longer than it may.",
    ImagePullFailed Retried "The image of a scan's container could not be pulled.",
    PodRefused Retried "The cluster refused to make the scan's pod.",
    Unschedulable Retried "No node took the scan's pod in time.",
    PodLost Retried "The scan's pod or its Job was deleted or killed from outside.",
    NodeLost Retried "The node of the scan's pod was lost, shut down or emptied.",
    Preempted Retried "The scan's pod made room for a more important one.",
    Evicted Retried "The node ran short of something or was drained, and put the scan's pod out.",
    UploadFailed Retried "The findings could not be sent before the deadline.",
}

impl Reason {
    /// Whether only a person can help: the object is `Stalled`, not `Reconciling`.
    pub fn is_stalled(self) -> bool {
        self.kind() == Kind::Stalled
    }

    /// Whether it may pass without anybody's doing, or when something else comes.
    pub fn waits(self) -> bool {
        self.kind() == Kind::Waits
    }

    /// Whether another attempt of a scan that failed so may succeed.
    pub fn is_retried(self) -> bool {
        self.kind() == Kind::Retried
    }

    /// Whether one more attempt is worth while, and no third.
    pub fn is_retried_once(self) -> bool {
        self.kind() == Kind::RetriedOnce
    }

    /// The reason of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_one_camel_case_word_that_kubernetes_accepts() {
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(word.len() <= 64, "{word}");
            assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
            assert!(word.chars().all(|c| c.is_ascii_alphanumeric()), "{word}");
            assert_eq!(Reason::from_name(word), Some(*reason));
        }
    }

    #[test]
    fn every_meaning_is_a_sentence() {
        for reason in Reason::ALL {
            assert!(reason.meaning().ends_with('.'), "{reason}");
        }
    }
}
