//! Every way into accounts of a provider type: the rows over which tests show what must hold for
//! each, from the pod's shape to what the real Prowler accepts.

use super::{Access, Must, by_service_account, optional, shape};
use crate::api::account::ProviderType;
use crate::api::provider::CredentialsType;

/// A way into an account.
#[derive(Debug, Clone)]
pub struct Way {
    /// What it is called, for example `role by serviceAccountName`.
    pub name: String,
    /// What would be found if a Provider went this way, with a Secret `keys` and a
    /// ServiceAccount `scanner`.
    pub access: Access,
}

/// All ways into accounts of this type: one for each choice that the table of keys leaves, each
/// with all keys that do not exclude each other.
pub fn ways(provider: ProviderType) -> Vec<Way> {
    let mut ways = Vec::new();
    for kind in [
        CredentialsType::Static,
        CredentialsType::Role,
        CredentialsType::ServiceAccount,
    ] {
        ways.extend(by_secret(provider, kind));
    }
    if by_service_account(provider) {
        ways.push(Way {
            name: "serviceAccountName".into(),
            access: Access {
                service_account: Some("scanner".into()),
                ..Access::default()
            },
        });
    }
    if optional(provider) {
        ways.push(Way {
            name: "nothing".into(),
            access: Access::default(),
        });
    }
    ways
}

fn by_secret(provider: ProviderType, kind: CredentialsType) -> Vec<Way> {
    let Some(shape) = shape(provider, kind) else {
        return Vec::new();
    };
    let word = kind.as_str();
    let groups = shape.choice.map_or(&[][..], |choice| choice.groups);
    let chosen = |name: &str| groups.iter().any(|group| group.contains(&name));
    let way = |name: String, service_account: Option<String>, group: &[&str]| Way {
        name,
        access: Access {
            kind: Some(kind),
            secret: Some("keys".into()),
            keys: shape
                .keys
                .iter()
                .map(|key| key.name)
                .filter(|name| !chosen(name) || group.contains(name))
                .map(str::to_owned)
                .collect(),
            service_account,
            expiry: None,
        },
    };
    if groups.is_empty() {
        return vec![way(word.to_owned(), None, &[])];
    }
    let mut ways: Vec<_> = groups
        .iter()
        .map(|group| way(format!("{word} by {}", group.join(" and ")), None, group))
        .collect();
    match shape.choice.map(|choice| choice.must) {
        Some(Must::UnlessServiceAccount) => {
            let name = format!("{word} by serviceAccountName");
            ways.push(way(name, Some("scanner".into()), &[]));
        }
        Some(Must::Whole) => ways.push(way(word.to_owned(), None, &[])),
        _ => {}
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_table_is_on_some_way_and_every_type_has_one() {
        for provider in ProviderType::ALL {
            let ways = ways(provider);
            assert!(!ways.is_empty(), "{provider}");
            for kind in [
                CredentialsType::Static,
                CredentialsType::Role,
                CredentialsType::ServiceAccount,
            ] {
                for key in shape(provider, kind).map_or(&[][..], |shape| shape.keys) {
                    assert!(
                        ways.iter().any(|way| way.access.kind == Some(kind)
                            && way.access.keys.contains(key.name)),
                        "{provider}: {}",
                        key.name
                    );
                }
            }
        }
    }

    #[test]
    fn each_choice_is_a_way_of_its_own() {
        let names = |provider| -> Vec<_> { ways(provider).into_iter().map(|w| w.name).collect() };
        assert_eq!(
            names(ProviderType::Aws),
            [
                "static",
                "role by aws_access_key_id and aws_secret_access_key",
                "role by serviceAccountName",
                "serviceAccountName",
            ]
        );
        assert_eq!(
            names(ProviderType::Image),
            [
                "static by registry_username and registry_password",
                "static",
                "nothing"
            ]
        );
    }
}
