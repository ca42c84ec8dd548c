//! The chart, and the whole line on a real cluster: kubelet, containerd, the images, the demo.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::panic, reason = "a test that cannot go on fails")]

mod support;

#[path = "cluster/actor.rs"]
mod actor;
#[path = "cluster/chart.rs"]
mod chart;
#[path = "cluster/connection.rs"]
mod connection;
#[path = "cluster/demo.rs"]
mod demo;
#[path = "cluster/ends.rs"]
mod ends;
#[path = "cluster/kills.rs"]
mod kills;
#[path = "cluster/line.rs"]
mod line;
#[path = "cluster/node.rs"]
mod node;
#[path = "cluster/recovery.rs"]
mod recovery;
#[path = "cluster/release.rs"]
mod release;
#[path = "cluster/removal.rs"]
mod removal;
#[path = "cluster/scanner.rs"]
mod scanner;
