//! Objects and arrays, written as they are told: compact, in the order given.

use mezzo_wire::{Described, json};

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

/// Appends an object.
pub(super) fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    fill(&mut Object {
        out,
        is_empty: true,
    });
    out.push(b'}');
}

/// Appends an array.
pub(super) fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut each: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(b']');
}

/// Appends a string.
pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    json::write_str_to(value, out);
}

impl Object<'_> {
    fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        text(self.out, name);
        self.out.push(b':');
        self.out
    }

    pub fn text(&mut self, name: &str, value: &str) {
        text(self.key(name), value);
    }

    pub fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    pub fn number(&mut self, name: &str, value: f64) {
        json::write_f64_to(value, self.key(name));
    }

    pub fn whole(&mut self, name: &str, value: i64) {
        self.key(name)
            .extend_from_slice(value.to_string().as_bytes());
    }

    pub fn flag(&mut self, name: &str, value: bool) {
        let value: &[u8] = if value { b"true" } else { b"false" };
        self.key(name).extend_from_slice(value);
    }

    pub fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        object(self.key(name), fill);
    }

    pub fn array<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        each: impl FnMut(&mut Vec<u8>, T),
    ) {
        array(self.key(name), items, each);
    }

    pub fn message<M: Described>(&mut self, name: &str, message: &M) {
        json::write_to(message, self.key(name));
    }

    pub fn message_if<M: Described>(&mut self, name: &str, message: Option<&M>) {
        if let Some(message) = message {
            self.message(name, message);
        }
    }

    pub fn messages<'a, M: Described>(
        &mut self,
        name: &str,
        messages: impl IntoIterator<Item = &'a M>,
    ) {
        json::write_list_to(messages, self.key(name));
    }
}
