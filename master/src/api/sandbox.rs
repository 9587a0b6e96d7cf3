//! Reading the sandbox of a task: the core finds the agent, and the agent's own link carries the pieces.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use mezzo_wire::link::sandbox_server::Sandbox;
use mezzo_wire::link::{ReadSandbox, SandboxChunk};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::desk::{Brought, CHUNKS_MAX, Desk, Gone, Way};
use crate::keys::ReadId;

/// The door.
#[derive(Debug)]
pub struct Door {
    desk: Desk,
}

impl Door {
    /// A door that hands over at this desk.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }
}

/// The pieces of one read. Dropped when the reader goes, which the core then learns.
#[derive(Debug)]
pub struct Chunks {
    chunks: mpsc::Receiver<SandboxChunk>,
    read: ReadId,
    way: Way,
}

impl Stream for Chunks {
    type Item = Result<SandboxChunk, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_recv(cx).map(|chunk| chunk.map(Ok))
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.way.tell_gone(Gone::Reader(self.read));
    }
}

#[tonic::async_trait]
impl Sandbox for Door {
    type ReadStream = Chunks;

    async fn read(&self, request: Request<ReadSandbox>) -> Result<Response<Chunks>, Status> {
        let way = self.desk.way()?;
        let read = ReadId(self.desk.number());
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let request = Box::new(request.into_inner());
        way.bring(Brought::Read { read, request, chunks: sender }).await?;
        Ok(Response::new(Chunks { chunks, read, way }))
    }
}
