//! Objects as etcd holds them, changed behind the API server's back: as they are when they were
//! stored before their definition was changed, which no request can bring about.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test; not every test uses all of it"
)]

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use prowler_operator::api::Kind;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::apiserver::ApiServer;

impl ApiServer {
    /// Changes the stored text of an object of ours; `namespace` is empty for a cluster's.
    pub async fn rewrite<K: Kind>(
        &self,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) {
        let path = ["prowler-operator.dev", K::PLURAL, namespace, name]
            .iter()
            .filter(|part| !part.is_empty())
            .fold("/registry".to_owned(), |path, part| {
                format!("{path}/{part}")
            });
        let key = bytes(path.into_bytes());
        let found = self.etcd("range", json!({ "key": key })).await;
        let stored: ByteString = serde_json::from_value(found["kvs"][0]["value"].clone()).unwrap();
        let mut object: Value = serde_json::from_slice(&stored.0).unwrap();
        change(&mut object);
        let value = bytes(serde_json::to_vec(&object).unwrap());
        self.etcd("put", json!({ "key": key, "value": value }))
            .await;
    }

    /// A call of etcd's JSON gateway.
    async fn etcd(&self, call: &str, body: Value) -> Value {
        let stream = TcpStream::connect(("127.0.0.1", self.etcd_port()))
            .await
            .unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("/v3/kv/{call}"))
            .header(http::header::HOST, "localhost")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert!(answer.status().is_success(), "{call}: {}", answer.status());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }
}

fn bytes(text: Vec<u8>) -> Value {
    serde_json::to_value(ByteString(text)).unwrap()
}
