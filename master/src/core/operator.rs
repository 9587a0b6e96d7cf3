//! Operators' calls that change something. What this version does not serve is refused by name.

use mezzo_wire::v1::master::Call;
use mezzo_wire::v1::master::call::Type;

use super::{Core, Cx, Refusal};

impl Core {
    pub(super) fn on_operator(&mut self, cx: &mut Cx<'_>, call: Call) -> Result<(), Refusal> {
        if !self.recovered {
            return Err(Refusal::new(503, "Master has not finished recovery"));
        }
        let kind = call
            .r#type
            .and_then(|kind| Type::try_from(kind).ok())
            .unwrap_or_default();
        match kind {
            Type::Unknown => Err(Refusal::bad(
                "Failed to validate master::Call: Expecting 'type' to be present",
            )),
            Type::Teardown => {
                let Some(teardown) = call.teardown else {
                    return Err(Refusal::bad(
                        "Failed to validate master::Call: Expecting 'teardown' to be present",
                    ));
                };
                match self.framework_by_id(&teardown.framework_id.value) {
                    Some(key) => {
                        self.remove_framework(cx, key);
                        Ok(())
                    }
                    None => Err(Refusal::bad("No framework found with specified ID")),
                }
            }
            other => Err(Refusal::new(
                501,
                format!(
                    "{} is not supported by this version of the master",
                    other.as_str_name()
                ),
            )),
        }
    }
}
