//! The agent for real: its own log, sockets and containers, real executors and payloads, and a master's end of the
//! link.

mod real {
    mod bad_input;
    mod bad_orders;
    mod bed;
    mod master;
    mod oci;
    mod process;
    mod restarts;
}
