//! The order of fairness.

use super::*;

fn role(text: &str) -> Role {
    Role::parse(text).expect("a role")
}

fn amount(cpus: i64, mem: i64) -> Quantities {
    let mut amount = Quantities::new();
    amount.add(&Arc::from("cpus"), Milli::whole(cpus));
    amount.add(&Arc::from("mem"), Milli::whole(mem));
    amount
}

fn tree(clients: &[(u32, &str)]) -> RoleTree {
    let mut tree = RoleTree::default();
    tree.set_total(amount(100, 1000));
    for (key, text) in clients {
        let key = FrameworkKey(*key);
        tree.add_client(key, &role(text), &Arc::from(format!("f{}", key.0)));
        tree.set_active(key, &role(text), true);
    }
    tree.check().expect("sound");
    tree
}

fn order(tree: &mut RoleTree) -> Vec<u32> {
    let mut keys = Vec::new();
    tree.visit(None, |_, key| {
        keys.push(key.0);
        ControlFlow::<()>::Continue(())
    });
    tree.check().expect("sound");
    // Who is sorted by its path comes in the same order.
    let few = tree.order().into_iter().map(|(role, key)| (key, role));
    let few: BTreeSet<(FrameworkKey, Role)> = few.collect();
    let mut sorted = Vec::new();
    tree.visit(Some(&few), |_, key| {
        sorted.push(key.0);
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(keys, sorted);
    keys
}

#[test]
fn the_lowest_dominant_share_is_served_first() {
    let mut tree = tree(&[(1, "*"), (2, "*"), (3, "*")]);
    assert_eq!(
        order(&mut tree),
        [1, 2, 3],
        "by name when nobody holds anything"
    );
    tree.give(FrameworkKey(1), &role("*"), &amount(1, 500), true);
    tree.give(FrameworkKey(2), &role("*"), &amount(30, 1), true);
    assert_eq!(order(&mut tree), [3, 2, 1]);
    tree.take(FrameworkKey(1), &role("*"), &amount(1, 500));
    assert_eq!(
        order(&mut tree),
        [3, 1, 2],
        "served once, so after who never was"
    );
    tree.set_total(amount(1, 1000));
    assert_eq!(order(&mut tree), [3, 1, 2]);
}

#[test]
fn weights_divide_shares() {
    let mut tree = tree(&[(1, "a"), (2, "b")]);
    tree.give(FrameworkKey(1), &role("a"), &amount(20, 0), true);
    tree.give(FrameworkKey(2), &role("b"), &amount(10, 0), true);
    assert_eq!(order(&mut tree), [2, 1]);
    tree.set_weight(role("a"), 3 * WEIGHT_ONE);
    assert_eq!(order(&mut tree), [1, 2]);
}

#[test]
fn a_role_counts_with_all_below_it() {
    let mut tree = tree(&[(1, "a"), (2, "a/x"), (3, "a/y"), (4, "b")]);
    tree.give(FrameworkKey(2), &role("a/x"), &amount(10, 0), true);
    // b holds nothing; in a, the role's own framework and a/y hold nothing.
    assert_eq!(order(&mut tree), [4, 1, 3, 2]);
    tree.give(FrameworkKey(4), &role("b"), &amount(30, 0), true);
    assert_eq!(order(&mut tree), [1, 3, 2, 4]);
    tree.remove_client(FrameworkKey(2), &role("a/x"));
    assert_eq!(order(&mut tree), [1, 3, 4]);
    tree.remove_client(FrameworkKey(1), &role("a"));
    tree.remove_client(FrameworkKey(3), &role("a/y"));
    assert_eq!(tree.nodes.len(), 1, "empty roles are not kept");
}

#[test]
fn who_is_not_active_is_not_visited() {
    let mut tree = tree(&[(1, "a"), (2, "b/c")]);
    assert_eq!(tree.active(), 2);
    tree.set_active(FrameworkKey(1), &role("a"), false);
    tree.set_active(FrameworkKey(1), &role("a"), false);
    assert_eq!(order(&mut tree), [2]);
    tree.set_active(FrameworkKey(2), &role("b/c"), false);
    assert_eq!(order(&mut tree), Vec::<u32>::new());
    assert_eq!(tree.active(), 0);
}
