//! Reads of sandboxes, relayed over the agent's own link in windows: the next window is asked for when the last one was
//! read, so that a slow reader holds up nobody and fills no queue.

use std::sync::Arc;

use mezzo_wire::link::sandbox_server::Sandbox;
use mezzo_wire::link::{ReadSandbox, SandboxChunk};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

use crate::front::{self, Front, Knock, Office};
use crate::keys::ReadId;

/// Bytes that are asked for at once.
const WINDOW: u64 = 1 << 20;

/// Pieces of one window that may wait here; an agent that cuts finer is asked again from where the reader is.
const MAX_PIECES: usize = 256;

/// Pieces that may wait for the reader.
const MAX_UNREAD: usize = 4;

/// The door.
#[derive(Clone, Debug)]
pub(super) struct Door {
    front: Front,
}

impl Door {
    pub fn new(front: Front) -> Self {
        Self { front }
    }
}

#[async_trait]
impl Sandbox for Door {
    type ReadStream = ReceiverStream<Result<SandboxChunk, Status>>;

    async fn read(
        &self,
        request: Request<ReadSandbox>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let office = self.front.office()?;
        let (pieces, stream) = mpsc::channel(MAX_UNREAD);
        let relay = Relay {
            office,
            request: request.into_inner(),
            pieces,
        };
        tokio::spawn(relay.run());
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

struct Relay {
    office: Arc<Office>,
    request: ReadSandbox,
    pieces: mpsc::Sender<Result<SandboxChunk, Status>>,
}

/// How a window ended.
enum Window {
    /// The agent said that it was the end of what was asked for; so many bytes came.
    Ended(u64),
    /// Too many pieces waited: ask again.
    Cut(u64),
    /// The reader is gone, or was told why there is no more.
    Over,
}

/// Takes a read back when it is dropped.
struct Asked {
    office: Arc<Office>,
    read: ReadId,
    is_over: bool,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.is_over {
            let (office, read) = (self.office.clone(), self.read);
            tokio::spawn(async move {
                // If the term is over there is nothing to take back.
                let _ = office.knock(Knock::CancelRead(read)).await;
            });
        }
    }
}

impl Relay {
    async fn run(mut self) {
        let mut left = self.request.length;
        loop {
            let window = left.map_or(WINDOW, |left| left.min(WINDOW));
            let came = match self.window(window).await {
                Window::Over => return,
                Window::Cut(came) => came,
                Window::Ended(came) if came < window => {
                    return self.end().await;
                }
                Window::Ended(came) => came,
            };
            if let Some(left) = &mut left {
                *left = left.saturating_sub(came);
                if *left == 0 {
                    return self.end().await;
                }
            }
        }
    }

    async fn end(self) {
        let last = SandboxChunk {
            offset: self
                .request
                .offset
                .and_then(|offset| u64::try_from(offset).ok()),
            end: Some(true),
            ..Default::default()
        };
        let _ = self.pieces.send(Ok(last)).await;
    }

    /// Asks for one window and passes its pieces on.
    async fn window(&mut self, length: u64) -> Window {
        let read = self.office.read_id();
        let (chunks, mut arrived) = mpsc::channel(MAX_PIECES);
        let request = ReadSandbox {
            length: Some(length),
            ..self.request.clone()
        };
        let mut asked = Asked {
            office: self.office.clone(),
            read,
            is_over: false,
        };
        let knock = Knock::Read {
            read,
            request: Box::new(request),
            chunks,
        };
        if let Err(status) = self.office.knock(knock).await {
            asked.is_over = true;
            let _ = self.pieces.send(Err(status)).await;
            return Window::Over;
        }
        let mut came = 0;
        while let Some(mut chunk) = self.next(&mut arrived).await {
            let is_last = chunk.end.unwrap_or(false);
            let is_error = chunk.error.is_some();
            asked.is_over = is_last;
            let bytes = chunk.data.as_ref().map_or(0, |data| data.len() as u64);
            came += bytes;
            if let Some(offset) = chunk.offset {
                // From here on offsets are counted from the start, whatever was asked for.
                self.request.offset = i64::try_from(offset.saturating_add(bytes)).ok();
            }
            chunk.end = Some(is_error);
            if (bytes > 0 || is_error) && self.pieces.send(Ok(chunk)).await.is_err() {
                return Window::Over;
            }
            if is_error {
                return Window::Over;
            }
            if is_last {
                return Window::Ended(came);
            }
        }
        if self.pieces.is_closed() {
            return Window::Over;
        }
        asked.is_over = true;
        if came == 0 {
            // Nothing came and nothing will: the term is over.
            let _ = self.pieces.send(Err(front::over())).await;
            return Window::Over;
        }
        Window::Cut(came)
    }

    /// The next piece; `None` as soon as the reader is gone, too.
    async fn next(&self, arrived: &mut mpsc::Receiver<SandboxChunk>) -> Option<SandboxChunk> {
        tokio::select! {
            chunk = arrived.recv() => chunk,
            () = self.pieces.closed() => None,
        }
    }
}
