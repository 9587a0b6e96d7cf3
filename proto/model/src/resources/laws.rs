//! The laws of the algebra, for any bags.

use std::sync::Arc;

use mezzo_wire::v1;
use proptest::prelude::*;

use super::*;

fn reservation() -> impl Strategy<Value = Vec<Reservation>> {
    let level = |role: &'static str, kind| Reservation {
        kind,
        role: Role::parse(role).expect("a role"),
        principal: None,
        labels: None,
    };
    prop_oneof![
        4 => Just(Vec::new()),
        1 => Just(vec![level("a", ReservationKind::Static)]),
        1 => Just(vec![level("a", ReservationKind::Dynamic)]),
        1 => Just(vec![level("a", ReservationKind::Static), level("a/b", ReservationKind::Dynamic)]),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => (1_i64..5000).prop_map(|amount| Value::Scalar(Milli(amount))),
        1 => proptest::collection::vec((0_u64..40, 0_u64..6), 1..4).prop_map(|list| {
            let mut ranges = Ranges::new();
            for (begin, more) in list {
                ranges.add(&Ranges::single(begin, begin + more));
            }
            Value::Ranges(ranges)
        }),
        1 => proptest::collection::btree_set("[a-e]", 1..4)
            .prop_map(|words| Value::Set(words.into_iter().map(Arc::from).collect())),
    ]
}

/// A volume named so that the same volume appears in both bags now and then.
fn volume() -> impl Strategy<Value = Option<(u8, bool)>> {
    prop_oneof![3 => Just(None), 1 => (0_u8..3, any::<bool>()).prop_map(Some)]
}

fn resource() -> impl Strategy<Value = Resource> {
    (value(), reservation(), volume(), any::<bool>(), 0_u8..3).prop_map(
        |(value, reservations, volume, revocable, role)| {
            let name = match &value {
                Value::Scalar(_) if volume.is_some() => "disk",
                Value::Scalar(amount) if amount.0 % 2 == 0 => "cpus",
                Value::Scalar(_) => "mem",
                Value::Ranges(_) => "ports",
                Value::Set(_) => "words",
            };
            let mut resource = Resource::new(name, value);
            if let (Some((id, shared)), "disk") = (volume, name) {
                let persistence = v1::resource::disk_info::Persistence {
                    id: format!("v{id}"),
                    principal: None,
                };
                let disk = v1::resource::DiskInfo {
                    persistence: Some(persistence),
                    ..Default::default()
                };
                resource.disk = Some(Arc::new(disk));
                // Few sizes, so that volumes are the same now and then.
                resource.value = Value::Scalar(Milli(1000 * (1 + i64::from(id))));
                resource.shared = shared.then_some(1);
            }
            resource.reservations = reservations;
            resource.revocable = revocable && resource.disk.is_none();
            resource.allocation = (role == 1).then(|| Role::parse("a").expect("a role"));
            resource
        },
    )
}

fn bag() -> impl Strategy<Value = Resources> {
    proptest::collection::vec(resource(), 0..6).prop_map(Resources::from_iter)
}

/// Two bags that share no number, word or volume: only then is a union the same as a sum.
fn disjoint(left: &Resources, right: &Resources) -> bool {
    left.iter().all(|one| {
        right
            .iter()
            .filter(|other| one.same_kind(other))
            .all(|other| match (&one.value, &other.value) {
                (Value::Ranges(a), Value::Ranges(b)) => !a.overlaps(b),
                (Value::Set(a), Value::Set(b)) => a.is_disjoint(b),
                _ => true,
            })
    })
}

fn sound(bag: &Resources) -> bool {
    let positive = bag.iter().all(|item| !item.is_empty());
    let coalesced = bag.iter().enumerate().all(|(index, item)| {
        bag.iter()
            .skip(index + 1)
            .all(|other| !item.merges_with(other))
    });
    positive && coalesced
}

proptest! {
    #[test]
    fn what_was_added_can_be_taken_out_again(a in bag(), b in bag()) {
        prop_assume!(disjoint(&a, &b));
        let sum = &a + &b;
        prop_assert!(sum.contains(&a) && sum.contains(&b));
        prop_assert_eq!(sum.checked_sub(&b), Some(a));
    }

    #[test]
    fn what_is_contained_can_be_put_back(a in bag(), b in bag()) {
        if let Some(rest) = a.checked_sub(&b) {
            prop_assert!(sound(&rest));
            prop_assert_eq!(&rest + &b, a);
        } else {
            prop_assert!(!a.contains(&b));
        }
    }

    #[test]
    fn addition_does_not_mind_order(a in bag(), b in bag(), c in bag()) {
        prop_assert_eq!(&a + &b, &b + &a);
        prop_assert_eq!(&(&a + &b) + &c, &a + &(&b + &c));
        prop_assert!(sound(&(&a + &b)));
    }

    #[test]
    fn containment_is_a_partial_order(a in bag(), b in bag(), c in bag()) {
        prop_assert!(a.contains(&a));
        prop_assert!(a.contains(&Resources::new()));
        if a.contains(&b) && b.contains(&a) {
            prop_assert_eq!(&a, &b);
        }
        // Sums make the premise likely.
        let (ab, abc) = (&a + &b, &(&a + &b) + &c);
        prop_assert!(ab.contains(&a) && abc.contains(&ab) && abc.contains(&a));
        if a.contains(&b) && b.contains(&c) {
            prop_assert!(a.contains(&c));
        }
    }

    #[test]
    fn removal_never_goes_below_nothing(a in bag(), b in bag()) {
        let mut rest = a.clone();
        rest.remove(&b);
        prop_assert!(sound(&rest));
        prop_assert!(a.contains(&rest));
        for (name, amount) in rest.quantities().iter() {
            prop_assert!(amount > Milli::ZERO && amount <= a.quantities().get(name));
        }
    }

    #[test]
    fn messages_carry_everything(a in bag()) {
        prop_assert_eq!(Resources::from_wire(&a.to_wire()), Ok(a.clone()));
        let single = a.filter(|item| item.reservations.len() < 2);
        prop_assert_eq!(Resources::from_wire(&single.to_wire_as(WireFormat::Old)), Ok(single.clone()));
        prop_assert_eq!(Resources::from_wire(&a.to_wire_as(WireFormat::Both)), Ok(a));
    }

    #[test]
    fn allocation_and_reservation_are_undone(a in bag()) {
        let role = Role::parse("z").expect("a role");
        let free = a.unallocated();
        prop_assert_eq!(free.allocated_to(&role).unallocated(), free.clone());
        let reservation = Reservation {
            kind: ReservationKind::Dynamic, role, principal: None, labels: None,
        };
        prop_assert_eq!(free.push_reservation(&reservation).pop_reservation(), free);
    }

    #[test]
    fn ranges_are_sets_of_numbers(
        left in proptest::collection::vec((0_u64..60, 0_u64..8), 0..6),
        right in proptest::collection::vec((0_u64..60, 0_u64..8), 0..6),
    ) {
        let build = |list: &[(u64, u64)]| {
            let mut ranges = Ranges::new();
            for (begin, more) in list {
                ranges.add(&Ranges::single(*begin, begin + more));
            }
            ranges
        };
        let (a, b) = (build(&left), build(&right));
        let (in_a, in_b): (BTreeSet<u64>, BTreeSet<u64>) = (a.numbers().collect(), b.numbers().collect());
        let mut sum = a.clone();
        sum.add(&b);
        prop_assert_eq!(sum.numbers().collect::<BTreeSet<_>>(), &in_a | &in_b);
        let mut rest = a.clone();
        rest.remove(&b);
        prop_assert_eq!(rest.numbers().collect::<BTreeSet<_>>(), &in_a - &in_b);
        prop_assert_eq!(a.contains(&b), in_a.is_superset(&in_b));
        prop_assert_eq!(a.overlaps(&b), !in_a.is_disjoint(&in_b));
        prop_assert_eq!(a.count(), in_a.len() as u64);
        prop_assert!((0..70).all(|number| a.has(number) == in_a.contains(&number)));
        prop_assert!(sum.intervals().windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
    }
}

use std::collections::BTreeSet;
