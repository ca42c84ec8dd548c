//! Many watches over few connections, and over one each where HTTP/2 is not spoken.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{PostParams, WatchEvent, WatchParams};
use prowler_operator::controllers::multiplex::Multiplex;
use prowler_operator::metrics::kubernetes::KubernetesMetrics;
use serde_json::json;

use crate::support::apiserver::ApiServer;

/// Beyond what two connections hold.
const WATCHES: usize = 250;

/// Connections to this port that are up, as the kernel lists those of the machine.
fn connections(server: &ApiServer) -> usize {
    let port = server.url().rsplit_once(':').unwrap().1.parse::<u16>();
    let remote = format!(":{:04X}", port.unwrap());
    let table = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    let lines = table.iter().flatten().flat_map(|text| text.lines());
    lines
        .filter(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields[2].ends_with(&remote) && fields[3] == "01"
        })
        .count()
}

/// The same, once what others have closed is closed.
async fn settled(server: &ApiServer) -> usize {
    loop {
        let before = connections(server);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if connections(server) == before {
            return before;
        }
    }
}

async fn over(server: &ApiServer) -> Multiplex {
    let config = server.config_as("admin", &["system:masters"]);
    Multiplex::over(config, KubernetesMetrics::default(), server.client()).await
}

/// Has `WATCHES` watches see a change, each with its place; the connections made for them.
async fn watched(server: &ApiServer, multiplex: &Multiplex, namespace: &str) -> usize {
    let before = settled(server).await;
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        let place = multiplex.place();
        let maps = Api::<ConfigMap>::namespaced(place.client.clone(), namespace);
        let events = maps.watch(&WatchParams::default(), "0").await.unwrap();
        watches.push((place, events.boxed()));
    }
    let taken = connections(server) - before;
    let map = serde_json::from_value(json!({ "metadata": { "generateName": "seen-" } })).unwrap();
    let maps = Api::<ConfigMap>::namespaced(server.client(), namespace);
    let map = maps.create(&PostParams::default(), &map).await.unwrap();
    for (_, events) in &mut watches {
        let seen = async {
            while let Some(event) = events.try_next().await.unwrap() {
                if matches!(event, WatchEvent::Added(seen) if seen.metadata.name == map.metadata.name)
                {
                    return;
                }
            }
            panic!("the watch ended");
        };
        let seen = tokio::time::timeout(Duration::from_secs(30), seen);
        assert!(seen.await.is_ok(), "a watch saw nothing");
    }
    taken
}

#[tokio::test]
async fn a_hundred_watches_share_a_connection_and_places_are_given_again() {
    let server = ApiServer::alone().await;
    let namespace = server.namespace().await;
    let multiplex = over(server).await;
    // One more was made to see that the server speaks HTTP/2.
    assert_eq!(watched(server, &multiplex, &namespace).await, 2);
    // What was given back is given again, before any new connection.
    assert_eq!(watched(server, &multiplex, &namespace).await, 0);
}

#[tokio::test]
async fn each_watch_has_a_connection_where_only_http_1_is_spoken() {
    let server = ApiServer::alone_with(&["--disable-http2-serving=true"]).await;
    let namespace = server.namespace().await;
    let multiplex = over(server).await;
    // One takes the connection by which that was found out.
    assert_eq!(watched(server, &multiplex, &namespace).await, WATCHES - 1);
}
