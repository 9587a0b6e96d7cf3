//! Files with apps and jobs: one document or an array of them; a document with `run` is a job.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use crate::failure::Failure;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What a document describes.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// An app, for the service framework.
    App(Value),
    /// A job, for the batch framework.
    Job(Value),
}

impl Document {
    /// The id, as written.
    pub fn id(&self) -> &str {
        let (Self::App(document) | Self::Job(document)) = self;
        document["id"].as_str().unwrap_or_default()
    }
}

/// Reads a file; `-` is the standard input.
///
/// # Errors
/// If it cannot be read, is no JSON, or holds something else than apps and jobs.
pub fn read(path: &Path) -> Result<Vec<Document>, Failure> {
    let unreadable = |source| Failure::File {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin()
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
    } else {
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
    }
    if text.len() as u64 > MAX_BYTES {
        let words = format!("is larger than {MAX_BYTES} bytes");
        return Err(Failure::Document {
            path: path.to_owned(),
            words,
        });
    }
    classify(&text).map_err(|words| Failure::Document {
        path: path.to_owned(),
        words,
    })
}

/// Tells apps from jobs.
///
/// # Errors
/// In words, with the place.
pub fn classify(text: &str) -> Result<Vec<Document>, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("is not valid JSON: {error}"))?;
    match value {
        Value::Array(documents) if documents.is_empty() => {
            Err("is an empty array: there is nothing to deploy".to_owned())
        }
        Value::Array(documents) => documents
            .into_iter()
            .enumerate()
            .map(|(index, document)| one(document, &format!("document {} ", index + 1)))
            .collect(),
        document => one(document, "").map(|document| vec![document]),
    }
}

fn one(document: Value, place: &str) -> Result<Document, String> {
    let Some(fields) = document.as_object() else {
        return Err(format!(
            "{place}is neither an app nor a job: it must be an object with an id"
        ));
    };
    if fields.contains_key("groups") || fields.contains_key("apps") {
        return Err(format!(
            "{place}is a group, and groups are not served yet: give its apps one by one"
        ));
    }
    match fields.get("id") {
        Some(Value::String(id)) if !id.is_empty() => {}
        _ => {
            return Err(format!(
                "{place}has no id: an app or a job needs one, such as \"id\": \"/hello\""
            ));
        }
    }
    if fields.contains_key("containers") {
        return Err(format!("{place}is a pod, and pods are not served yet"));
    }
    Ok(if fields.contains_key("run") {
        Document::Job(document)
    } else {
        Document::App(document)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_with_run_is_a_job() {
        let both = classify(r#"[{"id": "/web", "cmd": "x"}, {"id": "sum", "run": {"cmd": "y"}}]"#);
        let both = both.expect("good");
        assert!(
            matches!(both.as_slice(), [Document::App(_), Document::Job(_)]),
            "{both:?}"
        );
        assert_eq!((both[0].id(), both[1].id()), ("/web", "sum"));
        assert_eq!(classify(r#"{"id": "a"}"#).expect("good").len(), 1);
    }

    #[test]
    fn what_is_neither_is_told_with_its_place() {
        for (text, words) in [
            ("", "not valid JSON"),
            ("{\"id\": 1,}", "line 1 column 10"),
            ("[]", "empty array"),
            ("7", "neither an app nor a job"),
            ("[{\"id\": \"a\"}, 7]", "document 2 is neither"),
            ("{}", "has no id"),
            ("{\"id\": \"\"}", "has no id"),
            ("[{\"id\": \"a\"}, {\"run\": {}}]", "document 2 has no id"),
            (
                "{\"id\": \"/\", \"groups\": []}",
                "groups are not served yet",
            ),
            (
                "{\"id\": \"/p\", \"containers\": []}",
                "pods are not served yet",
            ),
        ] {
            let refused = classify(text).expect_err(text);
            assert!(refused.contains(words), "{text}: {refused}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let missing = read(Path::new("/does/not/exist.json"))
            .expect_err("missing")
            .to_string();
        assert!(missing.contains("/does/not/exist.json"), "{missing}");
    }
}
