//! The queue of contenders, as a list of names shows it.

/// The number of a contender's node: what follows the prefix, ten digits or more. `None` for other nodes.
pub fn sequence(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let good = digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit());
    good.then(|| digits.parse().ok()).flatten()
}

/// Who leads: the contender with the lowest number.
pub(super) fn head<'a>(names: &'a [String], prefix: &str) -> Option<&'a str> {
    names
        .iter()
        .filter_map(|name| Some((sequence(name, prefix)?, name.as_str())))
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_leads_whatever_else_is_there() {
        let names: Vec<String> = [
            "log_replicas",
            "mezzo",
            "json.info_0000000012",
            "json.info_0000000007",
            "json.info_3",
            "json.info_-000000001",
            "info_0000000001",
            "json.info_00000000009",
        ]
        .map(String::from)
        .to_vec();
        assert_eq!(head(&names, "json.info_"), Some("json.info_0000000007"));
        assert_eq!(head(&names, "leader_"), None);
        assert_eq!(sequence("json.info_0000000007", "json.info_"), Some(7));
        assert_eq!(
            sequence("json.info_99999999999999999999", "json.info_"),
            None
        );
    }
}
