//! One connection of an executor, from hello to end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mezzo_executor::frame::{self, FrameReader};
use mezzo_executor::hello::{Answer, HELLO_BYTES_MAX, Hello};
use mezzo_model::ids::{ContainerId, ExecutorId, FrameworkId};
use mezzo_wire::v1::executor::{Call, Event, event};
use mezzo_wire::{DecodeError, decode_checked};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Door, ToConn};
use crate::core::{ConnId, Input};

/// How long a hello may take.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// How long last words may take to be taken.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is read at once, in bytes.
const READ_BYTES: usize = 16 * 1_024;

/// Who somebody proved to be.
struct Known {
    framework: FrameworkId,
    executor: ExecutorId,
    container: ContainerId,
}

pub(super) async fn run(door: Arc<Door>, mut stream: UnixStream) {
    let own = nix::unistd::geteuid().as_raw();
    let is_own = stream.peer_cred().is_ok_and(|peer| peer.uid() == own);
    // Strangers share a few places until they have proved who they are; the agent's own executors wait for nobody.
    let place = match is_own {
        true => None,
        false => match door.strangers.clone().try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => return,
        },
    };
    let mut frames = FrameReader::default();
    let hello = tokio::time::timeout(HELLO_PATIENCE, hello(&stream, &mut frames)).await;
    let known = match hello {
        Ok(Ok(line)) => prove(&door, &line),
        Ok(Err(words)) => Err(words),
        Err(_) => Err("no hello came in time".to_owned()),
    };
    drop(place);
    let known = match known {
        Ok(known) => known,
        Err(words) => return send_away(&mut stream, words).await,
    };
    let heard = door.hears(&known.container);
    let (conn, events, close, cut) = door.register();
    tokio::select! {
        () = cut.cancelled() => {}
        () = serve(&door, conn, stream, frames, known, events, close) => {}
    }
    door.forget(conn);
    let _ = door.inbox.put(Input::ExecutorGone { conn }).await;
    heard.cancel();
}

/// Reads the first line; what follows it are frames.
async fn hello(stream: &UnixStream, frames: &mut FrameReader) -> Result<String, String> {
    let mut line = Vec::new();
    loop {
        let bytes = read(stream).await.map_err(|error| error.to_string())?;
        if bytes.is_empty() {
            return Err("the connection ended before a hello".to_owned());
        }
        line.extend_from_slice(&bytes);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            frames.push(&line[end + 1..]);
            line.truncate(end);
            return String::from_utf8(line).map_err(|_| "the hello is no text".to_owned());
        }
        if line.len() > HELLO_BYTES_MAX {
            return Err(format!("the hello is longer than {HELLO_BYTES_MAX} bytes"));
        }
    }
}

/// What is there to be read; nothing at the end. No buffer is held while nothing comes.
async fn read(stream: &UnixStream) -> io::Result<Vec<u8>> {
    loop {
        stream.readable().await?;
        let mut buffer = [0; READ_BYTES];
        match stream.try_read(&mut buffer) {
            Ok(read) => return Ok(buffer[..read].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn prove(door: &Door, line: &str) -> Result<Known, String> {
    let hello = Hello::parse(line).map_err(|error| error.to_string())?;
    let words = |what: &'static str| {
        move |error: mezzo_model::ids::IdError| format!("the {what} in the hello: {error}")
    };
    let known = Known {
        framework: FrameworkId::parse(&hello.framework_id).map_err(words("framework"))?,
        executor: ExecutorId::parse(&hello.executor_id).map_err(words("executor"))?,
        container: ContainerId::parse(&hello.container_id).map_err(words("container"))?,
    };
    if !door.tokens.check(&hello.container_id, &hello.token) {
        return Err(format!(
            "the token is not that of container {}",
            known.container
        ));
    }
    Ok(known)
}

async fn send_away(stream: &mut UnixStream, words: String) {
    tracing::warn!("an executor was sent away: {words}");
    let line = Answer::Refused(words).line();
    let _ = tokio::time::timeout(FAREWELL, async {
        stream.write_all(line.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

async fn serve(
    door: &Door,
    conn: ConnId,
    mut stream: UnixStream,
    mut frames: FrameReader,
    known: Known,
    mut events: mpsc::Receiver<ToConn>,
    close: CancellationToken,
) {
    let input = Input::ExecutorHello {
        conn,
        framework: known.framework,
        executor: known.executor,
        container: known.container,
    };
    if door.inbox.put(input).await.is_err() {
        return;
    }
    match events.recv().await {
        Some(ToConn::Answer(Ok(()))) => {
            if stream
                .write_all(Answer::Ok.line().as_bytes())
                .await
                .is_err()
            {
                return;
            }
        }
        Some(ToConn::Answer(Err(words))) => return send_away(&mut stream, words).await,
        Some(ToConn::Event(_)) | None => return,
    }
    let (reader, mut writer) = stream.split();
    let hearing = hear(door, conn, reader.as_ref(), &mut frames);
    let speaking = speak(&mut writer, &mut events, &close);
    let complaint = tokio::select! {
        biased;
        complaint = hearing => complaint,
        () = speaking => None,
    };
    if let Some(words) = complaint {
        tracing::warn!(conn, "an executor's connection is closed: {words}");
        let _ = tokio::time::timeout(FAREWELL, write(&mut writer, &error(words))).await;
    }
}

/// Takes in what an executor says; what was wrong in the end, if something was.
async fn hear(
    door: &Door,
    conn: ConnId,
    stream: &UnixStream,
    frames: &mut FrameReader,
) -> Option<String> {
    loop {
        loop {
            let frame = match frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(too_long) => return Some(too_long.to_string()),
            };
            let bytes = frame.len();
            let call: Call = match decode_checked(frame) {
                Ok(call) => call,
                Err(error) => return Some(words(&error)),
            };
            let input = Input::ExecutorCall {
                conn,
                call: Box::new(call),
            };
            door.inbox.put_call(input, bytes).await.ok()?;
        }
        match read(stream).await {
            Ok(bytes) if bytes.is_empty() => return None,
            Ok(bytes) => frames.push(&bytes),
            Err(_) => return None,
        }
    }
}

fn words(error: &DecodeError) -> String {
    format!("{error}: {}", error.cause)
}

/// Sends events until the connection is to be closed and all is out, or nobody takes them.
async fn speak(
    writer: &mut (impl AsyncWriteExt + Unpin),
    events: &mut mpsc::Receiver<ToConn>,
    close: &CancellationToken,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = events.recv() => next,
            // Only now, when nothing waits to be sent.
            () = close.cancelled() => None,
        };
        match next {
            Some(ToConn::Event(event)) => {
                if write(writer, &event).await.is_err() {
                    return;
                }
            }
            Some(ToConn::Answer(_)) => {}
            None => return,
        }
    }
}

async fn write(writer: &mut (impl AsyncWriteExt + Unpin), event: &Event) -> io::Result<()> {
    let mut bytes = Vec::new();
    frame::encode(event, &mut bytes).map_err(io::Error::other)?;
    writer.write_all(&bytes).await
}

fn error(message: String) -> Event {
    Event {
        r#type: Some(event::Type::Error as i32),
        error: Some(event::Error { message }),
        ..Default::default()
    }
}
