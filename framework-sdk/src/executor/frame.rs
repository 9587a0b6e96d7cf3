//! Frames of the executor socket: four bytes of length, big-endian, then that many bytes of one protobuf message.
//!
//! Invariant: no I/O here; a peer cannot make the reader keep more than one frame of [`FRAME_BYTES_MAX`].

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

/// Longest message in bytes, either way: a `TaskInfo` with its data fits well.
pub const FRAME_BYTES_MAX: usize = 8 << 20;

const HEADER_BYTES: usize = 4;

/// A frame that is longer than [`FRAME_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {bytes} bytes; at most {FRAME_BYTES_MAX} are taken")]
pub struct FrameTooLong {
    /// Its length.
    pub bytes: usize,
}

/// Appends one message as a frame.
pub fn encode<M: Message>(message: &M, out: &mut Vec<u8>) -> Result<(), FrameTooLong> {
    let bytes = message.encoded_len();
    let header = u32::try_from(bytes).map_err(|_| FrameTooLong { bytes })?;
    if bytes > FRAME_BYTES_MAX {
        return Err(FrameTooLong { bytes });
    }
    out.reserve(HEADER_BYTES + bytes);
    out.extend_from_slice(&header.to_be_bytes());
    message.encode(out).map_err(|_| FrameTooLong { bytes })
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, without its header; `None` until more bytes come. An error is final: the stream is lost.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameTooLong> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_be_bytes(*header) as usize;
        if bytes > FRAME_BYTES_MAX {
            return Err(FrameTooLong { bytes });
        }
        if self.buffer.len() < HEADER_BYTES + bytes {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let frame = self.buffer.split_to(bytes).freeze();
        if self.buffer.is_empty() {
            // An executor lives long and hears little: it keeps no buffer of its largest message.
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mezzo_wire::v1::TaskId;

    #[test]
    fn frames_survive_any_cut() {
        let ids: Vec<TaskId> = ["", "a", &"x".repeat(300)]
            .iter()
            .map(|&v| TaskId { value: v.into() })
            .collect();
        let mut stream = Vec::new();
        for id in &ids {
            encode(id, &mut stream).unwrap();
        }
        for size in 1..=stream.len() {
            let mut reader = FrameReader::default();
            let mut found = Vec::new();
            for piece in stream.chunks(size) {
                reader.push(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    found.push(TaskId::decode(frame).unwrap());
                }
            }
            assert_eq!(found, ids, "pieces of {size}");
        }
    }

    #[test]
    fn a_frame_without_end_is_refused_before_it_is_read() {
        let mut reader = FrameReader::default();
        reader.push(&u32::MAX.to_be_bytes());
        let refused = reader.next_frame().unwrap_err();
        assert_eq!(refused.bytes, u32::MAX as usize);
        let long = TaskId {
            value: "x".repeat(FRAME_BYTES_MAX + 1),
        };
        assert!(encode(&long, &mut Vec::new()).is_err());
    }
}
