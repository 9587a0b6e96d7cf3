//! Values that this crate's own tests start from.

use crate::plan::{
    AgentAddress, CommandLine, Containerizer, ExecutorRole, OutputLimits, PLAN_VERSION, Plan,
    Timing,
};

/// A plan for `sleep 1000` in these directories, with no user, no limits and an agent that is not there.
pub fn plan(sandbox: &str, run_directory: &str) -> Plan {
    Plan {
        version: PLAN_VERSION,
        framework_id: "f1".into(),
        executor_id: "t1".into(),
        container_id: "c1".into(),
        agent_id: "a1".into(),
        role: ExecutorRole::Command,
        containerizer: Containerizer::Process,
        command: CommandLine::Shell("sleep 1000".into()),
        environment: Vec::new(),
        user: None,
        sandbox: sandbox.into(),
        sandbox_inside: None,
        working_directory: None,
        run_directory: run_directory.into(),
        rlimits: Vec::new(),
        output: OutputLimits::default(),
        agent: AgentAddress {
            socket: format!("{run_directory}/agent.sock").into(),
            token: "secret".into(),
            endpoint: "127.0.0.1:5051".into(),
        },
        timing: Timing::default(),
    }
}
