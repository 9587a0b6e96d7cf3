//! A stream of events as the body of an answer: one record to a chunk.
//!
//! A task of its own takes events out of the inbox that the core fills, writes them as records and hands them to the
//! connection. Invariant: a reader that takes nothing for [`PATIENCE`] is cut, and what waited for it is forgotten;
//! a stream that is cut ends without the closing chunk, one that the core closed ends with it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use mezzo_wire::{Described, recordio};
use tokio::sync::mpsc;

use super::media::Media;
use crate::front::Inbox;

/// Records that are written and wait for the connection.
const MAX_RECORDS: usize = 16;

/// For so long a reader may take nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The body that a stream of events is.
pub(super) fn body<E: Described + Send>(events: Inbox<E>, media: Media) -> Body {
    patient_body(events, media, PATIENCE)
}

fn patient_body<E: Described + Send>(events: Inbox<E>, media: Media, patience: Duration) -> Body {
    let (records, taken) = mpsc::channel(MAX_RECORDS);
    let is_cut = Arc::new(AtomicBool::new(false));
    tokio::spawn(pump(events, media, patience, records, is_cut.clone()));
    Body::from_stream(Records { taken, is_cut })
}

async fn pump<E: Described + Send>(
    mut events: Inbox<E>,
    media: Media,
    patience: Duration,
    records: mpsc::Sender<Bytes>,
    is_cut: Arc<AtomicBool>,
) {
    loop {
        let event = tokio::select! {
            () = records.closed() => return,
            event = events.next() => event,
        };
        let record = match event {
            None => return,
            Some(Ok(event)) => recordio::encode(&media.write(&event)),
            Some(Err(status)) => {
                tracing::info!("a stream was {}", status.message());
                return is_cut.store(true, Ordering::Release);
            }
        };
        match tokio::time::timeout(patience, records.send(record)).await {
            Ok(Ok(())) => {}
            // The reader is gone.
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::info!("a stream was cut off: nothing was read for {patience:?}");
                return is_cut.store(true, Ordering::Release);
            }
        }
    }
}

/// The records as a body takes them.
struct Records {
    taken: mpsc::Receiver<Bytes>,
    is_cut: Arc<AtomicBool>,
}

/// The stream ends here, and not because it is over.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream was cut off")
    }
}

impl std::error::Error for Cut {}

impl Stream for Records {
    type Item = Result<Bytes, Cut>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.taken.poll_recv(cx).map(|record| match record {
            Some(record) => Some(Ok(record)),
            // Whoever reads on after this gets the end.
            None => self
                .is_cut
                .swap(false, Ordering::AcqRel)
                .then_some(Err(Cut)),
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use mezzo_wire::v1::scheduler::{Event, event};

    use super::*;
    use crate::front::{self, Office};
    use crate::read_model;

    /// An office with nobody in it.
    fn office() -> (
        Arc<Office>,
        tokio::sync::mpsc::UnboundedReceiver<crate::keys::ConnId>,
    ) {
        let master = mezzo_wire::v1::master::response::GetMaster::default();
        let (_, reader) = read_model::start(read_model::Limits::default(), master).unwrap();
        let (office, _, gone) = Office::new(reader);
        (office, gone)
    }

    fn heartbeat() -> Event {
        Event {
            r#type: Some(event::Type::Heartbeat as i32),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn one_record_to_a_chunk_and_an_end() {
        let (office, mut gone) = office();
        let (outbox, inbox) = front::stream(office.connection());
        assert!(outbox.put(heartbeat()) && outbox.put(heartbeat()));
        drop(outbox);
        let mut body = body(inbox, Media::Json);
        for _ in 0..2 {
            let chunk = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(chunk, "20\n{\"type\":\"HEARTBEAT\"}");
        }
        assert!(body.frame().await.is_none());
        assert!(gone.recv().await.is_some());
    }

    #[tokio::test]
    async fn who_takes_nothing_is_cut_and_forgotten() {
        let (office, mut gone) = office();
        let (outbox, inbox) = front::stream(office.connection());
        let body = patient_body(inbox, Media::Json, Duration::from_millis(20));
        for _ in 0..MAX_RECORDS + 2 {
            assert!(outbox.put(heartbeat()));
        }
        gone.recv().await.expect("the core is told");
        assert!(outbox.is_deserted());
        let end = body.collect().await.expect_err("no clean end");
        assert!(end.to_string().contains("cut off"), "{end}");
    }

    #[tokio::test]
    async fn who_goes_away_is_told_of() {
        let (office, mut gone) = office();
        let (outbox, inbox) = front::stream::<Event>(office.connection());
        drop(body(inbox, Media::Protobuf));
        gone.recv().await.expect("the core is told");
        assert!(!outbox.put(heartbeat()));
    }
}
