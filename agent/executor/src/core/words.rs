//! The words in which an end is reported. Rule: the messages of Mesos' command executor, which tools look for.

use super::How;

/// The names of the signals by number from 1, as strsignal(3) has them in English.
const SIGNALS: [&str; 31] = [
    "Hangup",
    "Interrupt",
    "Quit",
    "Illegal instruction",
    "Trace/breakpoint trap",
    "Aborted",
    "Bus error",
    "Floating point exception",
    "Killed",
    "User defined signal 1",
    "Segmentation fault",
    "User defined signal 2",
    "Broken pipe",
    "Alarm clock",
    "Terminated",
    "Stack fault",
    "Child exited",
    "Continued",
    "Stopped (signal)",
    "Stopped",
    "Stopped (tty input)",
    "Stopped (tty output)",
    "Urgent I/O condition",
    "CPU time limit exceeded",
    "File size limit exceeded",
    "Virtual timer expired",
    "Profiling timer expired",
    "Window changed",
    "I/O possible",
    "Power failure",
    "Bad system call",
];

/// How a command ended.
pub fn ended(how: How) -> String {
    match how {
        How::Exited(status) => format!("Command exited with status {status}"),
        How::Signaled(number) => {
            let name = usize::try_from(number - 1).ok();
            match name.and_then(|index| SIGNALS.get(index)) {
                Some(name) => format!("Command terminated with signal {name}"),
                None => format!("Command terminated with signal {number}"),
            }
        }
    }
}

/// That a container's memory limit was broken.
pub fn out_of_memory(limit_bytes: Option<u64>, peak_bytes: Option<u64>) -> String {
    let amount = |bytes: Option<u64>| match bytes {
        Some(bytes) => format!("{}MB", bytes >> 20),
        None => "unknown".to_owned(),
    };
    let (limit, peak) = (amount(limit_bytes), amount(peak_bytes));
    format!("Memory limit exceeded: Requested: {limit} Maximum Used: {peak}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_known_words() {
        for (how, words) in [
            (How::Exited(3), "Command exited with status 3"),
            (How::Signaled(9), "Command terminated with signal Killed"),
            (
                How::Signaled(15),
                "Command terminated with signal Terminated",
            ),
            (
                How::Signaled(11),
                "Command terminated with signal Segmentation fault",
            ),
            (
                How::Signaled(31),
                "Command terminated with signal Bad system call",
            ),
            (How::Signaled(40), "Command terminated with signal 40"),
            (How::Signaled(0), "Command terminated with signal 0"),
        ] {
            assert_eq!(ended(how), words);
        }
        assert_eq!(
            out_of_memory(Some(64 << 20), Some(64 << 20)),
            "Memory limit exceeded: Requested: 64MB Maximum Used: 64MB"
        );
        assert!(out_of_memory(None, None).contains("unknown"));
    }
}
