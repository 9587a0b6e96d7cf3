//! The executor as a real process with real payloads, against an agent's end of its socket.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod real {
    mod bed;
    mod checks;
    mod custom;
    mod ending;
    mod memory;
    mod oci;
    mod output;
    mod reconnecting;
    mod running;
}
