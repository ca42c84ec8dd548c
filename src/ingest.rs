//! OCSF as a stream of findings, and the rows they become.
