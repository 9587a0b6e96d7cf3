//! The REST doors of the two frameworks.

use std::time::Duration;

use http::{Method, StatusCode, header};
use serde_json::Value;

use super::master::root;
use crate::endpoints::Endpoints;
use crate::failure::Failure;

/// For how long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For how long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest answer that is repeated in words, in characters.
const WORDS_MAX: usize = 1000;

/// One framework.
#[derive(Clone, Debug)]
pub struct Rest {
    who: &'static str,
    address: String,
    authorization: Option<String>,
    client: reqwest::Client,
}

impl Rest {
    /// The service framework.
    pub fn service(endpoints: &Endpoints) -> Self {
        Self::new("service framework", &endpoints.service, endpoints)
    }

    /// The batch framework.
    pub fn batch(endpoints: &Endpoints) -> Self {
        Self::new("batch framework", &endpoints.batch, endpoints)
    }

    fn new(who: &'static str, address: &str, endpoints: &Endpoints) -> Self {
        let built = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .build();
        // Only a TLS backend that cannot be set up fails here, and none is asked for.
        let client = built.unwrap_or_default();
        Self {
            who,
            address: address
                .trim_start_matches("http://")
                .trim_end_matches('/')
                .to_owned(),
            authorization: endpoints.authorization.clone(),
            client,
        }
    }

    /// Where it is: `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks, and takes an answer that says yes.
    ///
    /// # Errors
    /// If nobody answers, or the answer says no.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let (status, answer) = self.send(method, path, body).await?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(Failure::Refused {
            who: self.who,
            status,
            words: words(&answer, status),
        })
    }

    /// Asks, and takes any answer.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Failure> {
        let url = format!("http://{}{path}", self.address);
        let mut request = self
            .client
            .request(method, url)
            .header(header::ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = |error: reqwest::Error| Failure::Unreachable {
            who: self.who,
            address: self.address.clone(),
            why: if error.is_timeout() {
                "no answer in time".to_owned()
            } else {
                root(&error)
            },
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        let answer = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((status, answer))
    }

    /// A list.
    ///
    /// # Errors
    /// If nobody answers, the answer says no, or is no list.
    pub async fn list(&self, path: &str, field: Option<&str>) -> Result<Vec<Value>, Failure> {
        let mut answer = self.ask(Method::GET, path, None).await?;
        let list = match field {
            Some(field) => answer[field].take(),
            None => answer,
        };
        match list {
            Value::Array(items) => Ok(items),
            other => Err(Failure::Nonsense {
                who: self.who,
                words: short(&other.to_string()),
            }),
        }
    }
}

/// What a refusal says: its message, and each thing that is wrong with its place.
fn words(answer: &Value, status: StatusCode) -> String {
    let mut words = match answer["message"].as_str() {
        Some(message) => message.to_owned(),
        None if answer.as_str().is_some_and(|text| !text.is_empty()) => {
            short(answer.as_str().unwrap_or_default())
        }
        None => status.to_string(),
    };
    for detail in answer["details"].as_array().into_iter().flatten() {
        let path = detail["path"].as_str().unwrap_or("/");
        let errors = detail["errors"].as_array().into_iter().flatten();
        for error in errors.filter_map(Value::as_str) {
            words.push_str(&format!("\n  {path}: {error}"));
        }
    }
    words
}

fn short(text: &str) -> String {
    text.chars().take(WORDS_MAX).collect()
}

/// One step of a path, with everything escaped that has a meaning there.
pub fn escape(step: &str) -> String {
    let mut escaped = String::with_capacity(step.len());
    for byte in step.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_are_told_with_all_their_details() {
        let refused = json!({
            "message": "Object is not valid",
            "details": [{"path": "/run/mem", "errors": ["is 1, must be more", "and whole"]}, {"path": "/id", "errors": ["no"]}],
        });
        let told = words(&refused, StatusCode::UNPROCESSABLE_ENTITY);
        let expected =
            "Object is not valid\n  /run/mem: is 1, must be more\n  /run/mem: and whole\n  /id: no";
        assert_eq!(told, expected);
        assert_eq!(words(&json!("plain"), StatusCode::NOT_FOUND), "plain");
        assert_eq!(words(&Value::Null, StatusCode::NOT_FOUND), "404 Not Found");
    }

    #[test]
    fn steps_are_escaped() {
        assert_eq!(escape("a/b c"), "a%2Fb%20c");
    }
}
