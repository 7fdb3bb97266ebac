//! The harness of the whole-system tests and of the demonstration: makes a site of tokens, keys,
//! certificates and configurations, and runs the real programs on it.
//!
//! ```text
//! programs        where the programs are
//! process         running them: to their end, or in the background
//! place           places with tokens
//! master_key      keys as they come into a ceremony
//! site            all places of a bank in one folder, and its ceremonies
//! host            kdh-host of a site
//! operator        kdhctl of a site
//! own_keys        keys of terminals' own, and storage keys
//! terminal        krd of a site
//! fixture         a site for each test
//! faults          an HSM that fails at a test's command, from the crate hsm-modules
//! openssl         the independent reader
//! readers         other ones: Bouncy Castle, and Python's asn1crypto
//! upstream        another host that sends keys
//! hostile         a terminal with its keys in memory, which sends whatever it likes
//! spy             what crossed between a program and its PKCS#11 module
//! boundary        that no key was in it
//! ```
//!
//! Which HSM modules there are, and what each can do, is in the table of the crate `hsm-modules`. Tests
//! of more than one are written as functions of a module, and named in [`on_every_module`].
//!
//! Nothing of the product depends on this crate.

pub mod boundary;
pub mod fixture;
pub mod host;
pub mod hostile;
pub mod master_key;
pub mod openssl;
pub mod operator;
pub mod own_keys;
pub mod place;
pub mod process;
pub mod programs;
pub mod readers;
pub mod secret_file;
pub mod site;
pub mod spy;
pub mod targets;
pub mod terminal;
pub mod upstream;

pub use hsm_modules::faults;

/// Makes a test for each module out of functions of a module, named `module::function`.
#[macro_export]
macro_rules! on_every_module {
    ($($test:ident),+ $(,)?) => {
        mod softhsm {
            $(#[test] fn $test() { super::$test(&hsm_modules::SOFTHSM); })+
        }
        mod kryoptic {
            $(#[test] fn $test() { super::$test(&hsm_modules::KRYOPTIC); })+
        }
        mod nss {
            $(#[test] fn $test() { super::$test(&hsm_modules::NSS); })+
        }
    };
}
