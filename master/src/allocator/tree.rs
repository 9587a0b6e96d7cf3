//! The order in which frameworks are served: dominant-resource fairness over a tree of roles with weights
//! (Ghodsi et al., NSDI 2011).
//!
//! A share is the largest fraction of the cluster that a node holds of any one resource, divided by its weight; who has
//! the lowest share is served first. A role is counted with all roles below it. Where a role has roles below it and
//! frameworks of its own, those frameworks together are one more child, named `role/.`. Ties go to who was served less
//! often, then by name.
//!
//! Invariant: shares are integers (parts per 2^40); a node's books are the sum of its clients' and children's.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use mezzo_model::Role;
use mezzo_model::resources::{Milli, Quantities};

use crate::keys::FrameworkKey;

/// A weight of one, in thousandths.
pub const WEIGHT_ONE: u64 = 1000;

/// The name of a role's own frameworks among the roles below it.
static OWN: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("."));

/// The place of something among its siblings; the lowest is served first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rank<T> {
    share: u64,
    served: u64,
    name: Arc<str>,
    what: T,
}

/// A child of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Child {
    /// The frameworks of the role itself.
    Own,
    /// A role below.
    Role(Role),
}

/// The ranks of a client's roles from the top down, and its own.
type Path<'a> = (Vec<&'a Rank<Child>>, &'a Rank<FrameworkKey>);

#[derive(Clone, Debug)]
struct Client {
    name: Arc<str>,
    active: bool,
    held: Quantities,
    served: u64,
    rank: Rank<FrameworkKey>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// The last component of the role.
    name: Arc<str>,
    /// The role above.
    parent: Option<Role>,
    /// Everything held by the role and below it.
    held: Quantities,
    served: u64,
    /// Held by the role's own frameworks.
    own_held: Quantities,
    own_served: u64,
    children: BTreeSet<Rank<Child>>,
    clients: BTreeMap<FrameworkKey, Client>,
    order: BTreeSet<Rank<FrameworkKey>>,
    /// Active clients here and below.
    active: usize,
    /// As it stands in the parent's `children`.
    rank: Option<Rank<Child>>,
    /// As it stands in its own `children`.
    own_rank: Option<Rank<Child>>,
}

/// The tree of roles.
#[derive(Clone, Debug, Default)]
pub struct RoleTree {
    total: Quantities,
    excluded: BTreeSet<Arc<str>>,
    weights: BTreeMap<Role, u64>,
    nodes: BTreeMap<Role, Node>,
    top: BTreeSet<Rank<Child>>,
    /// The total or a weight changed: every rank is wrong.
    stale: bool,
}

/// The share of `held`, in parts per 2^40, divided by the weight.
fn share(held: &Quantities, total: &Quantities, excluded: &BTreeSet<Arc<str>>, weight: u64) -> u64 {
    let mut dominant: u128 = 0;
    for (name, amount) in held.iter() {
        let whole = total.get(name);
        if whole > Milli::ZERO && !excluded.contains(name) {
            let part =
                (u128::from(amount.0.unsigned_abs()) << 40) / u128::from(whole.0.unsigned_abs());
            dominant = dominant.max(part);
        }
    }
    let weighted = dominant * u128::from(WEIGHT_ONE) / u128::from(weight.max(1));
    u64::try_from(weighted).unwrap_or(u64::MAX)
}

impl RoleTree {
    /// A tree in which the named resources do not count for fairness.
    pub fn new(excluded: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self {
            excluded: excluded.into_iter().collect(),
            ..Self::default()
        }
    }

    /// What the cluster has.
    pub fn set_total(&mut self, total: Quantities) {
        if self.total != total {
            self.total = total;
            self.stale = true;
        }
    }

    /// What the cluster has.
    pub fn total(&self) -> &Quantities {
        &self.total
    }

    /// The weight of a role, in thousandths.
    pub fn set_weight(&mut self, role: Role, weight: u64) {
        self.weights.insert(role, weight.max(1));
        self.stale = true;
    }

    fn weight(&self, role: &Role) -> u64 {
        self.weights.get(role).copied().unwrap_or(WEIGHT_ONE)
    }

    /// Takes a framework into a role; it holds nothing yet. Nothing changes if it is there.
    pub fn add_client(&mut self, key: FrameworkKey, role: &Role, name: &Arc<str>) {
        self.ensure(role);
        if let Some(node) = self.nodes.get_mut(role)
            && !node.clients.contains_key(&key)
        {
            let rank = Rank {
                share: 0,
                served: 0,
                name: name.clone(),
                what: key,
            };
            node.order.insert(rank.clone());
            let client = Client {
                name: name.clone(),
                active: false,
                held: Quantities::new(),
                served: 0,
                rank,
            };
            node.clients.insert(key, client);
        }
        self.rerank(role);
    }

    /// Takes a framework out of a role, with whatever it holds there.
    pub fn remove_client(&mut self, key: FrameworkKey, role: &Role) {
        self.set_active(key, role, false);
        let Some(client) = self
            .nodes
            .get_mut(role)
            .and_then(|node| node.clients.remove(&key))
        else {
            return;
        };
        self.book(role, |node, own| {
            node.held.remove_all(&client.held);
            if own {
                node.own_held.remove_all(&client.held);
            }
        });
        if let Some(node) = self.nodes.get_mut(role) {
            node.order.remove(&client.rank);
        }
        self.rerank(role);
        self.prune(role);
    }

    /// Whether a framework is served in a role.
    pub fn set_active(&mut self, key: FrameworkKey, role: &Role, active: bool) {
        let Some(client) = self
            .nodes
            .get_mut(role)
            .and_then(|node| node.clients.get_mut(&key))
        else {
            return;
        };
        if client.active == active {
            return;
        }
        client.active = active;
        self.book(role, |node, _| {
            node.active = if active {
                node.active + 1
            } else {
                node.active.saturating_sub(1)
            };
        });
    }

    /// Books what a framework was given.
    pub fn give(&mut self, key: FrameworkKey, role: &Role, amount: &Quantities, serve: bool) {
        let served = u64::from(serve);
        if let Some(client) = self
            .nodes
            .get_mut(role)
            .and_then(|node| node.clients.get_mut(&key))
        {
            client.held.add_all(amount);
            client.served = client.served.saturating_add(served);
        }
        self.book(role, |node, own| {
            node.held.add_all(amount);
            node.served = node.served.saturating_add(served);
            if own {
                node.own_held.add_all(amount);
                node.own_served = node.own_served.saturating_add(served);
            }
        });
        self.rerank_client(key, role);
        self.rerank(role);
    }

    /// Books what a framework gave back.
    pub fn take(&mut self, key: FrameworkKey, role: &Role, amount: &Quantities) {
        if let Some(client) = self
            .nodes
            .get_mut(role)
            .and_then(|node| node.clients.get_mut(&key))
        {
            client.held.remove_all(amount);
        }
        self.book(role, |node, own| {
            node.held.remove_all(amount);
            if own {
                node.own_held.remove_all(amount);
            }
        });
        self.rerank_client(key, role);
        self.rerank(role);
    }

    /// Visits the active clients, all or those of a few, who is to be served first first, until `visit` breaks.
    pub fn visit<B>(
        &mut self,
        few: Option<&BTreeSet<(FrameworkKey, Role)>>,
        mut visit: impl FnMut(&Role, FrameworkKey) -> ControlFlow<B>,
    ) -> Option<B> {
        self.refresh();
        match few {
            None => self.visit_children(&self.top, None, &mut visit),
            Some(few) => self.visit_few(few, &mut visit),
        }
        .break_value()
    }

    /// The active clients, who is to be served first first.
    pub fn order(&self) -> Vec<(Role, FrameworkKey)> {
        let mut fresh = self.clone();
        let mut order = Vec::new();
        fresh.visit(None, |role, key| {
            order.push((role.clone(), key));
            ControlFlow::<()>::Continue(())
        });
        order
    }

    fn visit_few<B>(
        &self,
        few: &BTreeSet<(FrameworkKey, Role)>,
        visit: &mut impl FnMut(&Role, FrameworkKey) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut paths: Vec<_> = few
            .iter()
            .filter_map(|(key, role)| Some((self.path(*key, role)?, role, *key)))
            .collect();
        paths.sort_unstable();
        for (_, role, key) in paths {
            visit(role, key)?;
        }
        ControlFlow::Continue(())
    }

    /// The ranks from the top down to an active client. Of two clients the one with the lower path is visited first.
    fn path(&self, key: FrameworkKey, role: &Role) -> Option<Path<'_>> {
        let mut node = self.nodes.get(role)?;
        let client = node.clients.get(&key).filter(|client| client.active)?;
        let mut path = vec![node.own_rank.as_ref()?];
        loop {
            path.push(node.rank.as_ref()?);
            match &node.parent {
                Some(parent) => node = self.nodes.get(parent)?,
                None => break,
            }
        }
        path.reverse();
        Some((path, &client.rank))
    }

    fn visit_children<B>(
        &self,
        children: &BTreeSet<Rank<Child>>,
        parent: Option<(&Role, &Node)>,
        visit: &mut impl FnMut(&Role, FrameworkKey) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for child in children {
            match (&child.what, parent) {
                (Child::Role(role), _) => {
                    if let Some(node) = self.nodes.get(role).filter(|node| node.active > 0) {
                        self.visit_children(&node.children, Some((role, node)), visit)?;
                    }
                }
                (Child::Own, Some((role, node))) => {
                    for rank in &node.order {
                        if node
                            .clients
                            .get(&rank.what)
                            .is_some_and(|client| client.active)
                        {
                            visit(role, rank.what)?;
                        }
                    }
                }
                (Child::Own, None) => {}
            }
        }
        ControlFlow::Continue(())
    }

    /// How many clients are active.
    pub fn active(&self) -> usize {
        self.top
            .iter()
            .filter_map(|rank| match &rank.what {
                Child::Role(role) => self.nodes.get(role).map(|node| node.active),
                Child::Own => None,
            })
            .sum()
    }

    /// What a framework holds in a role.
    pub fn held(&self, key: FrameworkKey, role: &Role) -> Option<&Quantities> {
        self.nodes
            .get(role)?
            .clients
            .get(&key)
            .map(|client| &client.held)
    }

    /// Makes the role and those above it, and places them among their siblings at once, so that a role without
    /// holdings is served too.
    fn ensure(&mut self, role: &Role) {
        if self.nodes.contains_key(role) {
            return;
        }
        let parent = role.parent();
        if let Some(parent) = &parent {
            self.ensure(parent);
        }
        let node = Node {
            name: role.components().last().map(Arc::from).unwrap_or_default(),
            parent,
            ..Node::default()
        };
        self.nodes.insert(role.clone(), node);
        self.place(role);
    }

    /// Removes nodes that nobody is in.
    fn prune(&mut self, role: &Role) {
        let mut at = Some(role.clone());
        while let Some(role) = at {
            let parent = role.parent();
            let empty = self
                .nodes
                .get(&role)
                .is_some_and(|node| node.clients.is_empty() && node.children.is_empty());
            if !empty {
                break;
            }
            if let Some(rank) = self.nodes.remove(&role).and_then(|node| node.rank) {
                match parent.as_ref() {
                    Some(parent) => {
                        if let Some(node) = self.nodes.get_mut(parent) {
                            node.children.remove(&rank);
                        }
                    }
                    None => {
                        self.top.remove(&rank);
                    }
                }
            }
            at = parent;
        }
    }

    /// Changes the books of a role and of every role above it; `own` is true for the role itself.
    fn book(&mut self, role: &Role, mut change: impl FnMut(&mut Node, bool)) {
        let mut at = Some(role.clone());
        let mut own = true;
        while let Some(node) = at.and_then(|role| self.nodes.get_mut(&role)) {
            change(node, own);
            own = false;
            at = node.parent.clone();
        }
    }

    fn rerank_client(&mut self, key: FrameworkKey, role: &Role) {
        let Some(node) = self.nodes.get_mut(role) else {
            return;
        };
        let Some(client) = node.clients.get_mut(&key) else {
            return;
        };
        let rank = Rank {
            share: share(&client.held, &self.total, &self.excluded, WEIGHT_ONE),
            served: client.served,
            name: client.name.clone(),
            what: key,
        };
        if rank != client.rank {
            node.order.remove(&client.rank);
            node.order.insert(rank.clone());
            client.rank = rank;
        }
    }

    /// Puts a role, its own frameworks and every role above it where they belong now.
    fn rerank(&mut self, role: &Role) {
        let mut at = Some(role.clone());
        while let Some(role) = at {
            self.place_own(&role);
            self.place(&role);
            at = self.nodes.get(&role).and_then(|node| node.parent.clone());
        }
    }

    fn place_own(&mut self, role: &Role) {
        let Some(node) = self.nodes.get_mut(role) else {
            return;
        };
        let rank = (!node.clients.is_empty()).then(|| Rank {
            share: share(&node.own_held, &self.total, &self.excluded, WEIGHT_ONE),
            served: node.own_served,
            // Sorts before every role below, as `role/.` does.
            name: OWN.clone(),
            what: Child::Own,
        });
        if rank != node.own_rank {
            if let Some(old) = node.own_rank.take() {
                node.children.remove(&old);
            }
            if let Some(rank) = &rank {
                node.children.insert(rank.clone());
            }
            node.own_rank = rank;
        }
    }

    fn place(&mut self, role: &Role) {
        let weight = self.weight(role);
        let Some(node) = self.nodes.get_mut(role) else {
            return;
        };
        let rank = Rank {
            share: share(&node.held, &self.total, &self.excluded, weight),
            served: node.served,
            name: node.name.clone(),
            what: Child::Role(role.clone()),
        };
        if node.rank.as_ref() == Some(&rank) {
            return;
        }
        let old = node.rank.replace(rank.clone());
        let siblings = match node.parent.clone() {
            Some(parent) => match self.nodes.get_mut(&parent) {
                Some(node) => &mut node.children,
                None => return,
            },
            None => &mut self.top,
        };
        if let Some(old) = old {
            siblings.remove(&old);
        }
        siblings.insert(rank);
    }

    /// Brings every rank up to date after the total or a weight changed.
    fn refresh(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let roles: Vec<Role> = self.nodes.keys().cloned().collect();
        for role in roles {
            let keys: Vec<FrameworkKey> = self
                .nodes
                .get(&role)
                .map(|node| node.clients.keys().copied().collect())
                .unwrap_or_default();
            for key in keys {
                self.rerank_client(key, &role);
            }
            self.place_own(&role);
            self.place(&role);
        }
    }

    /// Walks the books: sums must be right and every rank must be where it is said to be.
    ///
    /// # Errors
    /// Says which book is wrong.
    pub fn check(&self) -> Result<(), String> {
        for (role, node) in &self.nodes {
            let mut own = Quantities::new();
            let mut active = 0;
            for client in node.clients.values() {
                own.add_all(&client.held);
                active += usize::from(client.active);
                if !node.order.contains(&client.rank) {
                    return Err(format!(
                        "role {role}: client {} is not in the order",
                        client.name
                    ));
                }
            }
            if own != node.own_held || node.order.len() != node.clients.len() {
                return Err(format!(
                    "role {role}: own frameworks hold {own}, booked {}",
                    node.own_held
                ));
            }
            let mut held = own;
            for child in &node.children {
                if let Child::Role(below) = &child.what {
                    let Some(below) = self.nodes.get(below) else {
                        return Err(format!("role {role}: child {below} does not exist"));
                    };
                    held.add_all(&below.held);
                    active += below.active;
                }
            }
            if held != node.held || active != node.active {
                return Err(format!("role {role}: holds {held}, booked {}", node.held));
            }
            let siblings = match role.parent() {
                Some(parent) => self.nodes.get(&parent).map(|node| &node.children),
                None => Some(&self.top),
            };
            let placed = siblings
                .zip(node.rank.as_ref())
                .is_some_and(|(all, rank)| all.contains(rank));
            if !placed {
                return Err(format!("role {role} is not among its siblings"));
            }
        }
        Ok(())
    }
}
