//! What a program does to itself before it reads a PIN.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Turns core dumps off for the rest of the process's life, and with them the reading of its memory
/// by other processes of the same user.
///
/// The limit alone is not enough: the kernel ignores it where dumps are piped to a collector.
///
/// # Errors
/// The kernel refused.
pub fn forbid_core_dumps() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
