//! Bodies: JSON of a bounded size and depth.

use serde_json::{Value, json};

use super::{Request, Response};

/// The largest body, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The deepest nesting of lists and objects.
const MAX_DEPTH: usize = 64;

/// The body as JSON.
pub(super) fn json(request: &Request) -> Result<Value, Response> {
    let is_json = request.content_type.as_deref().is_some_and(|kind| {
        kind.split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        let words = "Unsupported Media Type: send the body as application/json";
        return Err(Response::message(415, words));
    }
    parse(&request.body)
}

/// Bytes as JSON.
///
/// # Errors
/// The response that refuses them: too large, too deep, or no JSON.
pub fn parse(body: &[u8]) -> Result<Value, Response> {
    if body.len() > MAX_BODY_BYTES {
        return Err(too_large());
    }
    let invalid = |details: String| {
        Response::json(
            400,
            json!({ "message": "Invalid JSON", "details": details }),
        )
    };
    if depth(body) > MAX_DEPTH {
        return Err(invalid(format!("nested deeper than {MAX_DEPTH} levels")));
    }
    serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))
}

/// The response to a body that is too large.
pub fn too_large() -> Response {
    Response::message(
        413,
        format!("The body is larger than {MAX_BODY_BYTES} bytes"),
    )
}

/// How deep lists and objects are nested; brackets in strings do not count.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in body {
        match (in_string, *byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => in_string = false,
            (true, _) => {}
            (false, b'"') => in_string = true,
            (false, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            (false, _) => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert_eq!(depth(br#"{"a": ["[[[[", "\"[[", {}]}"#), 3);
        let deep = "[".repeat(100_000);
        let refused = parse(deep.as_bytes()).expect_err("too deep");
        assert_eq!(refused.status, 400);
        assert!(refused.body.unwrap().to_string().contains("deeper than 64"));
        let large = format!("\"{}\"", "x".repeat(MAX_BODY_BYTES));
        assert_eq!(parse(large.as_bytes()).expect_err("too large").status, 413);
    }
}
