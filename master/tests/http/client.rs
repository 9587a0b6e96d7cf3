//! The least of an HTTP/1.1 client: it sees what came over the wire, chunk by chunk.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::rig::soon;

#[derive(Clone, Debug)]
pub struct Ask {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Ask {
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A JSON call.
    pub fn json(target: &str, body: &Value) -> Self {
        Self {
            body: body.to_string().into_bytes(),
            ..Self::new("POST", target).header("Content-Type", "application/json")
        }
    }

    /// A protobuf call that wants protobuf back.
    pub fn protobuf(target: &str, body: Vec<u8>) -> Self {
        Self {
            body,
            ..Self::new("POST", target)
                .header("Content-Type", "application/x-protobuf")
                .header("Accept", "application/x-protobuf")
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: test\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.method != "GET" && self.method != "HEAD" {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in small letters, without the date.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name)?;
        Some(&found.1)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// A connection whose answers are read one after the other.
pub struct Wire {
    socket: BufReader<TcpStream>,
    /// Whether the closing chunk of the last stream came.
    pub ended: bool,
}

impl Wire {
    pub async fn dial(addr: SocketAddr) -> Self {
        let socket = soon(TcpStream::connect(addr)).await.expect("connects");
        Self {
            socket: BufReader::new(socket),
            ended: false,
        }
    }

    pub async fn send(&mut self, ask: &Ask) {
        // A server that has answered already may have stopped to listen.
        let _ = soon(self.socket.write_all(&ask.bytes())).await;
    }

    /// Sends the head of a call and the beginning of its body, of no length that is known.
    pub async fn begin(&mut self, ask: &Ask) {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: test\r\n", ask.method, ask.target);
        for (name, value) in &ask.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n2\r\n{\"\r\n");
        soon(self.socket.write_all(head.as_bytes()))
            .await
            .expect("writes");
    }

    /// Reads a status and headers.
    pub async fn head(&mut self) -> Answer {
        let first = self.line().await.expect("an answer");
        let status = first.split(' ').nth(1).expect("a status");
        let mut answer = Answer {
            status: status.parse().expect("a number"),
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let line = self.line().await.expect("a header");
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            let name = name.to_ascii_lowercase();
            if name != "date" {
                answer.headers.push((name, value.trim().to_owned()));
            }
        }
        self.ended = false;
        answer
    }

    /// Asks and reads the whole answer.
    pub async fn ask(&mut self, ask: &Ask) -> Answer {
        self.send(ask).await;
        let mut answer = self.head().await;
        if ask.method == "HEAD" {
            return answer;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                answer.body.extend_from_slice(&chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            answer.body = self.exactly(length.parse().expect("a number")).await;
        }
        answer
    }

    /// The next chunk; `None` when the stream is over. It ended well if [`Wire::ended`].
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line().await?;
        let length = usize::from_str_radix(line.trim(), 16).expect("a length");
        let chunk = self.exactly(length).await;
        self.line().await?;
        if length == 0 {
            self.ended = true;
            return None;
        }
        Some(chunk)
    }

    /// The next record of a stream: one chunk holds one.
    pub async fn record(&mut self) -> Option<Vec<u8>> {
        let chunk = self.chunk().await?;
        let newline = chunk
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a length");
        let length = std::str::from_utf8(&chunk[..newline]).expect("digits");
        let record = chunk[newline + 1..].to_vec();
        assert_eq!(length, record.len().to_string());
        Some(record)
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            match soon(self.socket.read_u8()).await {
                Ok(b'\n') => break,
                Ok(byte) => line.push(byte),
                Err(_) => return None,
            }
        }
        Some(String::from_utf8(line).expect("text").trim_end().to_owned())
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        soon(self.socket.read_exact(&mut bytes))
            .await
            .expect("the whole body");
        bytes
    }
}

/// Asks on a connection of its own.
pub async fn ask(addr: SocketAddr, ask: &Ask) -> Answer {
    Wire::dial(addr).await.ask(ask).await
}
