//! The PKCS#11 modules that the tests run on: where each is, how it is told where its tokens are,
//! and what it can do.
//!
//! A module reads its configuration once in a process, and a test must not set a variable for the
//! threads beside it. So [`on`] runs the test's own binary again, for that one test alone, with a
//! folder for its tokens:
//!
//! ```ignore
//! #[test]
//! fn signs() {
//!     hsm_modules::on(&hsm_modules::ALL, |place| { ... });
//! }
//! ```

mod alone;
mod build;
pub mod faults;
pub mod makers;
mod module;
mod place;
mod snapshot;
mod spy;

pub use alone::{begin_as, founded, library, on, on_founded, on_prepared};
pub use build::{build_folder, cargo_build, workspace};
pub use module::{
    ALL, Abilities, KRYOPTIC, KRYOPTIC_BARE, KRYOPTIC_UNFIT, LIMITING, NSS, Peculiarity, SOFTHSM,
    TERMINALS, TestModule, WHOLE,
};
pub use place::Place;
pub use snapshot::Snapshot;
pub use spy::{spy, spy_variables};
