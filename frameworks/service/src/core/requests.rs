//! Calls of people and tools: reads are answered at once, changes once they are durable.

use super::Core;
use super::io::Output;
use super::request::{Answer, ApiCall, Refusal};

mod apps;
mod deploy;
mod queue;
mod service_ports;
mod tasks;
mod views;

/// Units that may wait for the store before changes are refused.
const MAX_BACKLOG: usize = 2048;

impl Core {
    /// Somebody asks for something.
    pub(super) fn on_api(&mut self, request: u64, call: ApiCall, out: &mut Vec<Output>) {
        let changes = changes(&call);
        let answer = if changes && self.journal.backlog() > MAX_BACKLOG {
            Err(Refusal::StoreBehind)
        } else {
            self.answer(call, out)
        };
        let waits = changes && answer.is_ok();
        let reply = Output::Reply {
            request,
            answer: Box::new(answer),
        };
        if waits {
            self.after(reply, out);
            // What follows from the change (instances that end) may be written after it.
            self.journal.seal();
        } else {
            out.push(reply);
        }
    }

    fn answer(&mut self, call: ApiCall, out: &mut Vec<Output>) -> Result<Answer, Refusal> {
        match call {
            ApiCall::ListApps {
                filter,
                tasks,
                last_failure,
            } => Ok(Answer::Apps(self.list_apps(&filter, tasks, last_failure))),
            ApiCall::CreateApp { update, force } => self.create_app(&update, force, out),
            ApiCall::PutApps {
                updates,
                partial,
                create,
                force,
            } => self.put_apps(&updates, partial, create, force, out),
            ApiCall::GetApp(id) => self.get_app(&id),
            ApiCall::GetAppsBelow(path) => self.apps_below(&path),
            ApiCall::PutApp {
                id,
                update,
                partial,
                create,
                force,
            } => self.put_app(id, &update, partial, create, force, out),
            ApiCall::DeleteApp { id, force } => self.delete_app(id, force, out),
            ApiCall::RestartApp { id, force } => self.restart_app(&id, force, out),
            ApiCall::AppTasks(id) => self.app_tasks(&id),
            ApiCall::KillAppTasks { id, host, options } => {
                self.kill_app_tasks(&id, host.as_deref(), options, out)
            }
            ApiCall::KillAppTask { id, task, options } => {
                self.kill_app_task(&id, &task, options, out)
            }
            ApiCall::Tasks { running, staging } => Ok(self.all_tasks(running, staging)),
            ApiCall::KillTasks { ids, options } => self.kill_tasks(&ids, options, out),
            ApiCall::Versions(id) => self.versions(&id),
            ApiCall::AppVersion { id, version } => self.version(&id, version),
            ApiCall::Deployments => Ok(self.list_deployments()),
            ApiCall::DeleteDeployment { id, force } => self.delete_deployment(&id, force, out),
            ApiCall::Queue { last_unused_offers } => Ok(self.queue(last_unused_offers)),
            ApiCall::ResetDelay(id) => self.reset_delay(&id),
            ApiCall::Info => Ok(Answer::Info(self.framework_id.clone())),
        }
    }
}

/// Whether a call asks for a change.
fn changes(call: &ApiCall) -> bool {
    match call {
        ApiCall::ListApps { .. }
        | ApiCall::GetApp(_)
        | ApiCall::GetAppsBelow(_)
        | ApiCall::AppTasks(_)
        | ApiCall::Tasks { .. }
        | ApiCall::Versions(_)
        | ApiCall::AppVersion { .. }
        | ApiCall::Deployments
        | ApiCall::Queue { .. }
        | ApiCall::Info => false,
        ApiCall::CreateApp { .. }
        | ApiCall::PutApps { .. }
        | ApiCall::PutApp { .. }
        | ApiCall::DeleteApp { .. }
        | ApiCall::RestartApp { .. }
        | ApiCall::KillAppTasks { .. }
        | ApiCall::KillAppTask { .. }
        | ApiCall::KillTasks { .. }
        | ApiCall::DeleteDeployment { .. }
        | ApiCall::ResetDelay(_) => true,
    }
}
