//! The accept loop: HTTP/1.1 and HTTP/2 (with prior knowledge, as gRPC speaks it) on one socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::task::TaskTracker;

use crate::{Door, MAX_BODY_BYTES, Stop};

/// Connections served at once; one more waits in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 16_384;

/// How long answers under way may take to finish once the daemon was told to stop.
pub const GRACE: Duration = Duration::from_secs(2);

/// A client that sends no complete header in this time is cut (a slow loris holds a connection for no longer).
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// HTTP/2 pings on idle connections, so that a half-open one is noticed and cut.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A client that takes nothing of what it is sent for so long is cut: it hangs, or its machine is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// After the kernel refused a connection (out of descriptors, mostly), so that the loop does not spin on the refusal.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the router on the door until `stop`, then lets answers under way finish for [`GRACE`] and cuts the rest.
pub async fn serve(door: Door, router: Router, stop: Stop) {
    let router = router.layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let cut = Stop::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = stop.stopped() => break,
            accepted = door.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => {
                let connection = connection(
                    stream,
                    router.clone(),
                    stop.clone(),
                    cut.clone(),
                    WRITE_TIMEOUT,
                );
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(door);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait())
        .await
        .is_err()
    {
        cut.stop();
        connections.wait().await;
    }
}

async fn connection(stream: TcpStream, router: Router, stop: Stop, cut: Stop, patience: Duration) {
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(1024)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024);
    let served = builder.serve_connection_with_upgrades(
        TokioIo::new(Box::pin(stream)),
        TowerToHyperService::new(router),
    );
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.stopped() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                ended = served.as_mut() => ended,
                () = cut.stopped() => return,
            }
        }
    };
    if let Err(error) = ended {
        // A client that goes away in the middle is everyday life, not an error of the daemon.
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Instant;

    use axum::routing::get;
    use hyper::body::Frame;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{Bind, Guard, Vitals};

    async fn ask(addr: std::net::SocketAddr, path: &str, more: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        answer
    }

    #[tokio::test]
    async fn health_follows_the_daemon_and_the_guard_keeps_strangers_out() {
        let credentials =
            mezzo_model::credentials::Credentials::parse("ann secret\n").expect("parses");
        let vitals = Vitals::new("test");
        let guard = Guard::new(Some(Arc::new(credentials)), "mezzo-test", &["/health"]);
        let router = vitals.routes().route("/page", get(|| async { "page" }));
        let door = Bind::loopback(0).open().await.expect("opens");
        let (addr, stop) = (door.addr(), Stop::new());
        let served = tokio::spawn(serve(door, guard.protect(router), stop.clone()));

        assert!(ask(addr, "/health", "").await.starts_with("HTTP/1.1 503"));
        vitals.health.good();
        assert!(ask(addr, "/health", "").await.starts_with("HTTP/1.1 200"));
        let stranger = ask(addr, "/page", "").await;
        assert!(stranger.starts_with("HTTP/1.1 401"), "{stranger}");
        assert!(
            stranger
                .to_lowercase()
                .contains("www-authenticate: basic realm=\"mezzo-test\"")
        );
        let known = ask(addr, "/page", "Authorization: Basic YW5uOnNlY3JldA==\r\n").await;
        assert!(known.ends_with("page"), "{known}");
        let wrong = ask(addr, "/page", "Authorization: Basic YW5uOndyb25n\r\n").await;
        assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");

        stop.stop();
        served.await.expect("ends");
    }

    #[tokio::test]
    async fn a_stopped_door_lets_an_answer_under_way_finish() {
        let (begun, mut has_begun) = tokio::sync::mpsc::channel::<()>(1);
        let (let_go, may_go) = tokio::sync::watch::channel(false);
        let slow = move || {
            let (begun, mut may_go) = (begun.clone(), may_go.clone());
            async move {
                let _ = begun.send(()).await;
                let _ = may_go.wait_for(|go| *go).await;
                "late but whole"
            }
        };
        let door = Bind::loopback(0).open().await.expect("opens");
        let (addr, stop) = (door.addr(), Stop::new());
        let served = tokio::spawn(serve(
            door,
            Router::new().route("/slow", get(slow)),
            stop.clone(),
        ));
        let asked = tokio::spawn(async move { ask(addr, "/slow", "").await });
        has_begun.recv().await.expect("the request arrived");
        stop.stop();
        let_go.send_replace(true);
        assert!(asked.await.expect("no panic").ends_with("late but whole"));
        let start = Instant::now();
        served.await.expect("ends");
        assert!(start.elapsed() < GRACE, "nothing was left to wait for");
    }

    /// An answer without an end, which says when it is given up.
    struct Endless(tokio::sync::mpsc::Sender<()>);

    impl Drop for Endless {
        fn drop(&mut self) {
            let _ = self.0.try_send(());
        }
    }

    impl hyper::body::Body for Endless {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
            let chunk = bytes::Bytes::from_static(&[b'x'; 64 * 1024]);
            Poll::Ready(Some(Ok(Frame::data(chunk))))
        }
    }

    #[tokio::test]
    async fn who_takes_nothing_is_cut() {
        let patience = Duration::from_millis(100);
        let (given_up, mut is_given_up) = tokio::sync::mpsc::channel(1);
        let endless = move || {
            let given_up = given_up.clone();
            async move { axum::body::Body::new(Endless(given_up)) }
        };
        let router = Router::new().route("/endless", get(endless));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let reader = TcpStream::connect(listener.local_addr().expect("bound")).await;
        let mut reader = reader.expect("connects");
        let (stream, _) = listener.accept().await.expect("accepts");
        let served = connection(stream, router, Stop::new(), Stop::new(), patience);
        let request = b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n";
        reader.write_all(request).await.expect("writes");
        // It stays connected and reads nothing.
        served.await;
        assert_eq!(is_given_up.recv().await, Some(()));
        drop(reader);
    }
}
