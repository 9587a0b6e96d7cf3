//! What this machine has, and how agents share it.

use std::path::Path;

use mezzo_model::resources::{Milli, Ranges, Resource, Resources, Value};

use crate::failure::Failure;

/// What the agents share: what was said, and of everything else what there is.
///
/// # Errors
/// If what was said makes no sense.
pub fn total(said: Option<&str>, dir: &Path) -> Result<Resources, Failure> {
    let found = mezzo_agent::detect::detect(dir);
    let total =
        found.and_then(|found| mezzo_agent::detect::complete(said.unwrap_or_default(), &found));
    let refused = |words: String| Failure::Flag {
        flag: "resources",
        words,
    };
    let total = total.map_err(|error| refused(error.to_string()))?;
    for (name, least) in [("cpus", Milli(10)), ("mem", Milli::whole(32))] {
        if total.scalar(name) < least {
            return Err(refused(format!(
                "{name} is less than {least}, the least that a task may ask for"
            )));
        }
    }
    Ok(total)
}

/// The share of each of `n` agents. Together they have everything, to the thousandth and to the port.
pub fn split(total: &Resources, n: u32) -> Vec<Resources> {
    let n = u64::from(n.max(1));
    let mut shares: Vec<Resources> = (0..n).map(|_| Resources::new()).collect();
    for resource in total {
        let parts: Vec<Value> = match &resource.value {
            Value::Scalar(amount) => scalars(*amount, n).map(Value::Scalar).collect(),
            Value::Ranges(ranges) => numbers(ranges, n).into_iter().map(Value::Ranges).collect(),
            // Words cannot be shared: the first agent has them.
            Value::Set(words) => vec![Value::Set(words.clone())],
        };
        for (share, value) in shares.iter_mut().zip(parts) {
            share.insert(Resource {
                value,
                ..resource.clone()
            });
        }
    }
    shares
}

fn scalars(amount: Milli, n: u64) -> impl Iterator<Item = Milli> {
    let amount = u64::try_from(amount.0).unwrap_or(0);
    (0..n).map(move |index| {
        let part = amount / n + u64::from(index < amount % n);
        Milli(i64::try_from(part).unwrap_or(i64::MAX))
    })
}

fn numbers(ranges: &Ranges, n: u64) -> Vec<Ranges> {
    let count = ranges.count();
    let mut all = ranges.numbers();
    (0..n)
        .map(|index| {
            let mut part = Ranges::new();
            for _ in 0..count / n + u64::from(index < count % n) {
                if let Some(number) = all.next() {
                    part.add(&Ranges::single(number, number));
                }
            }
            part
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agents_share_everything() {
        let total = Resources::parse("cpus:2;mem:1001;disk:10;ports:[31000-31009]").expect("good");
        let shares = split(&total, 3);
        let texts: Vec<String> = shares.iter().map(ToString::to_string).collect();
        let expected = [
            "cpus:0.667; mem:333.667; disk:3.334; ports:[31000-31003]",
            "cpus:0.667; mem:333.667; disk:3.333; ports:[31004-31006]",
            "cpus:0.666; mem:333.666; disk:3.333; ports:[31007-31009]",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn this_machine_has_something_and_what_was_said_counts_more() {
        let all = total(None, Path::new("/")).expect("detected");
        assert!(all.scalar("cpus") >= Milli::whole(1) && all.scalar("mem") > Milli::ZERO);
        assert_eq!(all.ranges("ports").count(), 1001);
        let some = total(Some("cpus:0.5;ports:[1-2]"), Path::new("/")).expect("good");
        assert_eq!(
            (some.scalar("cpus"), some.scalar("mem")),
            (Milli(500), all.scalar("mem"))
        );
        assert_eq!(some.ranges("ports").count(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, words) in [
            ("cpus:x", "--resources"),
            ("cpus:0.001", "cpus is less"),
            ("mem:1", "mem is less"),
        ] {
            let refused = total(Some(text), Path::new("/"))
                .expect_err(text)
                .to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_given_twice(cpus in 1_i64..100_000, ports in 1_u64..500, n in 1_u32..20) {
            let mut total = Resources::new();
            total.insert(Resource::scalar("cpus", Milli(cpus)));
            total.insert(Resource::new("ports", Value::Ranges(Ranges::single(1, ports))));
            let shares = split(&total, n);
            prop_assert_eq!(shares.len(), n as usize);
            let sum = shares.iter().fold(Resources::new(), |sum, share| &sum + share);
            prop_assert_eq!(sum, total);
        }
    }
}
