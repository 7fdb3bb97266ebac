//! Tests of the whole system, with the real programs. They are one program, so that it is linked once, what the
//! ceremonies leave is made once for each module and topology, and no core is idle at the end of each part.

mod bad_input_grpc;
#[path = "bindings/main.rs"]
mod bindings;
#[path = "boundary/main.rs"]
mod boundary;
#[path = "conformance/main.rs"]
mod conformance;
mod demo;
mod dependencies;
mod end_to_end;
mod exports;
#[path = "faults/main.rs"]
mod faults;
mod imports;
mod independent_reader;
#[path = "kill/main.rs"]
mod kill;
#[path = "other_readers/main.rs"]
mod other_readers;
