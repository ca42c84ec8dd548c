//! What the integration tests share: real servers, started when first asked for.

pub mod apiserver;
pub mod behaviour;
pub mod chart;
pub mod command;
pub mod controller;
pub mod credentials;
pub mod db;
pub mod etcd;
pub mod faults;
pub mod link;
pub mod metrics;
pub mod mutation;
pub mod ocsf;
pub mod operator;
