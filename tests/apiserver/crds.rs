//! The definitions as the API server takes them.

use crate::support::apiserver::ApiServer;

#[tokio::test]
async fn the_six_kinds_are_served() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace().await;
    assert!(namespace.starts_with("test-"));
}
