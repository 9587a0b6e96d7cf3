//! A deployment: the way from one set of definitions to another, in steps.
//!
//! The target definitions are stored with the deployment in one transaction; what a step does is computed from what
//! is there ([`scale`], [`replace`]), never from how far it came. A new leader begins each deployment at its first
//! step and finds the finished ones finished.
//!
//! Invariant: an app is held by at most one deployment. Invariant: a deployment never times out.

use std::collections::BTreeSet;

use super::app::AppSpec;
use super::app_id::AppId;
use super::instance::InstanceId;
use super::version::Version;

pub mod replace;
pub mod scale;

/// What is done to one app in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActionKind {
    /// A marker: the app exists from here on, with no instance.
    Start,
    /// All instances end.
    Stop,
    /// The number of instances becomes the wanted one.
    Scale,
    /// Outdated instances are replaced.
    Restart,
}

impl ActionKind {
    /// The name in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "StartApplication",
            Self::Stop => "StopApplication",
            Self::Scale => "ScaleApplication",
            Self::Restart => "RestartApplication",
        }
    }

    /// The action of a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Start, Self::Stop, Self::Scale, Self::Restart]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// One app's part in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What.
    pub kind: ActionKind,
    /// To whom.
    pub app: AppId,
}

/// How one app's definition changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which app.
    pub app: AppId,
    /// Its definition before; `None`: it did not exist.
    pub from: Option<Version>,
    /// Its definition after; `None`: it is deleted.
    pub to: Option<Version>,
    /// Instances named to end.
    pub sentenced: BTreeSet<InstanceId>,
}

/// One deployment under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// A UUID.
    pub id: String,
    /// When it was made.
    pub version: Version,
    /// What changes.
    pub changes: Vec<Change>,
    /// Actions that happen together, one step after the other.
    pub steps: Vec<Vec<Action>>,
    /// The step that is under way, from 0. Not stored.
    pub step: usize,
}

impl Deployment {
    /// The action on an app in the step under way.
    pub fn action_on(&self, app: &AppId) -> Option<ActionKind> {
        let step = self.steps.get(self.step)?;
        step.iter()
            .find(|action| action.app == *app)
            .map(|action| action.kind)
    }

    /// The change of an app.
    pub fn change_of(&self, app: &AppId) -> Option<&Change> {
        self.changes.iter().find(|change| change.app == *app)
    }

    /// The apps that it holds.
    pub fn apps(&self) -> impl Iterator<Item = &AppId> {
        self.changes.iter().map(|change| &change.app)
    }
}

/// What the planner must know of one change.
#[derive(Clone, Debug)]
pub struct Planned<'a> {
    /// The definition before.
    pub from: Option<&'a AppSpec>,
    /// The definition after.
    pub to: Option<&'a AppSpec>,
    /// Instances of an outdated configuration are there, left over from a deployment that was stopped.
    pub has_outdated: bool,
    /// Somebody is named to end.
    pub has_sentenced: bool,
}

/// The steps from the old definitions to the new: what is deleted stops, what is new is marked, then everything
/// changes at once. A change that changes nothing has no step.
pub fn plan_steps(changes: &[Planned<'_>]) -> Vec<Vec<Action>> {
    let mut steps = [Vec::new(), Vec::new(), Vec::new()];
    for change in changes {
        let action = |kind, spec: &AppSpec| Action {
            kind,
            app: spec.id.clone(),
        };
        match (change.from, change.to) {
            (Some(from), None) => steps[0].push(action(ActionKind::Stop, from)),
            (None, Some(to)) => {
                steps[1].push(action(ActionKind::Start, to));
                steps[2].push(action(ActionKind::Scale, to));
            }
            (Some(from), Some(to)) => {
                if let Some(kind) = kind_of_change(from, to, change) {
                    steps[2].push(action(kind, to));
                }
            }
            (None, None) => {}
        }
    }
    steps.into_iter().filter(|step| !step.is_empty()).collect()
}

fn kind_of_change(from: &AppSpec, to: &AppSpec, change: &Planned<'_>) -> Option<ActionKind> {
    let is_new_config = from.version_info.last_config_change_at
        != to.version_info.last_config_change_at
        || from.config_differs(to);
    if is_new_config || change.has_outdated {
        return Some(if to.instances == 0 {
            ActionKind::Scale
        } else {
            ActionKind::Restart
        });
    }
    let scales = from.instances != to.instances || change.has_sentenced;
    scales.then_some(ActionKind::Scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::app::AppUpdate;

    fn spec(id: &str, instances: u32, config: u64) -> AppSpec {
        let mut spec = AppUpdate::default().apply(None, AppId::parse(id).expect("good"), "*");
        spec.instances = instances;
        spec.version_info.last_config_change_at = Version(config);
        spec
    }

    fn kinds(steps: &[Vec<Action>]) -> Vec<Vec<&'static str>> {
        steps
            .iter()
            .map(|step| step.iter().map(|action| action.kind.as_str()).collect())
            .collect()
    }

    fn planned<'a>(from: Option<&'a AppSpec>, to: Option<&'a AppSpec>) -> Planned<'a> {
        Planned {
            from,
            to,
            has_outdated: false,
            has_sentenced: false,
        }
    }

    #[test]
    fn steps_of_a_mixed_change() {
        let (gone, fresh) = (spec("/gone", 1, 1), spec("/fresh", 2, 5));
        let (old, scaled, changed) = (spec("/b", 1, 1), spec("/b", 3, 1), spec("/c", 2, 6));
        let before = spec("/c", 2, 1);
        let steps = plan_steps(&[
            planned(None, Some(&fresh)),
            planned(Some(&gone), None),
            planned(Some(&old), Some(&scaled)),
            planned(Some(&before), Some(&changed)),
        ]);
        assert_eq!(
            kinds(&steps),
            [
                vec!["StopApplication"],
                vec!["StartApplication"],
                vec!["ScaleApplication", "ScaleApplication", "RestartApplication"]
            ]
        );
    }

    #[test]
    fn nothing_changed_is_no_step_unless_something_is_left_over() {
        let (old, new) = (spec("/a", 2, 1), spec("/a", 2, 1));
        assert!(plan_steps(&[planned(Some(&old), Some(&new))]).is_empty());
        let left = Planned {
            has_outdated: true,
            ..planned(Some(&old), Some(&new))
        };
        assert_eq!(kinds(&plan_steps(&[left])), [["RestartApplication"]]);
        let zero = spec("/a", 0, 9);
        assert_eq!(
            kinds(&plan_steps(&[planned(Some(&old), Some(&zero))])),
            [["ScaleApplication"]]
        );
        for kind in [
            ActionKind::Start,
            ActionKind::Stop,
            ActionKind::Scale,
            ActionKind::Restart,
        ] {
            assert_eq!(ActionKind::parse(kind.as_str()), Some(kind));
        }
    }
}
