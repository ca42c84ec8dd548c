//! Which scan may start now, the Job that runs it, and how its pod ended.
