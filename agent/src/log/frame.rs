//! Frames: how records lie in a file.
//!
//! A file begins with a header of 16 bytes: the magic `MEZZOLOG`, the format's version (u32, little endian), four zero
//! bytes. Then frames follow: the payload's length (u32), the CRC-32C of the rest (u32), how many bytes of this file
//! were known to be flushed when the frame was written (u64), the payload. All integers are little endian.
//!
//! The flushed length tells a torn tail from damage: what a crash tears off was never flushed, so no whole frame can
//! say that it was.

use std::fmt;

/// The version of the files that this build writes; it reads every version up to this one.
pub const LOG_VERSION: u32 = 1;

/// The length of a file's header, in bytes.
pub(super) const HEADER_BYTES: usize = 16;

/// The longest payload of a frame, in bytes. A record is a few kilobytes; a task may carry some megabytes of data.
pub(super) const PAYLOAD_BYTES_MAX: usize = 64 << 20;

const MAGIC: &[u8; 8] = b"MEZZOLOG";
const FRAME_HEADER_BYTES: usize = 16;

/// Why a file is not a log that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is not one of ours, or its header is damaged.
    #[error("it does not begin as a log of an agent does")]
    NotALog,
    /// A newer Mezzo wrote it.
    #[error(
        "it has version {found} and this mezzo reads up to {LOG_VERSION}: start the agent with the mezzo that wrote it, or a newer one"
    )]
    Newer {
        /// Its version.
        found: u32,
    },
    /// Something that was flushed is not there any more.
    #[error("it is damaged at byte {offset}, in a part that had been flushed")]
    Damaged {
        /// Where the first bad frame begins.
        offset: u64,
    },
}

/// What was found in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frames<'a> {
    /// The payloads of the whole frames, in order.
    pub payloads: Vec<&'a [u8]>,
    /// How many bytes at the end are torn off and left out.
    pub torn_bytes: u64,
}

/// The header of a new file.
pub(super) fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&LOG_VERSION.to_le_bytes());
    header
}

/// Appends a frame to a buffer. `flushed` is how many bytes of the file are known to be on the disk.
pub(super) fn push(buffer: &mut Vec<u8>, flushed: u64, write_payload: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&flushed.to_le_bytes());
    write_payload(buffer);
    let length = buffer.len() - start - FRAME_HEADER_BYTES;
    let crc = crc32c(&buffer[start + 8..]);
    // A payload over the limit would be refused when read; nothing that long is ever made (the doors bound it).
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    buffer[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Reads a file. `whole` says that all of it was flushed once, so that nothing may be torn off.
pub(super) fn read(bytes: &[u8], whole: bool) -> Result<Frames<'_>, FrameError> {
    let Some(head) = bytes.get(..HEADER_BYTES) else {
        // A crash may tear a new file anywhere; one that was ever flushed has its header.
        return match bytes {
            _ if whole => Err(FrameError::NotALog),
            _ => Ok(Frames {
                payloads: Vec::new(),
                torn_bytes: bytes.len() as u64,
            }),
        };
    };
    if &head[..8] != MAGIC {
        let never_written = !whole && bytes.iter().all(|byte| *byte == 0);
        if never_written {
            return Ok(Frames {
                payloads: Vec::new(),
                torn_bytes: bytes.len() as u64,
            });
        }
        return Err(FrameError::NotALog);
    }
    let found = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if found > LOG_VERSION {
        return Err(FrameError::Newer { found });
    }
    let mut payloads = Vec::new();
    let mut offset = HEADER_BYTES;
    while offset < bytes.len() {
        let Some(frame) = frame_at(bytes, offset) else {
            let bad = offset as u64;
            if whole || flushed_beyond(bytes, offset) {
                return Err(FrameError::Damaged { offset: bad });
            }
            break;
        };
        payloads.push(frame.payload);
        offset = frame.end;
    }
    Ok(Frames {
        payloads,
        torn_bytes: (bytes.len() - offset.min(bytes.len())) as u64,
    })
}

struct Frame<'a> {
    payload: &'a [u8],
    flushed: u64,
    end: usize,
}

fn frame_at(bytes: &[u8], offset: usize) -> Option<Frame<'_>> {
    let head = bytes.get(offset..offset.checked_add(FRAME_HEADER_BYTES)?)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return None;
    }
    let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let end = offset + FRAME_HEADER_BYTES + length;
    let guarded = bytes.get(offset + 8..end)?;
    if crc32c(guarded) != crc {
        return None;
    }
    let flushed = u64::from_le_bytes(guarded[..8].try_into().ok()?);
    Some(Frame {
        payload: &guarded[8..],
        flushed,
        end,
    })
}

/// Whether a whole frame behind a bad one says that the bad one's place had been flushed.
fn flushed_beyond(bytes: &[u8], bad: usize) -> bool {
    let mut offset = bad + 1;
    while offset < bytes.len() {
        match frame_at(bytes, offset) {
            Some(frame) if frame.flushed > bad as u64 => return true,
            Some(frame) => offset = frame.end,
            None => offset += 1,
        }
    }
    false
}

/// CRC-32C (Castagnoli), as iSCSI and ext4 use it.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        let at = (crc ^ u32::from(*byte)) & 0xff;
        crc = CRC_TABLE[at as usize] ^ (crc >> 8);
    }
    !crc
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                POLYNOMIAL ^ (value >> 1)
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
}

impl fmt::Display for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames, {} bytes torn off",
            self.payloads.len(),
            self.torn_bytes
        )
    }
}
