//! Which labels a selector chooses, by the rules Kubernetes has for its own.

use std::collections::BTreeMap;

use crate::api::common::{Operator, Requirement, Selector};

/// Whether the selector chooses an object with these labels. An empty selector, which the API
/// server refuses, chooses nothing: choosing everything by mistake is the worse error.
pub fn matches(selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
    let Selector {
        match_labels,
        match_expressions,
    } = selector;
    if match_labels.is_empty() && match_expressions.is_empty() {
        return false;
    }
    match_labels
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && match_expressions
            .iter()
            .all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &Requirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = value.is_some_and(|value| requirement.values.contains(value));
    match requirement.operator {
        Operator::In => listed,
        // As in Kubernetes, an object without the label passes.
        Operator::NotIn => !listed,
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    fn expression(key: &str, operator: Operator, values: &[&str]) -> Selector {
        Selector {
            match_labels: BTreeMap::new(),
            match_expressions: vec![Requirement {
                key: key.into(),
                operator,
                values: values.iter().map(|value| (*value).into()).collect(),
            }],
        }
    }

    #[test]
    fn all_labels_must_match() {
        let selector = Selector {
            match_labels: labels(&[("env", "prod"), ("team", "a")]),
            match_expressions: Vec::new(),
        };
        assert!(matches(
            &selector,
            &labels(&[("env", "prod"), ("team", "a"), ("x", "y")])
        ));
        assert!(!matches(&selector, &labels(&[("env", "prod")])));
        assert!(!matches(
            &selector,
            &labels(&[("env", "prod"), ("team", "b")])
        ));
    }

    #[test]
    fn expressions_mean_what_they_mean_in_kubernetes() {
        let prod = labels(&[("env", "prod")]);
        let none = labels(&[]);
        for (operator, values, with, without) in [
            (Operator::In, &["prod", "test"][..], true, false),
            (Operator::In, &["test"], false, false),
            (Operator::NotIn, &["prod"], false, true),
            (Operator::NotIn, &["test"], true, true),
            (Operator::Exists, &[], true, false),
            (Operator::DoesNotExist, &[], false, true),
        ] {
            let selector = expression("env", operator, values);
            assert_eq!(matches(&selector, &prod), with, "{operator:?} {values:?}");
            assert_eq!(
                matches(&selector, &none),
                without,
                "{operator:?} {values:?}"
            );
        }
    }

    #[test]
    fn labels_and_expressions_hold_together() {
        let mut selector = expression("env", Operator::Exists, &[]);
        selector.match_labels = labels(&[("team", "a")]);
        assert!(matches(&selector, &labels(&[("env", ""), ("team", "a")])));
        assert!(!matches(&selector, &labels(&[("env", ""), ("team", "b")])));
    }

    #[test]
    fn an_empty_selector_chooses_nothing() {
        assert!(!matches(&Selector::default(), &labels(&[("env", "prod")])));
    }

    proptest! {
        #[test]
        fn a_requirement_and_its_opposite_divide_all_objects(
            key in "[ab]", value in "[xy]?", present in any::<bool>(), wanted in "[xy]",
        ) {
            let labels = if present { labels(&[("a", &value)]) } else { labels(&[]) };
            for (one, other, values) in [
                (Operator::In, Operator::NotIn, vec![wanted.as_str()]),
                (Operator::Exists, Operator::DoesNotExist, vec![]),
            ] {
                let one = matches(&expression(&key, one, &values), &labels);
                let other = matches(&expression(&key, other, &values), &labels);
                prop_assert!(one != other);
            }
        }
    }
}
