//! Reading a leader's address out of what it wrote about itself.
//!
//! MasterInfo as JSON is what Mesos' tools write: `address { hostname, ip, port }` since 0.28, and the older
//! `ip` (four bytes of the address, first byte lowest), `port`, `hostname` and `pid` beside it. Frameworks write
//! the same `address`.
//!
//! Invariant: what is read was written by anybody; nothing in it is believed beyond its size.

use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;

use crate::election::INFO_MAX_BYTES;

/// Why a contender's description names no address.
#[derive(Debug, thiserror::Error)]
pub enum InfoError {
    /// More than anybody needs to say.
    #[error("it has {0} bytes; at most {INFO_MAX_BYTES} are read")]
    TooLarge(usize),
    /// Not the JSON that it should be.
    #[error("it is not JSON with `address {{ hostname, ip, port }}`: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON without a usable address.
    #[error("it holds no usable `address {{ hostname, ip, port }}`")]
    NoAddress,
}

#[derive(Deserialize)]
struct Info {
    address: Option<Address>,
    ip: Option<u32>,
    port: Option<u32>,
}

#[derive(Deserialize)]
struct Address {
    hostname: Option<String>,
    ip: Option<String>,
    port: u32,
}

/// The `host:port` to dial: the address' `ip`, else its `hostname`, else the old `ip` field.
///
/// # Errors
/// If it is too large, not JSON, or names none.
pub fn address(info: &[u8]) -> Result<String, InfoError> {
    if info.len() > INFO_MAX_BYTES {
        return Err(InfoError::TooLarge(info.len()));
    }
    let info: Info = serde_json::from_slice(info)?;
    let (host, port) = match info.address {
        Some(address) => {
            let ip = address.ip.filter(|ip| !ip.is_empty());
            let host = match ip {
                Some(ip) => bracketed(ip.parse().map_err(|_| InfoError::NoAddress)?),
                None => hostname(address.hostname)?,
            };
            (host, address.port)
        }
        None => {
            let ip = info.ip.ok_or(InfoError::NoAddress)?;
            (
                Ipv4Addr::from(ip.to_le_bytes()).to_string(),
                info.port.unwrap_or(5050),
            )
        }
    };
    match u16::try_from(port) {
        Ok(port) if port != 0 => Ok(format!("{host}:{port}")),
        _ => Err(InfoError::NoAddress),
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn hostname(name: Option<String>) -> Result<String, InfoError> {
    let name = name.ok_or(InfoError::NoAddress)?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > 253 || !name.chars().all(good) {
        return Err(InfoError::NoAddress);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a Mesos 1.12 master writes it.
    const MESOS: &str = r#"{"address":{"hostname":"127.0.0.1","ip":"127.0.0.1","port":5050},"capabilities":[{"type":"AGENT_UPDATE"},{"type":"AGENT_DRAINING"},{"type":"QUOTA_V2"}],"hostname":"127.0.0.1","id":"54a72bbc-6b42-4c6d-8287-72fa79cd1d90","ip":16777343,"pid":"master@127.0.0.1:5050","port":5050,"version":"1.12.0"}"#;

    #[test]
    fn addresses_are_found() {
        for (info, expected) in [
            (MESOS, "127.0.0.1:5050"),
            (
                r#"{"ip":16777343,"port":5051,"hostname":"x"}"#,
                "127.0.0.1:5051",
            ),
            (r#"{"ip":16777343}"#, "127.0.0.1:5050"),
            (
                r#"{"address":{"hostname":"m1.example","port":1}}"#,
                "m1.example:1",
            ),
            (
                r#"{"address":{"hostname":"m","ip":"::1","port":9}}"#,
                "[::1]:9",
            ),
            (r#"{"address":{"hostname":"m","ip":"","port":9}}"#, "m:9"),
        ] {
            assert_eq!(address(info.as_bytes()).unwrap(), expected, "{info}");
        }
    }

    #[test]
    fn anything_else_is_refused_in_words() {
        let huge = format!("{{\"x\":\"{}\"}}", "y".repeat(INFO_MAX_BYTES));
        for (info, part) in [
            ("", "not JSON"),
            ("127.0.0.1:5050", "not JSON"),
            ("[]", "not JSON"),
            ("\u{fffd}\0", "not JSON"),
            (r#"{"address":{"ip":"1.2.3.4"}}"#, "not JSON"),
            (r#"{"address":{"ip":"1.2.3.4","port":-1}}"#, "not JSON"),
            (r#"{"address":{"ip":"1.2.3.4","port":0}}"#, "no usable"),
            (r#"{"address":{"ip":"1.2.3.4","port":65536}}"#, "no usable"),
            (r#"{"address":{"ip":"1.2.3","port":1}}"#, "no usable"),
            (r#"{"address":{"hostname":"a b","port":1}}"#, "no usable"),
            (r#"{"address":{"port":1}}"#, "no usable"),
            (r#"{"hostname":"m","port":5050}"#, "no usable"),
            (&huge, "65536"),
        ] {
            let words = address(info.as_bytes()).unwrap_err().to_string();
            assert!(words.contains(part), "{info:.80}: {words}");
        }
    }
}
