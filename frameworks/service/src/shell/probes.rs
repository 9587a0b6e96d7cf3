//! Carries out the health checks that the core orders: HTTP, HTTPS and TCP, a bounded number at once.
//!
//! Invariant: each order brings exactly one answer while its term lasts.

use std::sync::Arc;

use mezzo_model::Millis;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use crate::core::health::{ProbeOrder, ProbeResult, ProbeTarget};

/// Probes under way at once; more wait for their turn.
const MAX_AT_ONCE: usize = 256;
/// Answers that may wait for the core.
pub const MAX_ANSWERS: usize = 1024;
/// The most of an error's words that is kept, in characters.
const MAX_WORDS: usize = 200;

/// What probes share over all terms.
#[derive(Clone, Debug)]
pub struct Prober {
    client: reqwest::Client,
    places: Arc<Semaphore>,
}

/// Probes of one term.
#[derive(Debug)]
pub struct Probes {
    prober: Prober,
    answers: mpsc::Sender<(u64, ProbeResult)>,
}

impl Prober {
    /// A prober. Certificates are not verified: an instance has an address, not a name that one could be made out for.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        // Another daemon of this process may have installed it before; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_danger_accept_invalid_certs(true)
            // A kept connection would hide that nobody listens any more.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("mezzo/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            client,
            places: Arc::new(Semaphore::new(MAX_AT_ONCE)),
        })
    }

    /// Probes whose answers go to one term's core.
    pub fn begin(&self, answers: mpsc::Sender<(u64, ProbeResult)>) -> Probes {
        Probes {
            prober: self.clone(),
            answers,
        }
    }
}

impl Probes {
    /// Begins a probe.
    pub fn order(&self, probe: u64, order: ProbeOrder) {
        let (prober, answers) = (self.prober.clone(), self.answers.clone());
        tokio::spawn(async move {
            let Ok(_place) = prober.places.clone().acquire_owned().await else {
                return;
            };
            let result = tokio::select! {
                result = run(&prober.client, order) => result,
                // The term is over; nobody waits.
                () = answers.closed() => return,
            };
            let _ = answers.send((probe, result)).await;
        });
    }
}

async fn run(client: &reqwest::Client, order: ProbeOrder) -> ProbeResult {
    let late = |timeout: Millis| ProbeResult::Failed(format!("no answer within {timeout}"));
    let asked = ask(client, &order.target);
    match tokio::time::timeout(order.timeout.to_std(), asked).await {
        Ok(result) => result,
        Err(_) => late(order.timeout),
    }
}

async fn ask(client: &reqwest::Client, target: &ProbeTarget) -> ProbeResult {
    match target {
        ProbeTarget::Http { url } => match client.get(url).send().await {
            Ok(response) => ProbeResult::Status(response.status().as_u16()),
            Err(error) => ProbeResult::Failed(words(&error)),
        },
        ProbeTarget::Tcp { host, port } => match TcpStream::connect((host.as_str(), *port)).await {
            Ok(_) => ProbeResult::Connected,
            Err(error) => ProbeResult::Failed(words(&error)),
        },
    }
}

/// The innermost cause: `connection refused` rather than `error sending request`.
fn words(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn probe(target: ProbeTarget) -> ProbeResult {
        let (answers, mut answered) = mpsc::channel(1);
        let probes = Prober::new().expect("a client").begin(answers);
        probes.order(
            7,
            ProbeOrder {
                target,
                timeout: Millis(2000),
            },
        );
        let (id, result) = answered.recv().await.expect("one answer");
        assert_eq!(id, 7);
        result
    }

    async fn server(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    /// Answers over TLS, with a certificate that nobody signed.
    fn tls_server(answer: &'static str) -> u16 {
        use std::io::{Read as _, Write as _};

        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};

        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate = include_bytes!("../../tests/https/certificate.pem");
        let certificate = CertificateDer::from_pem_slice(certificate).expect("a certificate");
        let key = include_bytes!("../../tests/https/key.pem");
        let key = PrivateKeyDer::from_pem_slice(key).expect("a key");
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        let config = Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let session = rustls::ServerConnection::new(config.clone()).expect("a session");
                let mut stream = rustls::StreamOwned::new(session, stream);
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        port
    }

    #[tokio::test]
    async fn an_instance_needs_no_certificate_that_is_trusted() {
        let answer = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let port = tls_server(answer);
        let https = ProbeTarget::Http {
            url: format!("https://127.0.0.1:{port}/up"),
        };
        assert_eq!(probe(https).await, ProbeResult::Status(204));
    }

    #[tokio::test]
    async fn answers_are_told_as_they_are() {
        let up = server("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").await;
        let moved = server(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
        let http = |port: u16| ProbeTarget::Http {
            url: format!("http://127.0.0.1:{port}/up"),
        };
        assert_eq!(probe(http(up)).await, ProbeResult::Status(204));
        assert_eq!(
            probe(http(moved)).await,
            ProbeResult::Status(302),
            "redirects are not followed"
        );
        let host = "127.0.0.1".to_owned();
        assert_eq!(
            probe(ProbeTarget::Tcp {
                host: host.clone(),
                port: up
            })
            .await,
            ProbeResult::Connected
        );
        let dead = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port")
            .local_addr()
            .expect("one")
            .port();
        let refused = probe(http(dead)).await;
        assert!(
            matches!(&refused, ProbeResult::Failed(words) if words.contains("refused")),
            "{refused:?}"
        );
        let refused = probe(ProbeTarget::Tcp { host, port: dead }).await;
        assert!(
            matches!(&refused, ProbeResult::Failed(words) if words.contains("refused")),
            "{refused:?}"
        );
        let no_tls = probe(ProbeTarget::Http {
            url: format!("https://127.0.0.1:{up}/"),
        })
        .await;
        assert!(matches!(no_tls, ProbeResult::Failed(_)));
    }

    #[tokio::test]
    async fn silence_is_a_failure_after_the_timeout() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", silent.local_addr().expect("one"));
        let order = ProbeOrder {
            target: ProbeTarget::Http { url },
            timeout: Millis(50),
        };
        let result = run(&Prober::new().expect("a client").client, order).await;
        assert_eq!(
            result,
            ProbeResult::Failed("no answer within 50ms".to_owned())
        );
    }
}
