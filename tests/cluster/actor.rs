//! A release whose scans are acted: by an image that ends as it is told (`hack/images.d/actor`).

use crate::demo::Demo;
use crate::support::command::{command, succeed};

/// Lets Providers name the actor's image, which is returned, and sets more values. To be
/// followed by `Demo::gone`: the next `hack/demo up` takes all of it back, for it does not take a
/// release with another mark for its own.
pub fn release(demo: &Demo, values: &str) -> String {
    succeed(command("hack/images", &["load", "actor"]));
    let image = succeed(command("hack/images", &["ref", "actor"]));
    let image = image.trim();
    // No checks, which would run the actor too.
    let set = format!(
        "scanner.allowedImages={{{image},registry.invalid/*}},connectionChecks.parallelism=0,{values}"
    );
    demo.upgrade(Some(&set));
    image.to_owned()
}
