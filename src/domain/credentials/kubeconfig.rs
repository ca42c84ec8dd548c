//! Kubeconfigs: what they may hold, and whether they have what the account needs.

use jiff::Timestamp;
use serde_json::Value;

use super::material;

type Fault = &'static str;

/// Looks at a kubeconfig of which the context `uid` is used; when what that context gets in with
/// ends. It may hold keys and tokens, but no program to run: it would run with whatever the
/// scanner's pod has.
pub(super) fn look(text: &str, uid: &str) -> Result<Option<Timestamp>, Fault> {
    let config: Value = serde_saphyr::from_str(text).map_err(|_| "is not YAML")?;
    if !config.is_object() {
        return Err("is not a kubeconfig: it is no mapping");
    }
    for user in all(&config, "users", "user") {
        harmless(user)?;
    }
    for cluster in all(&config, "clusters", "cluster") {
        if cluster.get("certificate-authority").is_some() {
            return Err(FILE);
        }
        if let Some(authority) = cluster.get("certificate-authority-data") {
            let pem =
                unpacked(authority).ok_or("has a certificate-authority-data that is not base64")?;
            material::certificate(&pem)
                .map_err(|_| "has a certificate-authority-data without a certificate in PEM")?;
        }
    }
    let context = named(&config, "contexts", uid, "context")
        .ok_or("has no context of the name in spec.uid")?;
    let of = |field: &str| context[field].as_str().unwrap_or_default();
    named(&config, "clusters", of("cluster"), "cluster")
        .ok_or("has no cluster for the context of the name in spec.uid")?;
    let user = named(&config, "users", of("user"), "user")
        .ok_or("has no user for the context of the name in spec.uid")?;
    life(user)
}

const FILE: Fault = "names a file: put the contents in, as kubectl config view --flatten does";

/// The entries of a list, each by what is in it.
fn all<'a>(config: &'a Value, list: &str, entry: &'a str) -> impl Iterator<Item = &'a Value> {
    let entries = config.get(list).and_then(Value::as_array);
    let entries = entries.map_or(&[][..], Vec::as_slice);
    entries.iter().filter_map(move |named| named.get(entry))
}

/// What the entry of this name holds.
fn named<'a>(config: &'a Value, list: &str, name: &str, entry: &str) -> Option<&'a Value> {
    let entries = config.get(list)?.as_array()?;
    entries
        .iter()
        .find(|found| found["name"] == name)?
        .get(entry)
}

fn harmless(user: &Value) -> Result<(), Fault> {
    if user.get("exec").is_some_and(|exec| !exec.is_null()) {
        return Err("has a user with exec: programs are not run for credentials");
    }
    if user.pointer("/auth-provider/config/cmd-path").is_some() {
        return Err("has a user with cmd-path: programs are not run for credentials");
    }
    // A path would name a file of the scanner's container.
    let files = ["tokenFile", "client-certificate", "client-key"];
    if files.iter().any(|key| user.get(key).is_some()) {
        return Err(FILE);
    }
    Ok(())
}

fn unpacked(value: &Value) -> Option<Vec<u8>> {
    material::unpacked(value.as_str()?)
}

/// When the first of what a user gets in with ends.
fn life(user: &Value) -> Result<Option<Timestamp>, Fault> {
    let mut ends = Vec::new();
    if let Some(certificate) = user.get("client-certificate-data") {
        const FAULT: Fault =
            "has a client-certificate-data that is no certificate in PEM in base64";
        let pem = unpacked(certificate).ok_or(FAULT)?;
        ends.push(material::certificate(&pem).map_err(|_| FAULT)?);
        let key = user.get("client-key-data").and_then(unpacked);
        let key = key.and_then(|key| String::from_utf8(key).ok());
        material::private_key(&key.unwrap_or_default())
            .map_err(|_| "has a client-key-data that is no private key in PEM in base64")?;
    }
    let token = user.get("token").and_then(Value::as_str);
    ends.extend(token.and_then(material::token_end));
    Ok(ends.into_iter().min())
}
