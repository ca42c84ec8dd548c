//! Scans on the cluster: the Job of an attempt ([`job`]) and what its pod says of how it went
//! ([`outcome`]). Plain data in, plain data out: whoever has a client is in `controllers`.

pub mod check;
pub mod job;
mod one_shot;
pub mod outcome;
mod pod;
pub mod size;
