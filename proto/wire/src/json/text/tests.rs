//! Where reading stops and why, and that it always does.

use super::*;
use proptest::prelude::*;

fn refusal(text: &str) -> String {
    parse(text.as_bytes(), 1 << 20).expect_err(text).to_string()
}

#[test]
fn stops_where_mesos_stops() {
    for (text, line, near) in [
        ("{not json", 1, "not json"),
        ("", 1, ""),
        ("   ", 1, ""),
        ("nul", 1, ""),
        ("nulx y", 1, "x y"),
        ("[1,\n 2,\n x]\nrest", 3, "x]"),
        ("{\"a\" 1}", 1, "1}"),
        ("{\"a\":}", 1, "}"),
        ("[1 2]", 1, "2]"),
        ("\"a\\q\" z", 1, "\" z"),
        ("\"a\nb\"", 1, ""),
        ("\"\\u12x4\"", 1, "x4\""),
        ("\"\\udc00\" z", 1, "\" z"),
        ("\"\\ud800 z", 1, " z"),
        ("1.2.3,", 1, ","),
        ("-", 1, ""),
        ("[\n", 1, ""),
        ("]", 1, "]"),
        ("'a'", 1, "'a'"),
    ] {
        assert_eq!(
            refusal(text),
            format!("syntax error at line {line} near: {near}")
        );
    }
    assert_eq!(
        refusal("{} xyz \n"),
        "Parsed JSON included non-whitespace trailing characters:  xyz"
    );
    assert_eq!(refusal("1e999"), "Value out of range");
}

#[test]
fn takes_what_mesos_takes() {
    let value = |text: &'static str| parse(text.as_bytes(), 1 << 20).expect(text);
    assert_eq!(value("01"), Value::Integer(1));
    assert_eq!(value("1."), Value::Double(1.0));
    assert_eq!(value("-0"), Value::Integer(0));
    assert_eq!(value(" -.5e1\n"), Value::Double(-5.0));
    assert_eq!(
        value("18446744073709551615"),
        Value::Integer(u64::MAX.into())
    );
    assert_eq!(
        value("18446744073709551616"),
        Value::Double(18446744073709551616.0)
    );
    assert_eq!(
        value(r#""\u00e9\ud83d\ude00\/\n""#),
        Value::String("é😀/\n".into())
    );
}

#[test]
fn is_bounded() {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(parse(deep(200).as_bytes(), 1 << 20).is_ok());
    assert_eq!(
        refusal(&deep(201)),
        format!("syntax error at line 1 near: {}", "]".repeat(201))
    );
    let endless = "[".repeat(1 << 19);
    assert!(matches!(
        parse(endless.as_bytes(), 1 << 20),
        Err(ParseError::Syntax { .. })
    ));
    let many = format!("[{}1]", "1,".repeat(VALUES_MAX));
    assert_eq!(
        parse(many.as_bytes(), 1 << 30),
        Err(ParseError::TooMany { limit: VALUES_MAX })
    );
    assert_eq!(
        parse(b"[]", 1),
        Err(ParseError::TooLarge { len: 2, limit: 1 })
    );
    let long = format!("{{{}", "x".repeat(100_000));
    assert!(refusal(&long).len() < 2048);
    assert_eq!(parse(b"\"\xff\"", 9), Err(ParseError::NotUtf8 { at: 1 }));
}

proptest! {
    #[test]
    fn any_text_ends(text in "[\\[\\]{}:,\"\\\\0-9eE.+a-fnulrts \n-]{0,80}") {
        let ours = parse(text.as_bytes(), 1 << 20);
        // What the standard takes, we take.
        if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
            prop_assert!(ours.is_ok(), "{:?}", ours);
        }
    }

    #[test]
    fn any_bytes_end(bytes: Vec<u8>) {
        let _ = parse(&bytes, 1 << 20);
    }
}
