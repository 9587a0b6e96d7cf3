//! The executor alone, as the program that the agent's tests start for their containers. In `mezzo` the same call
//! stands at the top of `main`.

fn main() {
    mezzo_executor::enter_if_asked();
    eprintln!(
        "this program is only called by an agent, as `container_executor executor <plan.json>`"
    );
    std::process::exit(2);
}
