//! The disk of an agent: what was written survives the process, what was flushed survives the machine.

use mezzo_agent::core::{Ledger, Record};
use mezzo_model::rng::Rng;

#[derive(Clone, Debug)]
struct Write {
    id: u64,
    records: Vec<Record>,
}

/// A log on a disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// What the next life begins with.
    base: Ledger,
    /// What this life wrote, in order.
    writes: Vec<Write>,
    /// Everything up to this write was answered as written.
    written: Option<u64>,
    /// Everything up to this write is on the platter.
    flushed: Option<u64>,
}

impl Disk {
    /// Takes a write under way.
    pub fn append(&mut self, id: u64, records: Vec<Record>) {
        self.writes.push(Write { id, records });
    }

    /// A write is in the hands of the kernel.
    pub fn wrote(&mut self, id: u64) {
        self.written = self.written.max(Some(id));
    }

    /// Everything up to this write is on the platter.
    pub fn flushed(&mut self, id: u64) {
        self.wrote(id);
        self.flushed = self.flushed.max(Some(id));
    }

    /// The process died: of what was under way, some first part was written.
    pub fn process_died(&mut self, rng: &mut Rng, lose_written: bool) {
        let safe = if lose_written {
            self.flushed
        } else {
            self.written
        };
        self.keep(rng, safe);
    }

    /// The machine died: of what was not flushed, some first part survived.
    pub fn machine_died(&mut self, rng: &mut Rng) {
        self.keep(rng, self.flushed);
    }

    fn keep(&mut self, rng: &mut Rng, safe: Option<u64>) {
        let safe = self
            .writes
            .iter()
            .filter(|write| Some(write.id) <= safe)
            .count();
        let open = self.writes.len() - safe;
        let more = usize::try_from(rng.below(open as u64 + 1)).unwrap_or(0);
        self.writes.truncate(safe + more);
        // Of the last write under way, a torn tail may have lost the last records.
        if more > 0
            && let Some(last) = self.writes.last_mut()
        {
            let kept = usize::try_from(rng.below(last.records.len() as u64 + 1)).unwrap_or(0);
            last.records.truncate(kept);
        }
    }

    /// What a new life reads; the log begins anew from it.
    pub fn read(&mut self) -> Ledger {
        for write in std::mem::take(&mut self.writes) {
            for record in &write.records {
                self.base.apply(record);
            }
        }
        self.written = None;
        self.flushed = None;
        self.base.clone()
    }
}
