//! Placeholder root, replaced as the room is built.
