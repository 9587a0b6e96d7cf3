//! The executor's end of the agent's unix socket: never blocks, and waits for the socket to come back without asking.
//!
//! One [`Link`] is one place to dial. It tells through [`LinkEvent`]s what happened and gives the caller's poll loop
//! the one descriptor to watch: the connection, or (inotify) the directory in which the socket will appear.
//! Invariant: it decides nothing; when to dial is the driver's word ([`super::core`]).

mod dial;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use mezzo_wire::decode_checked;
use mezzo_wire::v1::executor::{Call, Event};
use nix::poll::PollFlags;
use nix::sys::inotify::Inotify;

use super::core::DriverInput;
use super::frame::{self, FrameReader};
use super::hello::{ANSWER_BYTES_MAX, Answer, Hello};

/// Most bytes that wait for an agent that does not read; beyond it the connection is given up, and updates are said
/// again on the next one.
const OUTGOING_BYTES_MAX: usize = 2 * frame::FRAME_BYTES_MAX;
/// Bytes of one read; executors hear little.
const READ_BYTES: usize = 4096;
/// Most bytes taken before other work gets its turn.
const TURN_BYTES_MAX: usize = 64 * 1024;

/// What happened on the link; every one is an input of the driver.
pub type LinkEvent = DriverInput;

/// A place to dial, and the connection to it.
#[derive(Debug)]
pub struct Link {
    socket: PathBuf,
    hello: Hello,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not dialled yet, or given up.
    Idle,
    /// Nobody listens; the directory is watched.
    Watching(Inotify),
    /// Connected; the hello is said, its answer comes in here.
    Greeting { stream: Stream, answer: Vec<u8> },
    /// Frames go both ways.
    Open { stream: Stream, reader: FrameReader },
}

#[derive(Debug)]
struct Stream {
    socket: UnixStream,
    /// Bytes not yet taken by the kernel.
    outgoing: Vec<u8>,
}

impl Link {
    /// A link that was not dialled.
    pub fn new(socket: PathBuf, hello: Hello) -> Self {
        Self {
            socket,
            hello,
            state: State::Idle,
        }
    }

    /// Dials once. Says [`DriverInput::Unreachable`] if nobody listens; else the answer to the hello will tell.
    pub fn connect(&mut self, out: &mut Vec<LinkEvent>) {
        if let Ok(socket) = dial::connect(&self.socket) {
            return self.greet(socket, out);
        }
        // Once more under a watch: a socket that appears after this attempt cannot be missed.
        let watch = dial::watch(&self.socket).ok();
        match dial::connect(&self.socket) {
            Ok(socket) => self.greet(socket, out),
            Err(error) => {
                // A full backlog empties without a trace in the directory.
                let watched = watch.is_some() && error.kind() != io::ErrorKind::WouldBlock;
                self.state = watch.map_or(State::Idle, State::Watching);
                out.push(LinkEvent::Unreachable { watched });
            }
        }
    }

    fn greet(&mut self, socket: UnixStream, out: &mut Vec<LinkEvent>) {
        let mut stream = Stream {
            socket,
            outgoing: self.hello.line().into_bytes(),
        };
        // A peer that hung up already is dialled again after a pause.
        self.state = match stream.flush() {
            Ok(()) => State::Greeting {
                stream,
                answer: Vec::new(),
            },
            Err(_) => {
                out.push(LinkEvent::Unreachable { watched: false });
                State::Idle
            }
        };
    }

    /// The descriptor to poll and for what; `None` when there is nothing to wait for.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.state {
            State::Idle => None,
            State::Watching(watch) => Some((watch.as_fd(), PollFlags::POLLIN)),
            State::Greeting { stream, .. } | State::Open { stream, .. } => {
                let mut flags = PollFlags::POLLIN;
                flags.set(PollFlags::POLLOUT, !stream.outgoing.is_empty());
                Some((stream.socket.as_fd(), flags))
            }
        }
    }

    /// Sends a call, now or as soon as the agent reads. Without a connection it is dropped: the driver says again what
    /// matters.
    pub fn send(&mut self, call: &Call, out: &mut Vec<LinkEvent>) {
        let State::Open { stream, .. } = &mut self.state else {
            return;
        };
        let result = match frame::encode(call, &mut stream.outgoing) {
            Ok(()) if stream.outgoing.len() > OUTGOING_BYTES_MAX => {
                Err(io::Error::other("the agent does not read"))
            }
            Ok(()) => stream.flush(),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = result {
            self.lose(&error, out);
        }
    }

    /// To be called when the descriptor of [`Link::interest`] is ready.
    pub fn on_ready(&mut self, out: &mut Vec<LinkEvent>) {
        if let State::Watching(watch) = &self.state {
            // Which name appeared does not matter: one attempt costs less than the question.
            if watch.read_events().is_ok() {
                self.state = State::Idle;
                out.push(LinkEvent::Appeared);
            }
            return;
        }
        if let Err(error) = self.pump(out) {
            self.lose(&error, out);
        }
    }

    /// Whether there is a connection whose hello was taken.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Gives the connection up without a word.
    pub fn close(&mut self) {
        self.state = State::Idle;
    }

    fn lose(&mut self, error: &io::Error, out: &mut Vec<LinkEvent>) {
        let greeting = matches!(self.state, State::Greeting { .. });
        self.state = State::Idle;
        out.push(if greeting {
            LinkEvent::Unreachable { watched: false }
        } else {
            LinkEvent::Disconnected(error.to_string())
        });
    }

    /// Moves bytes both ways.
    fn pump(&mut self, out: &mut Vec<LinkEvent>) -> io::Result<()> {
        let mut bytes = [0; READ_BYTES];
        let mut taken = 0;
        while taken < TURN_BYTES_MAX {
            let stream = match &mut self.state {
                State::Greeting { stream, .. } | State::Open { stream, .. } => stream,
                State::Idle | State::Watching(_) => return Ok(()),
            };
            stream.flush()?;
            let count = match stream.socket.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            taken += count;
            self.take(bytes.get(..count).unwrap_or_default(), out)?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], out: &mut Vec<LinkEvent>) -> io::Result<()> {
        let mut rest = bytes;
        if let State::Greeting { answer, .. } = &mut self.state {
            let end = rest.iter().position(|&byte| byte == b'\n');
            let (line, after) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
            answer.extend_from_slice(line);
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::other("the answer to the hello is too long"));
            }
            if end.is_none() {
                return Ok(());
            }
            rest = after;
            self.end_greeting(out)?;
        }
        if let State::Open { reader, .. } = &mut self.state {
            reader.push(rest);
            while let Some(frame) = reader.next_frame().map_err(io::Error::other)? {
                let event: Event = decode_checked(frame).map_err(io::Error::other)?;
                out.push(LinkEvent::Event(Box::new(event)));
            }
        }
        Ok(())
    }

    fn end_greeting(&mut self, out: &mut Vec<LinkEvent>) -> io::Result<()> {
        let State::Greeting { answer, .. } = &self.state else {
            return Ok(());
        };
        // An error leaves the state as it is, so that `lose` can tell a greeting from an open connection.
        let answer = Answer::parse(&String::from_utf8_lossy(answer))
            .ok_or_else(|| io::Error::other("this is no agent's socket"))?;
        match (answer, std::mem::replace(&mut self.state, State::Idle)) {
            (Answer::Ok, State::Greeting { stream, .. }) => {
                let reader = FrameReader::default();
                self.state = State::Open { stream, reader };
                out.push(LinkEvent::Connected);
            }
            (Answer::Refused(words), _) => out.push(LinkEvent::Refused(words)),
            (Answer::Ok, other) => self.state = other,
        }
        Ok(())
    }
}

impl Stream {
    /// Hands the kernel what it takes.
    fn flush(&mut self) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = self.outgoing.get(done..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if done == self.outgoing.len() {
            self.outgoing = Vec::new();
        } else {
            self.outgoing.drain(..done);
        }
        Ok(())
    }
}
