//! A small REST client for the frameworks' doors.

use serde_json::Value;

/// One framework's address.
#[derive(Clone, Debug)]
pub struct Rest {
    base: String,
    client: reqwest::Client,
}

/// A status and a body, JSON if it was that.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON; `Null` if it is not.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The body as JSON if the status is one of success.
    ///
    /// # Errors
    /// Status and body of anything else.
    pub fn ok(self) -> Result<Value, String> {
        match self.status {
            200..300 => Ok(self.json()),
            status => Err(format!("{status}: {}", self.text)),
        }
    }
}

/// An HTTP client for loopback.
///
/// # Errors
/// If it cannot be made.
pub(super) fn http_client() -> anyhow::Result<reqwest::Client> {
    // An error means that somebody in this process was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let timeout = std::time::Duration::from_secs(20);
    Ok(reqwest::Client::builder()
        .no_proxy()
        .timeout(timeout)
        .build()?)
}

impl Rest {
    /// A client for `http://address`.
    ///
    /// # Errors
    /// If the HTTP client cannot be made.
    pub fn new(address: impl std::fmt::Display) -> anyhow::Result<Self> {
        let client = http_client()?;
        Ok(Self {
            base: format!("http://{address}"),
            client,
        })
    }

    /// Sends a request; a body is sent as JSON.
    ///
    /// # Errors
    /// If no answer came.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        Ok(Answer {
            status: response.status().as_u16(),
            text: response.text().await?,
        })
    }

    /// GET, as JSON, with a refusal or a dead connection as words.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        self.send("GET", path, None)
            .await
            .map_err(|error| format!("{error:#}"))?
            .ok()
    }

    /// POST of a JSON body.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.send("POST", path, Some(body))
            .await
            .map_err(|error| format!("{error:#}"))?
            .ok()
    }

    /// PUT of a JSON body.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.send("PUT", path, Some(body))
            .await
            .map_err(|error| format!("{error:#}"))?
            .ok()
    }
}
