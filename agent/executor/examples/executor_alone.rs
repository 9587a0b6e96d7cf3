//! The executor as a program of its own: `executor_alone executor <plan.json>`.
//!
//! It shows all that a program must do to be one: ask before anything else. The tests of this crate start it as an
//! agent
//! starts `mezzo executor`.

fn main() {
    mezzo_executor::enter_if_asked();
    eprintln!("usage: executor_alone executor <plan.json>");
    std::process::exit(2);
}
