//! Numbers as text.
//!
//! A double is written with the fewest digits that read back as the same number, in plain notation
//! from 1e-6 up to 1e21 (`0.000001`, `100000000000000000000.0`) and with an exponent beyond
//! (`1e21`, `1.5e-7`). Invariant: what is written reads back as the same double.

use std::io::Write as _;

/// Writes a double; infinities as the strings that are understood on the way in.
pub(super) fn write_double(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        return out.extend_from_slice(b"\"NaN\"");
    }
    if value.is_infinite() {
        let text: &[u8] = if value > 0.0 {
            b"\"Infinity\""
        } else {
            b"\"-Infinity\""
        };
        return out.extend_from_slice(text);
    }
    // The shortest digits, as `d.ddde[-]x`.
    let mut scratch = [0u8; 40];
    let mut rest = &mut scratch[..];
    // 17 digits, a sign, a point and an exponent fit 40 bytes.
    let _ = write!(rest, "{value:e}");
    let left = rest.len();
    let text = &scratch[..scratch.len() - left];
    let text = match text.strip_prefix(b"-") {
        Some(positive) => {
            out.push(b'-');
            positive
        }
        None => text,
    };
    let at = text.iter().position(|&c| c == b'e').unwrap_or(text.len());
    let mut digits = [0u8; 24];
    let mut count = 0;
    for &digit in text[..at].iter().filter(|c| c.is_ascii_digit()) {
        digits[count] = digit;
        count += 1;
    }
    let exponent = text.get(at + 1..).map_or(0, small_integer);
    lay_out(&digits[..count], exponent + 1, out);
}

/// Writes `0.<digits> * 10^point`.
fn lay_out(digits: &[u8], point: i32, out: &mut Vec<u8>) {
    let count = digits.len() as i32;
    match point {
        1..=21 if count <= point => {
            out.extend_from_slice(digits);
            out.extend(std::iter::repeat_n(b'0', (point - count) as usize));
            out.extend_from_slice(b".0");
        }
        1..=21 => {
            let (whole, fraction) = digits.split_at(point as usize);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        -5..=0 => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
            out.extend_from_slice(digits);
        }
        _ => {
            out.push(digits[0]);
            if count > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            // Writing into a vector cannot fail.
            let _ = write!(out, "e{}", point - 1);
        }
    }
}

fn small_integer(text: &[u8]) -> i32 {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let value = digits
        .iter()
        .fold(0, |sum, &digit| sum * 10 + i32::from(digit - b'0'));
    if negative { -value } else { value }
}

/// Writes a whole number.
pub(super) fn write_integer(value: i128, out: &mut Vec<u8>) {
    // Writing into a vector cannot fail; nearly all numbers take the quick way.
    let _ = match i64::try_from(value) {
        Ok(value) => write!(out, "{value}"),
        Err(_) => write!(out, "{value}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(value: f64) -> String {
        let mut out = Vec::new();
        write_double(value, &mut out);
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn plain_between_a_millionth_and_a_thousand_trillion_millions() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (15.0, "15.0"),
            (64.0, "64.0"),
            (63.9, "63.9"),
            (1795199614.100451, "1795199614.100451"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e20, "100000000000000000000.0"),
            (123456789012345680000.0, "123456789012345680000.0"),
            (1e21, "1e21"),
            (1.5e300, "1.5e300"),
            (0.001, "0.001"),
            (0.000001, "0.000001"),
            (1e-7, "1e-7"),
            (-1.25e-9, "-1.25e-9"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(written(value), text);
        }
    }

    proptest! {
        #[test]
        fn reads_back_the_same(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = written(value);
            prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(bits));
            prop_assert!(text.contains(['.', 'e']));
        }
    }
}
